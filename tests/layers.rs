//! The table of `guide::layers`: what usual layers do outside of a `WebSocketLayer`, and inside of it.
//!
//! All of it is served in memory under a stopped clock, where a wait costs no time.

#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    error_handling::HandleErrorLayer,
    extract::Request,
    middleware::{Next, from_fn, map_response},
    response::Response,
    routing::get,
};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use tokio::time::{advance, sleep, timeout};
use tower::{
    Layer, ServiceBuilder,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
};
use tower_http::{
    add_extension::AddExtensionLayer,
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
    decompression::{DecompressionLayer, RequestDecompressionLayer},
    limit::RequestBodyLimitLayer,
    map_response_body::MapResponseBodyLayer,
    metrics::InFlightRequestsLayer,
    normalize_path::NormalizePathLayer,
    propagate_header::PropagateHeaderLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveHeadersLayer,
    set_header::SetResponseHeaderLayer,
    timeout::{ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
    validate_request::ValidateRequestHeaderLayer,
};
use tower_websocket::{
    Accept, BoxError, Config, Echo, Handler, Message, Refusal, WebSocket, WebSocketLayer,
    client::ConnectError,
    decide,
    testing::{self, Client, HttpService, connect},
};

const GUARD: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const TOKEN: HeaderName = HeaderName::from_static("x-token");

/// The outcome of a handshake.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    Served,
    /// Answered 101, and then dropped.
    Dropped,
    Refused(u16),
    /// Answered 101 with a head that is not valid for a handshake.
    Broken,
}

/// Adds a layer.
type Add = fn(Router) -> Router;

/// Asks for a WebSocket, as a page of the same host does.
async fn ask(
    service: impl HttpService,
    path: &str,
    token: Option<&str>,
) -> Result<Client, ConnectError> {
    let mut request = testing::Request::new(path)
        .origin("http://localhost")
        .header(header::ACCEPT_ENCODING, "gzip");
    if let Some(token) = token {
        request = request.header(TOKEN, token);
    }
    connect(service, request).await
}

async fn echoes(client: &mut Client) -> bool {
    let sent = client.send("Hello").await;
    let received = timeout(GUARD, client.recv()).await.unwrap();
    sent.is_ok() && matches!(received, Ok(Some(message)) if message == Message::text("Hello"))
}

async fn outcome(app: &Router, path: &str, token: Option<&str>) -> Outcome {
    match ask(app.clone(), path, token).await {
        Ok(mut client) => match echoes(&mut client).await {
            true => Outcome::Served,
            false => Outcome::Dropped,
        },
        Err(ConnectError::Refused(response)) => Outcome::Refused(response.status().as_u16()),
        Err(_) => Outcome::Broken,
    }
}

fn page() -> Router {
    Router::new().route("/hello", get(|| async { "hello" }))
}

/// The layer under test is layered after the WebSocket, as auth has to be.
fn outside(add: Add, layer: WebSocketLayer) -> Router {
    add(page().route_service("/ws", layer.into_service()))
}

/// The layer under test is layered before the WebSocket.
fn inside(add: Add) -> Router {
    add(page()).layer(WebSocketLayer::new(Echo::new()).path("/ws"))
}

fn has_token(request: &Request) -> bool {
    request
        .headers()
        .get(TOKEN)
        .is_some_and(|token| token == "sesame")
}

async fn auth(request: Request, next: Next) -> Result<Response, StatusCode> {
    match has_token(&request) {
        true => Ok(next.run(request).await),
        false => Err(StatusCode::UNAUTHORIZED),
    }
}

/// Reads the whole body, as ETags, logs of bodies and the rewriting of pages do.
async fn collecting(request: Request, next: Next) -> Response {
    let (head, body) = next.run(request).await.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Response::from_parts(head, Body::from(bytes))
}

async fn busy(_: BoxError) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// Layers that leave handshakes alone.
fn harmless() -> Vec<(&'static str, Add)> {
    vec![
        ("TraceLayer", |app| app.layer(TraceLayer::new_for_http())),
        ("CorsLayer::permissive", |app| {
            app.layer(CorsLayer::permissive())
        }),
        ("CorsLayer with a list", |app| {
            let origin = HeaderValue::from_static("http://other.example");
            app.layer(CorsLayer::new().allow_origin(AllowOrigin::exact(origin)))
        }),
        ("CompressionLayer", |app| app.layer(CompressionLayer::new())),
        ("RequestDecompressionLayer", |app| {
            app.layer(RequestDecompressionLayer::new())
        }),
        ("SetRequestIdLayer", |app| {
            app.layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        }),
        ("PropagateRequestIdLayer", |app| {
            app.layer(PropagateRequestIdLayer::x_request_id())
        }),
        ("SetSensitiveHeadersLayer", |app| {
            app.layer(SetSensitiveHeadersLayer::new([header::COOKIE]))
        }),
        ("PropagateHeaderLayer", |app| {
            app.layer(PropagateHeaderLayer::new(TOKEN))
        }),
        ("SetResponseHeaderLayer", |app| {
            let value = HeaderValue::from_static("1");
            app.layer(SetResponseHeaderLayer::overriding(TOKEN, value))
        }),
        ("AddExtensionLayer", |app| {
            app.layer(AddExtensionLayer::new(7))
        }),
        ("CatchPanicLayer", |app| app.layer(CatchPanicLayer::new())),
        ("RequestBodyLimitLayer", |app| {
            app.layer(RequestBodyLimitLayer::new(1))
        }),
        ("InFlightRequestsLayer", |app| {
            app.layer(InFlightRequestsLayer::pair().0)
        }),
        ("MapResponseBodyLayer", |app| {
            app.layer(MapResponseBodyLayer::new(Body::new))
        }),
        ("buffer", |app| {
            let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(busy));
            app.layer(layers.buffer(8))
        }),
        ("rate_limit", |app| {
            let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(busy));
            app.layer(layers.buffer(8).rate_limit(100, SECOND))
        }),
        ("TimeoutLayer", |app| {
            let status = StatusCode::REQUEST_TIMEOUT;
            app.layer(TimeoutLayer::with_status_code(status, SECOND))
        }),
        ("tower's timeout", |app| {
            let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(busy));
            app.layer(layers.timeout(SECOND))
        }),
        ("concurrency_limit", |app| {
            app.layer(ConcurrencyLimitLayer::new(1))
        }),
        ("GlobalConcurrencyLimitLayer", |app| {
            app.layer(GlobalConcurrencyLimitLayer::new(1))
        }),
        ("load_shed", |app| {
            let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(busy));
            app.layer(layers.load_shed().concurrency_limit(1))
        }),
        ("from_fn that passes on", |app| {
            app.layer(from_fn(async |request: Request, next: Next| {
                next.run(request).await
            }))
        }),
        ("from_fn that collects", |app| {
            app.layer(from_fn(collecting))
        }),
        ("from_fn that collects, twice", |app| {
            app.layer(from_fn(collecting)).layer(from_fn(collecting))
        }),
    ]
}

/// Three connections are open at once, and none is cut, whatever the layer bounds.
#[tokio::test(start_paused = true)]
async fn layers_outside_leave_connections_alone() {
    for (name, add) in harmless() {
        let config = Config::new().without_keepalive();
        let app = outside(add, WebSocketLayer::new(Echo::new()).config(config));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let client = ask(app.clone(), "/ws", Some("sesame")).await;
            clients.push(client.unwrap_or_else(|error| panic!("{name}: {error}")));
        }
        advance(60 * SECOND).await;
        for client in &mut clients {
            assert!(echoes(client).await, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn layers_inside_see_no_handshake() {
    let auths: [(&str, Add); 4] = [
        ("from_fn auth", |app| app.layer(from_fn(auth))),
        ("validate", |app| {
            app.layer(ValidateRequestHeaderLayer::custom(validate))
        }),
        ("collect and wrap", |app| {
            app.layer(from_fn(collecting))
                .layer(DecompressionLayer::new())
        }),
        ("refuse everything", |app| {
            app.layer(map_response(async |_: Response| StatusCode::FORBIDDEN))
        }),
    ];
    for (name, add) in harmless().into_iter().chain(auths) {
        assert_eq!(
            outcome(&inside(add), "/ws", None).await,
            Outcome::Served,
            "{name}"
        );
    }
}

#[expect(
    clippy::result_large_err,
    reason = "tower-http asks for a function of this form"
)]
fn validate(request: &mut http::Request<Body>) -> Result<(), Response> {
    match has_token(request) {
        true => Ok(()),
        false => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            Err(response)
        }
    }
}

/// Auth decides on handshakes exactly where it is layered after the WebSocket.
#[tokio::test(start_paused = true)]
async fn auth_is_not_walked_past_where_it_is_outside() {
    let ws = || WebSocketLayer::new(Echo::new());
    let route = || page().route_service("/ws", ws().into_service());
    let layered = || page().layer(ws().path("/ws"));
    let guarded = |app: Router| app.layer(from_fn(auth));
    for (name, app) in [
        ("route_service, then auth", guarded(route())),
        ("layer, then auth", guarded(layered())),
        (
            "route_service, then route_layer",
            route().route_layer(from_fn(auth)),
        ),
        (
            "route_service, validated",
            route().layer(ValidateRequestHeaderLayer::custom(validate)),
        ),
        ("merged", Router::new().merge(guarded(route()))),
        (
            "auth, then layer in a `ServiceBuilder`",
            page().layer(
                ServiceBuilder::new()
                    .layer(from_fn(auth))
                    .layer(ws().path("/ws")),
            ),
        ),
    ] {
        assert_eq!(
            outcome(&app, "/ws", None).await,
            Outcome::Refused(401),
            "{name}"
        );
        let served = outcome(&app, "/ws", Some("sesame")).await;
        assert_eq!(served, Outcome::Served, "{name}");
    }
    let nested = Router::new().nest("/api", guarded(route()));
    assert_eq!(
        outcome(&nested, "/api/ws", None).await,
        Outcome::Refused(401)
    );
    for (name, app) in [
        ("auth, then layer", guarded(page()).layer(ws().path("/ws"))),
        (
            "merged, then layer",
            Router::new().merge(guarded(page())).layer(ws().path("/ws")),
        ),
        (
            "layer, then auth in a `ServiceBuilder`",
            page().layer(
                ServiceBuilder::new()
                    .layer(ws().path("/ws"))
                    .layer(from_fn(auth)),
            ),
        ),
        (
            "layer, then route_layer",
            layered().route_layer(from_fn(auth)),
        ),
    ] {
        assert_eq!(outcome(&app, "/ws", None).await, Outcome::Served, "{name}");
    }
}

/// Layers that wrap every body look like ones that replace the 101, unless the guard is given up.
#[tokio::test(start_paused = true)]
async fn wrapped_bodies_need_the_guard_given_up() {
    let wrappers: [(&str, Add); 4] = [
        ("DecompressionLayer", |app| {
            app.layer(DecompressionLayer::new())
        }),
        ("ResponseBodyTimeoutLayer", |app| {
            app.layer(ResponseBodyTimeoutLayer::new(SECOND))
        }),
        ("CompressionLayer of everything", |app| {
            let everything = |_: StatusCode, _, _: &http::HeaderMap, _: &http::Extensions| true;
            app.layer(CompressionLayer::new().compress_when(everything))
        }),
        ("Body::from_stream", |app| {
            app.layer(map_response(async |response: Response| {
                response.map(|body| Body::from_stream(body.into_data_stream()))
            }))
        }),
    ];
    for (name, add) in wrappers {
        let guarded = outside(add, WebSocketLayer::new(Echo::new()));
        assert_eq!(
            outcome(&guarded, "/ws", None).await,
            Outcome::Dropped,
            "{name}"
        );
        let open = WebSocketLayer::new(Echo::new()).insecure_run_behind_any_response();
        assert_eq!(
            outcome(&outside(add, open), "/ws", None).await,
            Outcome::Served,
            "{name}"
        );
    }
}

/// Drops what the server has put into the extensions.
async fn forgetting(request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    head.extensions.clear();
    next.run(Request::from_parts(head, body)).await
}

#[tokio::test(start_paused = true)]
async fn layers_that_break_the_handshake() {
    let layers: [(&str, Add, Outcome); 2] = [
        (
            "without the extensions",
            |app| app.layer(from_fn(forgetting)),
            Outcome::Refused(500),
        ),
        (
            "Connection overridden",
            |app| {
                let value = HeaderValue::from_static("keep-alive");
                app.layer(SetResponseHeaderLayer::overriding(
                    header::CONNECTION,
                    value,
                ))
            },
            Outcome::Broken,
        ),
    ];
    for (name, add, expected) in layers {
        let app = outside(add, WebSocketLayer::new(Echo::new()));
        assert_eq!(outcome(&app, "/ws", None).await, expected, "{name}");
    }
}

/// Where a layer of axum's `Router` is reached, and where it is not.
#[tokio::test(start_paused = true)]
async fn places_in_a_router() {
    let ws = || WebSocketLayer::new(Echo::new()).path("/ws");
    let other = || Router::new().route("/other", get(|| async { "other" }));
    for (name, app, expected) in [
        (
            "before a route",
            Router::new().layer(ws()).route("/hello", get(|| async {})),
            Outcome::Served,
        ),
        (
            "before a fallback",
            page()
                .layer(ws())
                .fallback(|| async { StatusCode::NOT_FOUND }),
            Outcome::Refused(404),
        ),
        (
            "route_layer",
            page().route_layer(ws()),
            Outcome::Refused(404),
        ),
        (
            "nested without a route",
            Router::new().nest("/ws", other().layer(ws())),
            Outcome::Refused(404),
        ),
    ] {
        assert_eq!(outcome(&app, "/ws", None).await, expected, "{name}");
    }
    let normalized = NormalizePathLayer::trim_trailing_slash().layer(page().layer(ws()));
    let mut client = ask(normalized, "/ws/", None).await.unwrap();
    assert!(echoes(&mut client).await);
}

/// Takes a minute to accept.
struct Slow;

impl Handler for Slow {
    async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
        sleep(60 * SECOND).await;
        Ok(Accept::new())
    }

    async fn handle(&self, _: WebSocket) -> Result<(), BoxError> {
        panic!("the handler was called");
    }
}

/// Until the 101 a timeout counts, and one handshake at a time is on its way.
#[tokio::test(start_paused = true)]
async fn limits_hold_until_the_101() {
    let slow = || {
        let layer = WebSocketLayer::new(Slow).accept_timeout(GUARD);
        page().route_service("/ws", layer.into_service())
    };
    let limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, SECOND);
    let app = slow().layer(limit);
    assert_eq!(outcome(&app, "/ws", None).await, Outcome::Refused(408));

    let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(busy));
    let app = slow().layer(
        layers
            .load_shed()
            .layer(GlobalConcurrencyLimitLayer::new(1)),
    );
    let first = tokio::spawn({
        let app = app.clone();
        async move { outcome(&app, "/ws", None).await }
    });
    sleep(SECOND).await;
    assert_eq!(outcome(&app, "/ws", None).await, Outcome::Refused(503));
    first.abort();
}

/// Two layers on one path: the outer one answers.
#[tokio::test(start_paused = true)]
async fn of_two_layers_on_one_path_the_outer_one_answers() {
    let named = |name: &'static str| WebSocketLayer::new(Echo::prefixed(name)).path("/ws");
    let app = page().layer(named("inner: ")).layer(named("outer: "));
    let mut client = ask(app, "/ws", None).await.unwrap();
    client.send("Hello").await.unwrap();
    let answer = client.recv().await.unwrap();
    assert_eq!(answer, Some(Message::text("outer: Hello")));
}

/// `ServiceBuilder::option_layer` has two types of body; the switch of the layer has one.
#[tokio::test(start_paused = true)]
async fn a_layer_is_optional_by_its_switch() {
    for (enabled, expected) in [(true, Outcome::Served), (false, Outcome::Refused(404))] {
        let layer = WebSocketLayer::new(Echo::new())
            .path("/ws")
            .enabled(enabled);
        assert_eq!(outcome(&page().layer(layer), "/ws", None).await, expected);
    }
}

/// A session as layers of sessions have it: shared in the extensions, and written when the response leaves.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_changed_in_accept_gets_its_cookie() {
    #[derive(Clone, Default)]
    struct Session(Arc<Mutex<Option<&'static str>>>);

    async fn sessions(mut request: Request, next: Next) -> Response {
        let session = Session::default();
        request.extensions_mut().insert(session.clone());
        let mut response = next.run(request).await;
        if let Some(id) = *session.0.lock().unwrap() {
            let cookie = HeaderValue::from_static(id);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    let handler = decide(
        async |request: &mut Parts| {
            let session = request.extensions.get::<Session>();
            *session.unwrap().0.lock().unwrap() = Some("id=1");
            Ok((Accept::new(), ()))
        },
        async |_: WebSocket, ()| Ok::<_, BoxError>(()),
    );
    let ws = WebSocketLayer::new(handler).into_service();
    let app = page().route_service("/ws", ws).layer(from_fn(sessions));
    let client = connect(app, "/ws").await.unwrap();
    assert_eq!(client.response().headers()[header::SET_COOKIE], "id=1");
}

/// A handler gets the extensions of outer layers.
#[tokio::test(start_paused = true)]
async fn extensions_of_outer_layers_reach_the_handler() {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        let number = socket.request().extensions().get::<i32>().copied();
        socket.send(format!("{number:?}")).await?;
        Ok::<_, tower_websocket::Error>(())
    });
    let app = page().route_service("/ws", layer.into_service());
    let mut client = ask(app.layer(AddExtensionLayer::new(7)), "/ws", None)
        .await
        .unwrap();
    let answer = client.recv().await.unwrap();
    assert_eq!(answer, Some(Message::text("Some(7)")));
}
