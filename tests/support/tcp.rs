//! Connections on the loopback interface, served by hyper-util as `axum::serve` does it.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::SocketAddr;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};

use super::{pipe::HttpService, wire};

/// Listens on a free port of the loopback interface.
pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves on a free port. The answers have no `Date`, so that tests can compare their heads.
pub(crate) async fn serve(service: impl HttpService) -> SocketAddr {
    let (listener, address) = listen().await;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().auto_date_header(false);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (builder, service) = (builder.clone(), service.clone());
            // Errors are ignored: the client sees how the connection ends.
            tokio::spawn(async move {
                let service = TowerToHyperService::new(service);
                let stream = TokioIo::new(stream);
                drop(
                    builder
                        .serve_connection_with_upgrades(stream, service)
                        .await,
                );
            });
        }
    });
    address
}

/// Serves on a free port, and opens a WebSocket there at `/`.
pub(crate) async fn open(service: impl HttpService) -> TcpStream {
    wire::open(serve(service).await, "/").await
}
