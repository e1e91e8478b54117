//! The opening handshake over HTTP/1.1, byte by byte: what is accepted, what is refused and how.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "handshake/accepted.rs"]
mod accepted;
#[path = "handshake/decided.rs"]
mod decided;
#[path = "handshake/refused.rs"]
mod refused;
mod support;

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
};

use http::{Request, Response};
use hyper::body::Incoming;
use tower::{Layer, ServiceExt, service_fn};
use tower_websocket::{Handler, IntoHandler, WebSocketLayer, error::HandshakeError};

use support::{
    handlers::Recorder,
    raw::{Head, Reply, exchange, text, upgrade},
    tcp::serve,
};

/// A service behind the layer that no handshake may reach.
async fn unreachable<A>(_: Request<A>) -> Result<Response<String>, Infallible> {
    panic!("the inner service was called");
}

/// A layer on which everything is at its default.
fn layer<M, H: Handler>(handler: impl IntoHandler<M, Handler = H>) -> WebSocketLayer<H> {
    WebSocketLayer::new(handler).path("/ws")
}

/// Sends a handshake that has to be refused, and asserts what every
/// refusal has in common: it is complete, it is the last thing on its connection, and it leaves
/// its reason to outer layers.
async fn refuse<H: Handler>(
    layer: WebSocketLayer<H>,
    request: &Head,
    why: HandshakeError,
) -> Reply {
    let reason = Arc::new(OnceLock::new());
    let noted = Arc::clone(&reason);
    let service = layer.layer(service_fn(unreachable::<Incoming>));
    let server = serve(service.map_response(move |response: Response<_>| {
        let error = response.extensions().get::<HandshakeError>();
        noted.set(error.cloned()).unwrap();
        response
    }));

    // The bytes after a handshake are frames for the client: they must not be answered as a request.
    let pipelined = "GET /second HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let bytes = exchange(server.await, &request.clone().followed_by(pipelined)).await;
    let reply = Reply::parse(&bytes);

    let status = why.status().as_u16();
    assert_eq!(reply.status, status, "answer to\n{request}");
    assert_eq!(reason.get(), Some(&Some(why)), "reason left for\n{request}");
    let connection = reply.field("connection").unwrap().to_ascii_lowercase();
    let mut options = connection.split(", ");
    assert!(
        options.any(|option| option == "close"),
        "answer to\n{request}"
    );
    assert_eq!(
        reply.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(reply.field("transfer-encoding"), None);
    let length: usize = reply.field("content-length").unwrap().parse().unwrap();
    assert!((1..200).contains(&length), "a short text of {length} bytes");
    if !request.to_string().starts_with("HEAD ") {
        let body = String::from_utf8(reply.body.clone()).unwrap();
        assert_eq!(
            body.len(),
            length,
            "body {body:?} of the answer to\n{request}"
        );
    }
    reply
}

/// Asserts that a handshake is refused before the handler is called.
async fn refuse_unasked(request: &Head, why: HandshakeError) -> Reply {
    let handler = Recorder::new();
    let reply = refuse(layer(handler.clone()), request, why).await;
    assert_eq!(handler.calls(), [""; 0], "asked about\n{request}");
    reply
}

/// Asserts that a handshake is accepted and the connection speaks frames.
async fn accept(request: &Head) -> Reply {
    let handler = Recorder::new();
    let service = layer(handler.clone()).layer(service_fn(unreachable::<Incoming>));
    let (mut client, reply) = upgrade(serve(service).await, request).await;
    client.write(text("Hello")).await;
    assert_eq!(client.text().await, "Hello");
    assert_eq!(handler.calls(), ["accept", "handle"]);
    reply
}

/// Adds the promise of a connection, which is never kept.
fn promised(mut request: Request<()>) -> Request<()> {
    let promise = hyper::upgrade::on(Request::new(()));
    request.extensions_mut().insert(promise);
    request
}

fn numbered(names: usize) -> String {
    let names: Vec<_> = (0..names).map(|number| format!("p{number}")).collect();
    names.join(", ")
}
