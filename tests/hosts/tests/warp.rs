//! Tests the layer around warp's service, on hyper-util's server.
//!
//! `warp::serve` only accepts filters, and the layer is a service around all filters.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../support/host/mod.rs"]
mod host;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tower::Layer;
use tower_websocket::{Echo, WebSocketLayer};
use warp::{
    Filter, Rejection,
    path::FullPath,
    reply::{Reply, Response},
};

use crate::host::{HELLO, assert_serves_both, listen, plain};

fn filter() -> impl Filter<Extract: Reply, Error = Rejection> + Clone + Send + 'static {
    let hello = warp::path!("hello").and(warp::get()).map(|| HELLO);
    let query = warp::query::raw().or_else(async |_| Ok::<_, Rejection>((String::new(),)));
    let mirror = warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::bytes())
        .map(mirror);
    hello.or(mirror)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "filters pass extracted values by value"
)]
fn mirror(
    method: Method,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mark = if query.is_empty() { "" } else { "?" };
    let uri: Uri = format!("{}{mark}{query}", path.as_str()).parse().unwrap();
    let response = plain::mirrored(&method, &uri, &headers, &body);
    response.map(Into::into)
}

#[tokio::test]
async fn hyper_util_serves_sockets_beside_the_filters() {
    let service = WebSocketLayer::new(Echo::new())
        .path("/ws")
        .layer(warp::service(filter()));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let stream = TokioIo::new(stream);
                server.serve_connection_with_upgrades(stream, service).await
            });
        }
    });
    assert_serves_both(address, "/ws").await;
}
