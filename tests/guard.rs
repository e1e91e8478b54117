//! A handshake that was accepted here and refused further out: no handler runs.
//!
//! hyper's HTTP/1 server hands over the connection of any request with `Upgrade`, whatever the
//! response was, as soon as it is done with it: at a 101, or at a response with `Connection: close`.
//! So the body of a 101 notes that it was asked whether it is at its end, which the server does
//! right before it sends the response that the body belongs to; or that it was read, which layers do that
//! collect every body and send on what they have got.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{Router, extract, middleware, response, routing::get};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Empty, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::compression::CompressionLayer;
use tower_websocket::{BoxError, ResponseBody, WebSocketLayer};

use support::{
    handlers::Recorder,
    raw::{ANSWER, Client, Reply, exchange, handshake, request, text, upgrade},
    tcp::serve,
    wire, within,
};

/// Asserts that a client gets this response and nothing else, and that no handler runs.
///
/// The client also sends frames that the handler would answer. The server closes the connection when
/// the task for the handler has ended, so the handler cannot run later.
async fn keep_away<S, B>(service: S, handler: &Recorder, status: u16, body: &str)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let frames = [text("Hello"), wire::close(1000, "")].concat();
    let request = handshake().followed_by(frames);
    let reply = Reply::parse(&exchange(serve(service).await, &request).await);
    assert_eq!(reply.status, status);
    assert_eq!(reply.body, body.as_bytes());
    assert_eq!(handler.calls(), ["accept"]);
}

/// Asserts that a client gets the 101 and the handler its message.
async fn let_through<S, B>(service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (mut client, reply) = upgrade(serve(service).await, &handshake()).await;
    assert_eq!(reply.field("sec-websocket-accept"), Some(ANSWER));
    assert_eq!(reply.field("content-length"), None);
    assert_eq!(reply.field("transfer-encoding"), None);
    client.write(text("Hello")).await;
    assert_eq!(client.text().await, "Hello");
}

/// The layer in front of a service that no handshake may reach.
fn guarded(
    handler: &Recorder,
) -> impl Service<
    Request<Incoming>,
    Response = Response<ResponseBody<String>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    WebSocketLayer::new(handler.clone()).layer(service_fn(unreachable))
}

async fn unreachable(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    panic!("the inner service was called")
}

/// Another answer, after which the connection is over.
fn denied<B>(body: B) -> Response<B> {
    let response = Response::builder().status(StatusCode::FORBIDDEN);
    response
        .header(header::CONNECTION, "close")
        .body(body)
        .unwrap()
}

fn app(handler: &Recorder) -> Router {
    Router::new()
        .route("/ws", get(|| async { "not reached" }))
        .layer(WebSocketLayer::new(handler.clone()))
}

#[tokio::test]
async fn no_handler_runs_when_an_outer_layer_answers_in_place_of_the_101() {
    #[cfg(feature = "tracing")]
    let (mut log, _guard) = support::log::capture();
    let handler = Recorder::new();
    let outer = guarded(&handler).map_response(|_| denied(Full::<Bytes>::from("not for you")));
    keep_away(outer, &handler, 403, "not for you").await;
    #[cfg(feature = "tracing")]
    log.names("ERROR", "outer layer").await;
}

#[tokio::test]
async fn no_handler_runs_when_the_other_answer_has_no_body() {
    let handler = Recorder::new();
    let outer = guarded(&handler).map_response(|response| {
        // Even one that keeps the rest of the head.
        let (mut head, _) = response.into_parts();
        head.status = StatusCode::FORBIDDEN;
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        Response::from_parts(head, Empty::<Bytes>::new())
    });
    keep_away(outer, &handler, 403, "").await;
}

#[tokio::test]
async fn no_handler_runs_when_a_layer_of_axum_answers_in_place_of_the_101() {
    let handler = Recorder::new();
    let deny = async |_: response::Response| denied("not for you".to_owned());
    let outer = app(&handler).layer(middleware::map_response(deny));
    keep_away(outer, &handler, 403, "not for you").await;
}

#[tokio::test]
async fn no_handler_runs_when_the_connection_goes_on_after_another_answer() {
    let handler = Recorder::new();
    let inner = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(String::from("page")))
    });
    let layered = WebSocketLayer::new(handler.clone())
        .path("/ws")
        .layer(inner);
    let outer = layered.map_response(|response| {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(BodyExt::boxed);
        }
        let mut response = Response::new(String::from("not for you").map_err(Into::into).boxed());
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    let mut client = Client::connect(serve(outer).await).await;
    client.write(handshake().bytes()).await;
    let reply = client.head().await;
    assert_eq!(
        (reply.status, reply.field("content-length")),
        (403, Some("11"))
    );
    client.expect(b"not for you").await;
    // When this one is answered hyper is done with the connection, and keeps its promise of it.
    let last = request("GET / HTTP/1.1")
        .with("Host", "example.com")
        .with("Connection", "close");
    client.write(last.followed_by(text("Hello")).bytes()).await;
    let reply = Reply::parse(&client.rest().await);
    assert_eq!((reply.status, &*reply.body), (200, &b"page"[..]));
    assert_eq!(handler.calls(), ["accept"]);
}

#[tokio::test]
async fn no_handler_runs_when_an_outer_layer_fails() {
    let handler = Recorder::new();
    let service = guarded(&handler);
    let outer = service_fn(move |request: Request<Incoming>| {
        let response = service.clone().oneshot(request);
        async move {
            drop(response.await);
            Err::<Response<String>, _>(BoxError::from("part of the test"))
        }
    });
    let request = handshake().followed_by(text("Hello"));
    assert_eq!(exchange(serve(outer).await, &request).await, b"");
    assert_eq!(handler.calls(), ["accept"]);
}

#[tokio::test]
async fn bodies_that_were_boxed_or_mapped_are_let_through() {
    type Body = ResponseBody<String>;

    async fn mapped<B>(change: impl Fn(Body) -> B + Clone + Send + 'static)
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let service = guarded(&Recorder::new());
        let change = move |response: Response<Body>| response.map(&change);
        let_through(service.map_response(change)).await;
    }

    mapped(|body| body).await;
    mapped(BodyExt::boxed).await;
    mapped(BodyExt::boxed_unsync).await;
    mapped(|body| body.boxed().boxed_unsync().boxed_unsync()).await;
    mapped(|body| body.map_err(BoxError::from)).await;
    mapped(|body| body.map_frame(|frame| frame)).await;
    mapped(Either::<_, Empty<Bytes>>::Left).await;
    mapped(|body| Limited::new(body, 1024)).await;
    mapped(axum::body::Body::new).await;
}

#[tokio::test]
async fn layers_of_axum_that_keep_the_response_are_let_through() {
    async fn marked(mut response: response::Response) -> response::Response {
        let mark = HeaderValue::from_static("1");
        response.headers_mut().insert("x-mark", mark);
        response.map(axum::body::Body::new)
    }
    async fn passed_on(request: extract::Request, next: middleware::Next) -> response::Response {
        next.run(request).await
    }
    let_through(app(&Recorder::new())).await;
    let_through(app(&Recorder::new()).layer(middleware::map_response(marked))).await;
    let_through(app(&Recorder::new()).layer(middleware::from_fn(passed_on))).await;
    let merged = Router::new().merge(app(&Recorder::new()));
    let_through(merged.layer(middleware::map_response(marked))).await;
}

#[tokio::test]
async fn bodies_that_were_collected_are_let_through() {
    async fn collected(request: extract::Request, next: middleware::Next) -> response::Response {
        let (head, body) = next.run(request).await.into_parts();
        let bytes = axum::body::to_bytes(body, 1024).await.unwrap();
        assert!(bytes.is_empty());
        response::Response::from_parts(head, bytes.into())
    }
    let once = || app(&Recorder::new()).layer(middleware::from_fn(collected));
    let_through(once()).await;
    let_through(once().layer(middleware::from_fn(collected))).await;
    // By hand, and by a first poll alone.
    let polled =
        guarded(&Recorder::new()).and_then(async |response: Response<ResponseBody<String>>| {
            let (head, mut body) = response.into_parts();
            assert!(body.frame().await.is_none());
            Ok::<_, Infallible>(Response::from_parts(head, Empty::<Bytes>::new()))
        });
    let_through(polled).await;
}

/// A body whose wrapper is asked in its place, and asks nothing itself.
#[tokio::test]
async fn a_body_behind_one_that_asks_nothing_is_not_let_through() {
    #[cfg(feature = "tracing")]
    let (mut log, _guard) = support::log::capture();
    let handler = Recorder::new();
    let wrapped = guarded(&handler).map_response(|response| {
        response.map(|body| {
            http_body_util::StreamBody::new(body.into_data_stream().map_ok(Frame::data))
        })
    });
    let request = handshake().followed_by(text("Hello"));
    let reply = Reply::parse(&exchange(serve(wrapped).await, &request).await);
    assert_eq!((reply.status, &*reply.body), (101, &b""[..]));
    assert_eq!(handler.calls(), ["accept"]);
    #[cfg(feature = "tracing")]
    log.names("ERROR", "insecure_run_behind_any_response").await;
}

/// `Sent` cannot distinguish these cases, as its documentation says.
#[tokio::test]
async fn the_handler_runs_behind_a_refusal_that_has_read_or_kept_the_body() {
    async fn runs<S, B>(outer: S, handler: &Recorder)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let request = handshake().followed_by(wire::close(1000, ""));
        let reply = Reply::parse(&exchange(serve(outer).await, &request).await);
        assert_eq!(reply.status, 403);
        assert_eq!(handler.calls(), ["accept", "handle"]);
    }

    let handler = Recorder::new();
    let read = guarded(&handler).and_then(async |response: Response<ResponseBody<String>>| {
        response.into_body().collect().await.unwrap();
        Ok::<_, Infallible>(denied(Empty::<Bytes>::new()))
    });
    runs(read, &handler).await;

    let handler = Recorder::new();
    let kept = guarded(&handler).map_response(|mut response| {
        *response.status_mut() = StatusCode::FORBIDDEN;
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        response
    });
    runs(kept, &handler).await;
}

/// The example of `insecure_run_behind_any_response`: it has to be that bad.
#[tokio::test]
async fn without_the_guard_the_handler_runs_behind_an_outer_403() {
    #[cfg(feature = "tracing")]
    let (mut log, _guard) = support::log::capture();
    let handler = Recorder::new();
    let inner = service_fn(unreachable);
    let open = WebSocketLayer::new(handler.clone()).insecure_run_behind_any_response();
    let outer = open
        .layer(inner)
        .map_response(|_: Response<_>| denied(Empty::<Bytes>::new()));
    let request = handshake().followed_by([text("Hello"), wire::close(1000, "")].concat());
    let reply = Reply::parse(&exchange(serve(outer).await, &request).await);
    assert_eq!(reply.status, 403);
    assert_eq!(handler.calls(), ["accept", "handle"]);
    #[cfg(feature = "tracing")]
    {
        log.names("WARN", "`insecure_run_behind_any_response` is set")
            .await;
        assert_eq!(log.count("WARN"), 1);
    }
}

/// A body that says when it is asked whether it is at its end.
struct Asked(Arc<AtomicBool>);

impl Body for Asked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.0.store(true, Ordering::SeqCst);
        true
    }
}

/// The guard depends on this behaviour of hyper. If this test fails, hyper has changed, and the guard
/// treats every handshake as refused by an outer layer.
#[tokio::test]
async fn hyper_asks_the_body_of_a_101_for_its_end_before_it_hands_over_the_connection() {
    for replaced in [false, true] {
        let (sender, mut handed_over) = mpsc::unbounded_channel();
        let server = serve(service_fn(move |request: Request<Incoming>| {
            let asked = Arc::new(AtomicBool::new(false));
            let ours = Asked(Arc::clone(&asked));
            let connection = hyper::upgrade::on(request);
            let sender = sender.clone();
            tokio::spawn(async move {
                let connection = connection.await.unwrap();
                sender.send(asked.load(Ordering::SeqCst)).unwrap();
                drop(connection);
            });
            let response = if replaced {
                drop(ours);
                denied(Either::Right(Empty::<Bytes>::new()))
            } else {
                Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header(header::CONNECTION, "upgrade")
                    .header(header::UPGRADE, "websocket")
                    .body(Either::Left(ours))
                    .unwrap()
            };
            async { Ok::<_, Infallible>(response) }
        }));
        let reply = Reply::parse(&exchange(server.await, &handshake()).await);
        assert_eq!(reply.status, if replaced { 403 } else { 101 });
        // That hyper hands over the connection after a 403, too, is why there is a guard.
        let asked = within(handed_over.recv()).await.unwrap();
        assert_eq!(asked, !replaced, "replaced: {replaced}");
    }
}

#[tokio::test]
async fn compression_outside_leaves_the_101_alone() {
    let handler = Recorder::new();
    let outer = CompressionLayer::new().layer(guarded(&handler));
    let request = handshake()
        .with("Accept-Encoding", "gzip, deflate, br, zstd")
        .followed_by([text("Hello"), wire::close(1000, "")].concat());
    // The exchange ends with the connection, and that with the handler.
    let answer = exchange(serve(outer).await, &request).await;
    assert_eq!(Reply::parse(&answer).status, 101);
    assert_eq!(handler.calls(), ["accept", "handle"]);
}
