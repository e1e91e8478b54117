//! The feature `axum`: the extractor `Upgrade`, extractors in a handler, and a layer in a route.
#![cfg(all(feature = "axum", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use axum::{
    Extension, Router,
    extract::{FromRef, FromRequestParts, Path, Query, State},
    middleware::from_fn,
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt;
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Connections, Echo, Error, Handler, OriginPolicy,
    Refusal, WebSocket, WebSocketLayer,
    axum::{
        FromState, RequestPartsExt, Upgrade, UpgradeRejection, UpgradeSettings, default_settings,
    },
    decide,
    error::HandshakeError,
    testing::{Request, connect},
};

use crate::support::{
    client::{code, text},
    raw::{Head, Reply, exchange, handshake, handshake_head, request},
    tcp::serve,
    within,
};

/// The user, from a field of the request. A request without that field is redirected to a login page.
struct AuthUser(String);

struct LogIn;

impl IntoResponse for LogIn {
    fn into_response(self) -> Response {
        let cookie = [
            (header::SET_COOKIE, "back=/ws"),
            (header::LOCATION, "/login"),
        ];
        (StatusCode::SEE_OTHER, cookie, "log in first").into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AuthUser {
    type Rejection = LogIn;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, LogIn> {
        let name = parts.headers.get("x-user");
        let name = name.and_then(|name| name.to_str().ok());
        name.map(|name| Self(name.to_owned())).ok_or(LogIn)
    }
}

#[derive(Clone)]
struct App {
    name: &'static str,
    sockets: UpgradeSettings,
}

impl App {
    fn new() -> Self {
        Self {
            name: "app",
            sockets: UpgradeSettings::without_handler(),
        }
    }
}

impl FromRef<App> for UpgradeSettings {
    fn from_ref(app: &App) -> Self {
        app.sockets.clone()
    }
}

async fn room(
    upgrade: Upgrade,
    Path(room): Path<String>,
    AuthUser(user): AuthUser,
    State(app): State<App>,
) -> Response {
    upgrade
        .subprotocol("chat.v1")
        .on_upgrade(async move |mut socket| {
            let subprotocol = socket.subprotocol().unwrap_or("none").to_owned();
            socket
                .send(format!("{user} in {room} of {}, {subprotocol}", app.name))
                .await?;
            Ok::<_, Error>(())
        })
}

/// Echoes with a function that returns nothing, as axum's users usually write it.
async fn echo(upgrade: Upgrade) -> Response {
    upgrade.on_upgrade(handle_socket)
}

async fn handle_socket(mut socket: WebSocket) {
    while let Ok(Some(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn assert_echoes(app: Router, request: impl Into<Request>) {
    let mut client = connect(app, request).await.unwrap();
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "Hello");
}

async fn refused(app: Router, head: &Head) -> Reply {
    Reply::parse(&exchange(serve(app).await, head).await)
}

#[tokio::test(start_paused = true)]
async fn works_with_other_extractors() {
    let rooms = Router::new().route("/rooms/{room}/ws", any(room));
    let app = Router::new().nest("/api", rooms).with_state(App::new());
    let request = Request::new("/api/rooms/blue%20sky/ws");
    let request = request.subprotocol("chat.v2").subprotocol("chat.v1");
    let request = request.header("x-user", "Ada");
    let mut client = connect(app.clone(), request).await.unwrap();
    assert_eq!(client.subprotocol(), Some("chat.v1"));
    assert_eq!(text(&mut client).await, "Ada in blue sky of app, chat.v1");

    // The rejection of another extractor is the answer.
    let error = connect(app, "/api/rooms/blue%20sky/ws").await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.status(), 303);
    assert_eq!(refusal.headers()["location"], "/login");
    assert_eq!(refusal.body(), "log in first");
}

#[tokio::test(start_paused = true)]
async fn extractors_before_and_behind_see_the_same_request() {
    async fn both(
        before: http::HeaderMap,
        upgrade: Upgrade,
        after: http::HeaderMap,
        uri: http::Uri,
        extension: Option<Extension<u8>>,
    ) -> Response {
        assert_eq!(before, after);
        let seen = format!("{uri} {:?}", extension.map(|Extension(number)| number));
        upgrade.on_upgrade(async move |mut socket| {
            let request = socket.request();
            let kept = format!("{} {:?}", request.uri(), request.extensions().get::<u8>());
            let cookies = request.header("cookie").unwrap_or("none").to_owned();
            socket.send(format!("{seen}; {kept}; {cookies}")).await?;
            Ok::<_, Error>(())
        })
    }
    let app = Router::new().route("/ws", any(both)).layer(Extension(7_u8));
    let request = Request::new("/ws?a=1").header("cookie", "b=2");
    let mut client = connect(app, request).await.unwrap();
    let seen = text(&mut client).await;
    assert_eq!(seen, "/ws?a=1 Some(7); /ws?a=1 Some(7); b=2");
}

#[tokio::test]
async fn a_route_answers_html_or_a_socket() {
    async fn page(upgrade: Option<Upgrade>) -> Response {
        match upgrade {
            None => Html("<h1>Hello</h1>").into_response(),
            Some(upgrade) => upgrade.on_upgrade(handle_socket),
        }
    }
    let app = Router::new().route("/ws", any(page));
    let plain = request("GET /ws HTTP/1.1")
        .with("Host", "example.com")
        .with("Connection", "close");
    let reply = refused(app.clone(), &plain).await;
    assert_eq!((reply.status, &*reply.body), (200, &b"<h1>Hello</h1>"[..]));
    let reply = refused(
        app.clone(),
        &handshake().replaced("Sec-WebSocket-Version", "8"),
    )
    .await;
    assert_eq!(reply.status, 426, "an invalid handshake gets no page");
    assert_echoes(app, "/ws").await;
}

#[tokio::test]
async fn a_rejection_says_why() {
    async fn told(upgrade: Result<Upgrade, UpgradeRejection>) -> Response {
        match upgrade {
            Ok(upgrade) => upgrade.on_upgrade(handle_socket),
            Err(rejection) => {
                let text = format!("{} {rejection} {:?}", rejection.status(), rejection.error());
                (StatusCode::IM_A_TEAPOT, text).into_response()
            }
        }
    }
    let app = Router::new().route("/ws", any(told));
    let close = |head: Head| head.replaced("Connection", "upgrade, close");
    let reply = refused(
        app.clone(),
        &close(handshake().replaced("Sec-WebSocket-Key", "a")),
    )
    .await;
    let body = String::from_utf8(reply.body).unwrap();
    let error = HandshakeError::InvalidKey;
    assert_eq!(body, format!("400 Bad Request {error} Some(InvalidKey)"));
    let plain = request("GET /ws HTTP/1.1")
        .with("Host", "example.com")
        .with("Connection", "close");
    let reply = refused(app, &plain).await;
    let body = String::from_utf8(reply.body).unwrap();
    assert_eq!(
        body,
        "426 Upgrade Required the request asks for no websocket None"
    );
}

#[tokio::test(start_paused = true)]
async fn settings_come_from_the_extensions() {
    let connections = Connections::new().shutdown_spread(Duration::ZERO);
    let settings = UpgradeSettings::without_handler()
        .origin(
            OriginPolicy::same_host()
                .allow("https://app.example")
                .unwrap(),
        )
        .connections_in(&connections);
    let app = Router::new()
        .route("/ws", any(echo))
        .layer(Extension(settings));
    let page = Request::new("/ws").origin("https://app.example");
    let mut client = connect(app, page).await.unwrap();
    client.send("Hello").await.unwrap();
    assert_eq!(text(&mut client).await, "Hello");
    assert_eq!(connections.counts().open(), 1);
    connections.close();
    assert_eq!(code(&mut client).await, Some(1001));
}

#[tokio::test]
async fn settings_come_from_the_state() {
    async fn echo(upgrade: Upgrade<FromState>) -> Response {
        upgrade.on_upgrade(handle_socket)
    }
    async fn page(upgrade: Option<Upgrade<FromState>>) -> Response {
        match upgrade {
            Some(upgrade) => upgrade.on_upgrade(handle_socket),
            None => "a page".into_response(),
        }
    }
    let mut state = App::new();
    state.sockets = state.sockets.max_head_size(400);
    let connections = state.sockets.connections();
    let app = Router::new()
        .route("/ws", any(echo))
        .route("/page", any(page))
        .with_state(state);
    assert_echoes(app.clone(), "/ws").await;
    assert_echoes(app.clone(), "/page").await;
    assert_eq!(connections.counts().accepted(), 2);
    let large = handshake().with("Cookie", &"x".repeat(400));
    for line in ["GET /ws HTTP/1.1", "GET /page HTTP/1.1"] {
        assert_eq!(
            refused(app.clone(), &large.clone().line(line)).await.status,
            431
        );
    }
    assert_eq!(
        connections
            .counts()
            .refused()
            .map(|(_, count)| count)
            .sum::<u64>(),
        2
    );
}

#[tokio::test]
async fn without_settings_the_defaults_are_safe_and_counted() {
    let app = Router::new().route("/ws", any(echo));
    let page = handshake().with("Origin", "https://evil.example");
    assert_eq!(refused(app.clone(), &page).await.status, 403);
    assert_echoes(app, "/ws").await;
    let counts = default_settings().connections().counts();
    assert!(counts.accepted() > 0, "{counts:?}");
    assert!(counts.refused_as("origin_denied") > 0, "{counts:?}");
}

#[tokio::test]
async fn a_dropped_handshake_frees_its_place() {
    async fn busy(upgrade: Upgrade) -> Response {
        drop(upgrade);
        (StatusCode::CONFLICT, "busy").into_response()
    }
    let connections = Connections::new().max_connections(1);
    let settings = UpgradeSettings::without_handler().connections_in(&connections);
    let app = Router::new()
        .route("/busy", any(busy))
        .route("/ws", any(echo))
        .layer(Extension(settings));
    let busy = handshake()
        .line("GET /busy HTTP/1.1")
        .replaced("Connection", "upgrade, close");
    for _ in 0..3 {
        let reply = refused(app.clone(), &busy).await;
        assert_eq!((reply.status, &*reply.body), (409, &b"busy"[..]));
    }
    assert_eq!(connections.counts().open(), 0);
    let _client = connect(app.clone(), "/ws").await.unwrap();
    assert_eq!(refused(app, &handshake()).await.status, 503);
}

/// The bytes after a handshake are frames for the client, so they never become a request.
#[tokio::test]
async fn bytes_after_a_refused_handshake_are_not_a_request() {
    async fn busy(upgrade: Upgrade) -> StatusCode {
        drop(upgrade);
        StatusCode::CONFLICT
    }
    async fn second() -> &'static str {
        panic!("a frame was taken for a request")
    }
    let app = Router::new()
        .route("/ws", any(busy))
        .route("/second", any(second));
    let head = handshake().followed_by("GET /second HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let reply = refused(app, &head).await;
    assert_eq!((reply.status, reply.body.len()), (409, 0), "{reply:?}");
}

#[tokio::test]
async fn the_function_may_decide_on_more() {
    async fn strict(upgrade: Upgrade) -> Response {
        let offered: Vec<_> = upgrade.offered_subprotocols().map(str::to_owned).collect();
        match offered.iter().find_map(|name| name.strip_prefix("token.")) {
            Some("sesame") => {}
            Some(_) => {
                let frame = CloseFrame::new(CloseCode::new(4401).unwrap(), "").unwrap();
                return upgrade.refuse(Refusal::close(frame));
            }
            None => return upgrade.refuse(StatusCode::UNAUTHORIZED),
        }
        let upgrade = upgrade
            .subprotocol("chat")
            .header(header::SET_COOKIE, HeaderValue::from_static("a=1"))
            .configure(|config| config.max_message_size(10))
            .identify("Ada")
            .without_request();
        upgrade.on_upgrade(async |mut socket| {
            assert_eq!(socket.request().header("host"), None);
            assert_eq!(socket.identity::<&str>(), Some(&"Ada"));
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok::<_, BoxError>(())
        })
    }
    let settings = UpgradeSettings::without_handler();
    let connections = settings.connections();
    let app = Router::new()
        .route("/ws", any(strict))
        .layer(Extension(settings));
    assert_eq!(refused(app.clone(), &handshake()).await.status, 401);
    assert_eq!(connections.counts().refused_as("refused"), 1);

    let request = Request::new("/ws").subprotocol("token.old");
    let mut client = connect(app.clone(), request).await.unwrap();
    assert_eq!(code(&mut client).await, Some(4401));
    let token = Request::new("/ws").subprotocol("token.sesame");
    let mut client = connect(app, token.subprotocol("chat")).await.unwrap();
    assert_eq!(client.response().headers()["set-cookie"], "a=1");
    assert_eq!(client.subprotocol(), Some("chat"));
    client.send("0123456789").await.unwrap();
    assert_eq!(text(&mut client).await, "0123456789");
    client.send("0123456789a").await.unwrap();
    assert_eq!(code(&mut client).await, Some(1009));
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_close_with_1011() {
    async fn fails(upgrade: Upgrade, Path(how): Path<String>) -> Response {
        upgrade.on_upgrade(move |_socket: WebSocket| {
            assert_ne!(how, "panic-at-once", "as asked");
            async move {
                assert_ne!(how, "panic", "as asked");
                Err::<(), _>(Error::new("as asked"))
            }
        })
    }
    let app = Router::new().route("/{how}", any(fails));
    for how in ["error", "panic", "panic-at-once"] {
        let mut client = connect(app.clone(), format!("/{how}")).await.unwrap();
        assert_eq!(code(&mut client).await, Some(1011), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_socket_is_served_when_a_layer_answers_in_place_of_the_101() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let function = move |upgrade: Upgrade| async move {
        let (serve, is_served) = oneshot::channel();
        tell.send(is_served).unwrap();
        upgrade.on_upgrade(async move |_| {
            let _ = serve.send(());
        })
    };
    async fn deny(_: Response) -> StatusCode {
        StatusCode::FORBIDDEN
    }
    let app = Router::new()
        .route("/ws", any(function))
        .layer(axum::middleware::map_response(deny));
    let error = connect(app, "/ws").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 403);
    let is_served = told.recv().await.unwrap();
    // The function is dropped without a call.
    assert!(within(is_served).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn without_a_server_refusals_are_seen_and_the_rest_is_500() {
    let app = Router::new().route("/ws", any(room)).with_state(App::new());
    let response = app
        .clone()
        .oneshot(handshake_head().map(|()| String::new()))
        .await
        .unwrap();
    // The route has no parameter for the extractor `Path`.
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let app = Router::new().route("/ws", any(echo));
    let mut head = handshake_head().map(|()| String::new());
    let response = app.clone().oneshot(head.clone()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        response.extensions().get::<HandshakeError>(),
        Some(&HandshakeError::UpgradeUnsupported)
    );
    head.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
    let response = app.oneshot(head).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

// A layer's handler

#[tokio::test(start_paused = true)]
async fn a_layers_handler_extracts_and_refuses_with_the_rejection() {
    struct Rooms(App);

    impl Handler for Rooms {
        async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
            let Path(room): Path<String> = request.extract().await?;
            let AuthUser(user) = request.extract().await?;
            let State(app): State<App> = request.extract_with_state(&self.0).await?;
            Ok(Accept::new().carry(format!("{user} in {room} of {}", app.name)))
        }

        async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
            let hello: String = socket.take_carried().unwrap();
            socket.send(hello).await?;
            Ok(())
        }
    }
    let layer = WebSocketLayer::new(Rooms(App::new()));
    let app = Router::new().nest(
        "/api",
        Router::new().route_service("/{room}", layer.into_service()),
    );
    let request = Request::new("/api/blue%20sky").header("x-user", "Ada");
    let mut client = connect(app.clone(), request).await.unwrap();
    assert_eq!(text(&mut client).await, "Ada in blue sky of app");

    let error = connect(app, "/api/blue%20sky").await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.status(), 303);
    assert_eq!(refusal.headers()["location"], "/login");
    assert_eq!(refusal.headers()["set-cookie"], "back=/ws");
    assert_eq!(refusal.headers()["connection"], "close");
    assert_eq!(refusal.body(), "log in first");
}

#[tokio::test(start_paused = true)]
async fn two_closures_extract_as_well() {
    let handler = decide(
        async |request: &mut Parts| {
            let Query(query): Query<Vec<(String, u8)>> = request.extract().await?;
            Ok((Accept::new(), query))
        },
        async |mut socket, query| {
            socket.send(format!("{query:?}")).await?;
            Ok::<_, Error>(())
        },
    );
    let app = Router::new().route_service("/ws", WebSocketLayer::new(handler).into_service());
    let mut client = connect(app.clone(), "/ws?a=1").await.unwrap();
    assert_eq!(text(&mut client).await, r#"[("a", 1)]"#);
    let error = connect(app, "/ws?a=many").await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.status(), 400);
    let reason = b"Failed to deserialize query string";
    assert!(refusal.body().starts_with(reason), "{refusal:?}");
}

// A layer in a route

#[tokio::test]
async fn auth_around_a_layer_in_a_route_sees_handshakes() {
    async fn auth(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
        match request.headers().contains_key("x-user") {
            true => next.run(request).await,
            false => StatusCode::UNAUTHORIZED.into_response(),
        }
    }
    let layer = WebSocketLayer::new(Echo::new());
    let connections = layer.connections();
    let inner = Router::new()
        .route("/", get(async || "a page"))
        .route_service("/rooms/{room}", layer.into_service());
    let app = Router::new().nest("/api", inner).layer(from_fn(auth));
    let error = connect(app.clone(), "/api/rooms/1").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 401);
    assert_eq!(connections.counts().accepted(), 0);
    let ada = Request::new("/api/rooms/1").header("x-user", "Ada");
    assert_echoes(app.clone(), ada).await;
    let plain = request("GET /api/rooms/1 HTTP/1.1")
        .with("Host", "example.com")
        .with("X-User", "Ada")
        .with("Connection", "close");
    assert_eq!(refused(app, &plain).await.status, 426);
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn sockets_are_served_over_http2() {
    use crate::support::{
        http2::{self, Session, connect},
        raw,
    };

    let app = Router::new()
        .route("/ws", any(echo))
        .route("/get", get(echo))
        .route("/rooms/{room}", any(room))
        .with_state(App::new());
    let session = Session::new(http2::serve(app)).await;
    let mut tunnel = session.ask(connect().uri("https://example.com/ws")).await;
    assert_eq!(tunnel.status, StatusCode::OK);
    support::wire::write(&mut tunnel, &raw::text("Hello")).await;
    let frame = support::wire::read_frame(&mut tunnel).await.unwrap();
    assert_eq!(frame.payload, b"Hello");

    let request = connect()
        .uri("https://example.com/rooms/blue")
        .header("x-user", "Ada");
    let mut tunnel = session.ask(request).await;
    let frame = support::wire::read_frame(&mut tunnel).await.unwrap();
    assert_eq!(frame.payload, b"Ada in blue of app, none");

    let foreign = connect()
        .uri("https://example.com/ws")
        .header("origin", "https://evil.example");
    let answer = session.ask(foreign).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // The method of an extended CONNECT is not GET.
    let answer = session.ask(connect().uri("https://example.com/get")).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_closes_the_connections_of_functions() {
    let connections = Connections::new().shutdown_spread(Duration::ZERO);
    let settings = UpgradeSettings::without_handler().connections_in(&connections);
    let app = Router::new()
        .route("/ws", any(echo))
        .layer(Extension(settings));
    let mut client = connect(app.clone(), "/ws").await.unwrap();
    let report = connections.shutdown(Duration::from_secs(30)).await;
    assert_eq!((report.clean, report.aborted), (1, 0));
    assert_eq!(code(&mut client).await, Some(1001));
    let error = connect(app, "/ws").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 503);
}
