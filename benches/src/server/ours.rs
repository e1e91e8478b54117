//! Our layer, under the two servers it is used with most.

use std::convert::Infallible;

use axum::{Router, routing::get, serve::ListenerExt};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_websocket::{Config, Echo, Error, WebSocket, WebSocketLayer};

use crate::BoxError;

/// The defaults, but for the limit on connections: some of the measurements open that many.
fn config() -> Config {
    Config::new().without_max_connections()
}

fn plain() -> Router {
    Router::new().route("/", get(|| async { "hello over HTTP" }))
}

pub(super) fn echo() -> Router {
    let layer = WebSocketLayer::new(Echo::new());
    plain().layer(layer.path("/ws").config(config()))
}

pub(super) fn handler() -> Router {
    let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok::<_, Error>(())
    });
    plain().layer(layer.path("/ws").config(config()))
}

pub(super) async fn axum(listener: TcpListener) -> Result<(), BoxError> {
    serve_axum(listener, echo()).await
}

pub(super) async fn axum_handler(listener: TcpListener) -> Result<(), BoxError> {
    serve_axum(listener, handler()).await
}

pub(super) async fn axum_plain(listener: TcpListener) -> Result<(), BoxError> {
    serve_axum(listener, plain()).await
}

pub(super) async fn serve_axum(listener: TcpListener, app: Router) -> Result<(), BoxError> {
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, app).await?)
}

pub(super) async fn hyper(listener: &TcpListener) -> Result<(), BoxError> {
    let service = WebSocketLayer::new(Echo::new())
        .path("/ws")
        .config(config())
        .layer(service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new("hello over HTTP".to_owned()))
        }));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(service.clone());
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move { drop(connection.await) });
    }
}
