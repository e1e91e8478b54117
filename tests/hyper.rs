//! The layer on hyper's own servers, and in front of a proxy, over real connections.

#![cfg_attr(
    feature = "tracing",
    expect(clippy::unwrap_used, reason = "a test that cannot go on panics")
)]

#[path = "support/host/mod.rs"]
mod host;
mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Body, Bytes, Frame, Incoming},
    server::conn::http1,
    service::Service as HyperService,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
#[cfg(feature = "tracing")]
use support::log;
use tokio::{net::TcpStream, sync::mpsc};
use tower::{Layer, Service, service_fn};
use tower_websocket::{Echo, Error, WebSocket, WebSocketLayer, WebSocketService};

use crate::host::{
    HELLO, assert_serves_both, listen,
    plain::{assert_mirrored, handshake, mirror, request, send_streaming},
    websocket::{ask, assert_closes, assert_echoes, connect},
    within,
};

/// A page and the mirror, as the assertions of `host` ask for them.
async fn plain(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    if request.uri().path() == "/hello" {
        return Ok(Response::new(HELLO.to_owned()));
    }
    Ok(mirror(request).await)
}

fn echo_at(path: &'static str) -> WebSocketLayer {
    WebSocketLayer::new(Echo::new()).path(path)
}

/// Serves with hyper-util's `auto` builder, which finds out the version of HTTP by itself.
async fn serve_auto<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: std::error::Error + Send + Sync,
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let stream = TokioIo::new(stream);
                builder
                    .serve_connection_with_upgrades(stream, service)
                    .await
            });
        }
    });
    address
}

/// Serves with hyper's own HTTP/1 builder.
async fn serve_http1<S, B>(service: S) -> SocketAddr
where
    S: HyperService<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: std::error::Error + Send + Sync,
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}

#[tokio::test]
async fn auto_builder_serves_sockets_beside_the_inner_service() {
    let address = serve_auto(echo_at("/ws").layer(service_fn(plain))).await;
    assert_serves_both(address, "/ws").await;
}

#[tokio::test]
async fn http1_builder_serves_sockets_beside_the_inner_service() {
    let service = echo_at("/ws").layer(service_fn(plain));
    let address = serve_http1(TowerToHyperService::new(service)).await;
    assert_serves_both(address, "/ws").await;
}

/// Nothing here is generic: the compiler has to prove the connection of a closure `Send` with the
/// lifetimes of its types erased, which `Box<dyn Error>` as the closure's error does not survive.
#[tokio::test]
async fn closure_serves_on_a_connection_spawned_with_its_concrete_type() {
    let (listener, address) = listen().await;
    let shout = WebSocketService::new(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message.into_text()?.to_uppercase()).await?;
        }
        Ok::<_, Error>(())
    });
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client connects");
        let builder = auto::Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(shout);
        let _ = builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .await;
    });
    within(async {
        let mut client = connect(address, "/").await;
        assert_eq!(ask(&mut client, "hello").await.to_string(), "HELLO");
        assert_closes(client).await;
    })
    .await;
}

#[tokio::test]
async fn service_without_an_inner_one_is_enough_for_a_server() {
    let address = serve_auto(WebSocketService::new(Echo::new())).await;
    within(async {
        let mut client = connect(address, "/").await;
        assert_echoes(&mut client).await;
        assert_closes(client).await;
    })
    .await;
}

/// Sends a request on to `upstream` and answers with what comes back, body and all.
async fn forward(
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper::Error> {
    let stream = TcpStream::connect(upstream)
        .await
        .expect("upstream is there");
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    client.send_request(request).await
}

#[tokio::test]
async fn proxy_answers_with_the_body_of_its_upstream() {
    let upstream = serve_auto(service_fn(plain)).await;
    let proxy = service_fn(move |request| forward(upstream, request));
    let address = serve_auto(echo_at("/ws").layer(proxy)).await;
    assert_serves_both(address, "/ws").await;
    assert_mirrored(address, handshake(address, "/not/ours")).await;
}

/// A body that ends when its sender is dropped.
fn body_of(
    mut pieces: mpsc::UnboundedReceiver<&'static str>,
) -> impl Body<Data = Bytes, Error = Infallible> {
    StreamBody::new(futures_util::stream::poll_fn(move |cx| {
        let piece = pieces.poll_recv(cx);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }))
}

#[tokio::test]
async fn proxy_passes_a_streaming_body_on_piece_by_piece() {
    let (pieces, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let upstream = serve_auto(service_fn(move |_: Request<Incoming>| {
        let receiver = receiver.lock().unwrap().take();
        let body = body_of(receiver.expect("one request is sent"));
        async { Ok::<_, Infallible>(Response::new(body)) }
    }))
    .await;
    let proxy = service_fn(move |request| forward(upstream, request));
    let address = serve_auto(echo_at("/ws").layer(proxy)).await;

    within(async {
        let mut body = send_streaming(address, request(address, "/"))
            .await
            .into_body();
        // The next piece is not sent before the last one was seen: none of them is held back.
        for piece in ["one", "two", "three"] {
            pieces.send(piece).unwrap();
            let frame = body.frame().await.expect("it has not ended").unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        drop(pieces);
        assert!(body.frame().await.is_none());
    })
    .await;
}

#[cfg(feature = "tracing")]
mod without_upgrade_support {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower_websocket::{BoxError, Handler, IntoHandler, WebSocket};

    use super::*;
    use crate::log;

    /// How a server is started without upgrade support.
    #[derive(Clone, Copy, Debug)]
    enum Mistake {
        /// hyper's `http1::Builder` without `.with_upgrades()`.
        Http1,
        /// hyper-util's `auto::Builder::serve_connection`, not `serve_connection_with_upgrades`.
        Auto,
    }

    /// Serves one connection without upgrade support.
    async fn serve_by_mistake<M>(
        mistake: Mistake,
        handler: impl IntoHandler<M, Handler: Handler>,
    ) -> SocketAddr {
        let service = WebSocketLayer::new(handler).layer(service_fn(plain));
        let service = TowerToHyperService::new(service);
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = TokioIo::new(stream);
            match mistake {
                Mistake::Http1 => {
                    let server = http1::Builder::new();
                    server.serve_connection(stream, service).await.unwrap();
                }
                Mistake::Auto => {
                    let server = auto::Builder::new(TokioExecutor::new());
                    server.serve_connection(stream, service).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn server_without_upgrade_support_is_named_in_the_log() {
        for mistake in [Mistake::Http1, Mistake::Auto] {
            let (mut log, _guard) = log::capture();
            let handled = Arc::new(AtomicBool::new(false));
            let handler = {
                let handled = Arc::clone(&handled);
                move |_: WebSocket| {
                    handled.store(true, Ordering::SeqCst);
                    async { Ok::<_, BoxError>(()) }
                }
            };
            let address = serve_by_mistake(mistake, handler).await;

            within(async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\n\
                    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
                stream.write_all(handshake.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                let (head, rest) = answer.split_once("\r\n\r\n").expect("a whole head");
                assert!(head.starts_with("HTTP/1.1 101 "), "{mistake:?}: {head}");
                assert_eq!(rest, "", "{mistake:?}: nothing but the end follows");
            })
            .await;
            log.names("ERROR", "`with_upgrades`").await;
            assert!(!handled.load(Ordering::SeqCst), "{mistake:?}");
        }
    }
}
