//! The crate finds the `TcpStream` in what each server hands over, and sets its options.
//!
//! A stream that is found is read and written without the server's wrappers. Its options are what can be
//! seen from here. With other features of hyper-util, the same is tested in
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
#[cfg(target_os = "linux")]
use socket2::SockRef;
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

/// Opens a connection, and returns the server's socket while it is served.
async fn socket_under(server: Server, config: Config) -> std::net::TcpStream {
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
    let socket = accepted.await.unwrap();
    task.abort();
    socket
}

#[tokio::test]
async fn finds_the_stream_of_every_server() {
    for server in SERVERS {
        let socket = within(socket_under(server, Config::new())).await;
        assert!(socket.nodelay().unwrap(), "not found under {server:?}");
    }
}

#[tokio::test]
async fn leaves_the_stream_alone_when_told_so() {
    for server in SERVERS {
        let config = Config::new().without_nodelay();
        let socket = within(socket_under(server, config)).await;
        assert!(!socket.nodelay().unwrap(), "set under {server:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn bounds_what_the_system_takes_ahead() {
    for server in SERVERS {
        let lowat = |config| async move {
            let socket = within(socket_under(server, config)).await;
            SockRef::from(&socket).tcp_notsent_lowat().unwrap()
        };
        let usual = lowat(Config::new()).await;
        let set = lowat(Config::new().notsent_lowat(16_384)).await;
        assert_ne!(usual, set);
        assert_eq!(set, 16_384, "under {server:?}");
    }
}
