//! Connections in memory, served by hyper, so that the clock can be stopped.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    time::sleep,
};
use tower::Service;
use tower_websocket::{BoxError, Connections, ResponseBody};

use super::wire;

/// A service as the HTTP server takes it.
pub(crate) trait Served:
    Service<
        Request<Incoming>,
        Response = Response<ResponseBody<String>>,
        Error: Into<BoxError>,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<S> Served for S where
    S: Service<
            Request<Incoming>,
            Response = Response<ResponseBody<String>>,
            Error: Into<BoxError>,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// Serves one connection, which holds `capacity` bytes in each direction, and does the opening
/// handshake on it.
pub(crate) async fn open(service: impl Served, capacity: usize) -> DuplexStream {
    let mut client = serve(service, capacity);
    wire::upgrade(&mut client, &wire::handshake("/")).await;
    client
}

/// Serves one connection, which holds `capacity` bytes in each direction.
pub(crate) fn serve(service: impl Served, capacity: usize) -> DuplexStream {
    let (server, client) = duplex(capacity);
    serve_on(server, service);
    client
}

/// Serves a stream; how it ends is seen by the client.
pub(crate) fn serve_on(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: impl Served,
) {
    let service = TowerToHyperService::new(service);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::spawn(connection.with_upgrades());
}

/// Waits under a stopped clock until so many connections are open.
pub(crate) async fn until_open(connections: &Connections, open: usize) {
    for _ in 0..1000 {
        if connections.counts().open() == open {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("{connections:?}, not {open} open");
}
