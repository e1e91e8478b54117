//! Our layer under axum and hyper.

use std::{io, time::Duration};

use axum::{Router, ServiceExt, body::Body, extract::Request};
use http::Response;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tower::{Layer, util::MapResponseLayer};
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};
use tower_websocket::{
    Config, Connections, Error, Handler, IntoHandler, ResponseBody, WebSocket, WebSocketLayer,
    metrics::MetricsObserver,
};
use tracing::{Level, Span, info_span};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::plain;
use crate::BoxError;

/// Returns the default settings with longer timeouts, because clients are idle while other servers are measured.
fn config() -> Config {
    const MINUTE: Duration = Duration::from_secs(60);
    Config::new()
        .keepalive(10 * MINUTE, MINUTE)
        .write_timeout(10 * MINUTE)
}

/// Configures a layer. Some measurements exceed the default limit on connections, so it is off.
pub(super) fn configured<H: Handler>(layer: WebSocketLayer<H>) -> WebSocketLayer<H> {
    in_registry(layer, Connections::new())
}

fn in_registry<H: Handler>(
    layer: WebSocketLayer<H>,
    connections: Connections,
) -> WebSocketLayer<H> {
    let connections = connections.without_max_connections();
    layer
        .path("/ws")
        .config(config())
        .connections_in(&connections)
}

/// Returns our layer with a handler that sends each message back.
fn layer() -> WebSocketLayer<impl Handler> {
    configured(WebSocketLayer::new(send_back))
}

async fn send_back(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

pub(super) fn echo() -> Router {
    plain::router().layer(layer())
}

/// Returns axum's router with our layer and `handler`.
pub(super) fn around<M>(handler: impl IntoHandler<M, Handler: Handler>) -> Router {
    plain::router().layer(configured(WebSocketLayer::new(handler)))
}

pub(super) async fn axum(listener: TcpListener) -> Result<(), BoxError> {
    plain::serve_axum(listener, echo()).await
}

/// The observers of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Observed {
    /// Metrics, and a log with a span for each connection.
    All,
    /// Metrics alone.
    Metrics,
    /// Metrics and the log, but no spans of connections.
    WithoutSpans,
}

/// Serves like `examples/production.rs`: with metrics in a Prometheus recorder, a span for each request, and a JSON
/// log at debug level. The log is discarded.
pub(super) async fn axum_observed(
    listener: TcpListener,
    observed: Observed,
) -> Result<(), BoxError> {
    if observed != Observed::Metrics {
        let levels = Targets::new()
            .with_default(Level::INFO)
            .with_target("tower_websocket", Level::DEBUG);
        tracing_subscriber::fmt()
            .json()
            .with_max_level(Level::DEBUG)
            .with_writer(io::sink)
            .finish()
            .with(levels)
            .init();
    }
    PrometheusBuilder::new().install_recorder()?;
    let connections = Connections::new().observer(MetricsObserver::new());
    let mut layer = in_registry(WebSocketLayer::new(send_back), connections);
    if observed == Observed::WithoutSpans {
        layer = layer.make_span(|_, _| Span::none());
    }
    let trace = TraceLayer::new_for_http().make_span_with(|request: &Request| {
        let id = request.headers().get("x-request-id");
        let id = id.and_then(|id| id.to_str().ok());
        info_span!("request", request_id = id)
    });
    let app = plain::router()
        .layer(layer)
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(trace)
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    plain::serve_axum(listener, app).await
}

/// Serves with a handler that receives all messages that have arrived.
pub(super) async fn axum_batched(listener: TcpListener) -> Result<(), BoxError> {
    let router = around(async |mut socket: WebSocket| {
        let mut messages = Vec::new();
        while socket.recv_many(&mut messages, 64).await? > 0 {
            for message in messages.drain(..) {
                socket.send(message).await?;
            }
        }
        Ok::<_, Error>(())
    });
    plain::serve_axum(listener, router).await
}

pub(super) async fn axum_around(listener: TcpListener) -> Result<(), BoxError> {
    // Like `axum::serve`, call `with_state` once instead of for every request.
    let router = plain::router().with_state(());
    // `axum::serve` needs axum's own body type.
    let boxed = |response: Response<ResponseBody<Body>>| response.map(Body::new);
    let app = MapResponseLayer::new(boxed).layer(layer().layer(router));
    let make = ServiceExt::<Request>::into_make_service(app);
    Ok(axum::serve(plain::without_nagle(listener), make).await?)
}

pub(super) async fn axum_route(listener: TcpListener) -> Result<(), BoxError> {
    let app = plain::router().route_service("/ws", layer().into_service());
    plain::serve_axum(listener, app).await
}

pub(super) async fn hyper(listener: &TcpListener) -> Result<(), BoxError> {
    plain::serve_hyper(listener, layer().layer(plain::service())).await
}
