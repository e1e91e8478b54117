//! Tests the layer and the service in salvo, through its `compat`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../support/host/mod.rs"]
mod host;

use std::net::SocketAddr;

use salvo::{
    Listener, Request, Response, Router, Server, Service,
    conn::{Acceptor, TcpListener},
    handler,
    http::ReqBody,
    prelude::{TowerLayerCompat, TowerServiceCompat},
};
use tower_websocket::{Echo, WebSocketLayer, WebSocketService};

use crate::host::{HELLO, assert_serves_both, plain, websocket::refusal};

#[handler]
async fn hello() -> &'static str {
    HELLO
}

#[handler]
async fn mirror(request: &mut Request, response: &mut Response) {
    let body = request.payload().await.unwrap().clone();
    let mirrored = plain::mirrored(request.method(), request.uri(), request.headers(), &body);
    let (head, body) = mirrored.into_parts();
    response.headers_mut().extend(head.headers);
    response.write_body(body).unwrap();
}

/// Returns the routes that the assertions of `host` need.
fn routes() -> Router {
    Router::new()
        .push(Router::with_path("hello").get(hello))
        .push(Router::with_path("mirror").goal(mirror))
}

async fn serve(service: impl Into<Service> + Send + 'static) -> SocketAddr {
    let acceptor = TcpListener::new("127.0.0.1:0").bind().await;
    let address = acceptor.holdings()[0].local_addr.clone();
    let address = address.into_std().unwrap();
    tokio::spawn(Server::new(acceptor).serve(service));
    address
}

#[tokio::test]
async fn hoop_serves_sockets_beside_the_routes() {
    let layer = WebSocketLayer::new(Echo::new()).path("/ws");
    let service = Service::new(routes()).hoop(layer.compat::<ReqBody>());
    let address = serve(service).await;
    assert_serves_both(address, "/ws").await;
}

#[tokio::test]
async fn hoop_of_a_router_is_not_reached_without_a_route() {
    let layer = || {
        WebSocketLayer::new(Echo::new())
            .path("/ws")
            .compat::<ReqBody>()
    };
    let address = serve(routes().hoop(layer())).await;
    assert_eq!(refusal(address, "/ws").await, 404);

    let routes = routes().push(Router::with_path("ws").goal(mirror));
    let address = serve(routes.hoop(layer())).await;
    assert_serves_both(address, "/ws").await;
}

#[tokio::test]
async fn goal_serves_sockets_beside_the_routes() {
    // The service accepts any body type, so name salvo's type.
    let echo = WebSocketService::new(Echo::new());
    let echo = TowerServiceCompat::<ReqBody, _, _, _>::compat(echo);
    let address = serve(routes().push(Router::with_path("ws").goal(echo))).await;
    assert_serves_both(address, "/ws").await;
}
