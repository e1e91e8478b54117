//! The layer and the service in an axum application, over real connections.
//!
//! A layer answers a request only if axum's routing brings it there: to a route or to a fallback
//! that the layer is around. The tests of nested and merged routers pin down which do.

#[path = "support/host/mod.rs"]
mod host;

use std::net::SocketAddr;

use axum::{
    Router,
    extract::OriginalUri,
    routing::{any, get},
};
use http::StatusCode;
use tower::ServiceBuilder;
use tower_websocket::{Echo, Error, WebSocket, WebSocketLayer, WebSocketService};

use crate::host::{
    HELLO, assert_hello, assert_serves_both, connect_beside_http, listen,
    plain::{self, mirror},
    websocket::{ask, assert_closed, assert_closes, assert_echoes, connect, refusal},
    within,
};

/// A page and the mirror, as the assertions of `host` ask for them.
fn routes() -> Router {
    Router::new()
        .route("/hello", get(|| async { HELLO }))
        .fallback(mirror)
}

async fn serve(app: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn echo_at(path: &'static str) -> WebSocketLayer {
    WebSocketLayer::new(Echo::new()).path(path)
}

#[tokio::test]
async fn layer_serves_sockets_beside_the_routes() {
    let address = serve(routes().layer(echo_at("/ws"))).await;
    assert_serves_both(address, "/ws").await;
    plain::assert_mirrored(address, plain::request(address, "/ws")).await;
}

#[tokio::test]
async fn layer_without_a_path_serves_sockets_on_every_path() {
    let app = Router::new()
        .route("/hello", get(|| async { HELLO }))
        .layer(WebSocketLayer::default());
    let address = serve(app).await;
    within(async {
        for path in ["/", "/hello", "/no/such/route?q=1"] {
            assert_closes(connect_beside_http(address, path).await).await;
        }
    })
    .await;
}

#[tokio::test]
async fn layer_inside_a_service_builder_serves_sockets() {
    let layers = ServiceBuilder::new()
        .layer(echo_at("/one"))
        .layer(echo_at("/two"));
    let address = serve(routes().layer(layers)).await;
    assert_serves_both(address, "/one").await;
    assert_serves_both(address, "/two").await;
}

#[tokio::test]
async fn route_service_serves_sockets_beside_the_routes() {
    let app = routes().route_service("/ws", WebSocketService::new(Echo::new()));
    let address = serve(app).await;
    assert_serves_both(address, "/ws").await;

    let response = plain::get(address, "/ws").await;
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["upgrade"], "websocket");
}

#[tokio::test]
async fn layer_around_one_route_shares_its_path_with_the_page() {
    let page = get(|| async { "the page" }).layer(WebSocketLayer::default());
    let address = serve(routes().route("/page", page)).await;
    assert_serves_both(address, "/page").await;
    assert_eq!(plain::get(address, "/page").await.body(), "the page");
}

#[tokio::test]
async fn two_layers_answer_their_own_paths() {
    let two = WebSocketLayer::new(Echo::prefixed("two: ")).path("/two");
    let address = serve(routes().layer(echo_at("/one")).layer(two)).await;
    assert_serves_both(address, "/one").await;
    within(async {
        let mut one = connect_beside_http(address, "/one").await;
        let mut two = connect(address, "/two").await;
        assert_hello(address).await;
        assert_eq!(ask(&mut two, "Hello").await.to_string(), "two: Hello");
        assert_echoes(&mut one).await;
        assert_closes(one).await;
        assert_hello(address).await;
        assert_eq!(ask(&mut two, "again").await.to_string(), "two: again");
        assert_closes(two).await;
    })
    .await;
    plain::assert_mirrored(address, plain::handshake(address, "/three")).await;
}

#[tokio::test]
async fn layer_around_a_nest_sees_the_whole_path() {
    let inner = Router::new().route("/hello", get(|| async { "nested" }));
    let app = routes().nest("/api", inner).layer(echo_at("/api/ws"));
    let address = serve(app).await;
    assert_serves_both(address, "/api/ws").await;
    plain::assert_mirrored(address, plain::handshake(address, "/ws")).await;
}

#[tokio::test]
async fn layer_inside_a_nest_sees_the_path_without_the_prefix() {
    // The route that brings the request to the layer: what it answers, plain requests get.
    let inner = Router::new().route("/ws", any(mirror));
    let address = serve(routes().nest("/api", inner.layer(echo_at("/ws")))).await;
    assert_serves_both(address, "/api/ws").await;

    let inner = Router::new().route("/ws", any(mirror));
    let whole = serve(routes().nest("/api", inner.layer(echo_at("/api/ws")))).await;
    assert_eq!(refusal(whole, "/api/ws").await, 200, "passed to the mirror");
}

#[tokio::test]
async fn layer_inside_a_nest_serves_sockets_with_a_fallback_of_the_nest() {
    let inner = Router::new().fallback(mirror).layer(echo_at("/ws"));
    let address = serve(routes().nest("/api", inner)).await;
    assert_serves_both(address, "/api/ws").await;
}

#[tokio::test]
async fn layer_inside_a_nest_is_not_reached_without_a_route_or_a_fallback() {
    let inner = Router::new().route("/hello", get(|| async { "nested" }));
    let inner = inner.layer(echo_at("/ws"));
    let app = Router::new().nest("/api", inner);
    let address = serve(app).await;
    assert_eq!(refusal(address, "/api/ws").await, 404);
}

#[tokio::test]
async fn route_layer_is_not_reached_without_a_route() {
    let app = Router::new()
        .route("/hello", get(|| async { HELLO }))
        .route_layer(WebSocketLayer::default());
    let address = serve(app).await;
    assert_eq!(refusal(address, "/ws").await, 404);
    within(async {
        assert_closes(connect_beside_http(address, "/hello").await).await;
    })
    .await;
}

#[tokio::test]
async fn layer_around_merged_routers_serves_sockets() {
    let other = Router::new().route("/other", get(|| async { "other" }));
    let address = serve(routes().merge(other).layer(echo_at("/ws"))).await;
    assert_serves_both(address, "/ws").await;
}

#[tokio::test]
async fn layer_of_a_merged_router_serves_sockets_on_its_routes() {
    let other = Router::new().route("/ws", any(mirror));
    let address = serve(routes().merge(other.layer(echo_at("/ws")))).await;
    assert_serves_both(address, "/ws").await;
}

#[tokio::test]
async fn layer_is_not_reached_when_a_later_merge_replaces_the_fallback() {
    let other = Router::new().route("/other", get(|| async { "other" }));
    let hello = Router::new().route("/hello", get(|| async { HELLO }));
    // Of two default fallbacks the later one stays, and no layer is around that.
    let address = serve(hello.layer(echo_at("/ws")).merge(other)).await;
    assert_hello(address).await;
    assert_eq!(refusal(address, "/ws").await, 404);
}

#[tokio::test]
async fn route_service_inside_a_nest_serves_sockets() {
    let inner = Router::new().route_service("/ws", WebSocketService::new(Echo::new()));
    let address = serve(routes().nest("/api", inner)).await;
    assert_serves_both(address, "/api/ws").await;
}

#[tokio::test]
async fn nest_service_serves_sockets_below_its_prefix() {
    let service = echo_at("/ws").into_service();
    let address = serve(routes().nest_service("/api", service)).await;
    assert_serves_both(address, "/api/ws").await;
    let elsewhere = refusal(address, "/api/elsewhere").await;
    assert_eq!(elsewhere, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn handler_inside_a_nest_finds_both_uris() {
    let tell = WebSocketService::new(async |mut socket: WebSocket| {
        let seen = socket.request().uri().to_string();
        let original = socket.request().extensions().get::<OriginalUri>();
        let original = original.expect("axum adds it").to_string();
        socket.send(format!("{seen} of {original}")).await?;
        Ok::<_, Error>(())
    });
    let inner = Router::new().route_service("/ws", tell);
    let address = serve(Router::new().nest("/api", inner)).await;
    within(async {
        let mut client = connect(address, "/api/ws?q=1").await;
        let uris = ask(&mut client, "which?").await;
        assert_eq!(uris.to_string(), "/ws?q=1 of /api/ws?q=1");
        assert_closed(client).await;
    })
    .await;
}
