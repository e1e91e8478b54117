//! The crate finds the `TcpStream` in what each server hands over.
//!
//! A stream that is found is read and written without the server's wrappers, and gets `TCP_NODELAY`,
//! which is what can be seen from here. With other features of hyper-util, the same is tested in
//! `tests/bare`.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/host/mod.rs"]
mod host;

use std::{convert::Infallible, os::fd::AsFd};

use axum::{Router, serve::ListenerExt};
use http::Response;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::oneshot};
use tower::{Layer, service_fn};
use tower_websocket::{Config, Echo, WebSocketLayer};

use crate::host::{
    listen,
    websocket::{assert_echoes, connect},
    within,
};

#[derive(Clone, Copy, Debug)]
enum Server {
    Axum,
    Hyper,
    HyperUtil,
    HyperUtilHttp1Only,
}

const SERVERS: [Server; 4] = [
    Server::Axum,
    Server::Hyper,
    Server::HyperUtil,
    Server::HyperUtilHttp1Only,
];

/// The same socket once more: options are the socket's.
fn again(stream: &TcpStream) -> std::net::TcpStream {
    stream.as_fd().try_clone_to_owned().unwrap().into()
}

/// Opens a connection, and returns whether `TCP_NODELAY` is set at the server while it is served.
async fn nodelay_under(server: Server, config: Config) -> bool {
    let layer = WebSocketLayer::new(Echo::new()).config(config);
    let (listener, address) = listen().await;
    let (to_test, accepted) = oneshot::channel();
    let task = tokio::spawn(async move {
        if let Server::Axum = server {
            let mut to_test = Some(to_test);
            let listener = listener.tap_io(move |stream| {
                to_test.take().unwrap().send(again(stream)).unwrap();
            });
            return axum::serve(listener, Router::new().layer(layer))
                .await
                .unwrap();
        }
        let service = layer.layer(service_fn(async |_| {
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
        let service = TowerToHyperService::new(service);
        let (stream, _) = listener.accept().await.unwrap();
        to_test.send(again(&stream)).unwrap();
        let stream = TokioIo::new(stream);
        let auto = auto::Builder::new(TokioExecutor::new());
        match server {
            Server::Hyper => http1::Builder::new()
                .serve_connection(stream, service)
                .with_upgrades()
                .await
                .unwrap(),
            Server::HyperUtilHttp1Only => auto
                .http1_only()
                .serve_connection_with_upgrades(stream, service)
                .await
                .unwrap(),
            _ => auto
                .serve_connection_with_upgrades(stream, service)
                .await
                .unwrap(),
        }
    });
    let mut client = connect(address, "/").await;
    // An answer shows that the connection is served.
    assert_echoes(&mut client).await;
    let nodelay = accepted.await.unwrap().nodelay().unwrap();
    task.abort();
    nodelay
}

#[tokio::test]
async fn finds_the_stream_of_every_server() {
    for server in SERVERS {
        let nodelay = within(nodelay_under(server, Config::new())).await;
        assert!(nodelay, "not found under {server:?}");
    }
}

#[tokio::test]
async fn leaves_the_stream_alone_when_told_so() {
    for server in SERVERS {
        let nodelay = within(nodelay_under(server, Config::new().without_nodelay())).await;
        assert!(!nodelay, "set under {server:?}");
    }
}
