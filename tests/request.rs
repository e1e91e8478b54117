//! The request that a handler sees: all of it, or the part that is left when it is dropped.

mod support;

use http::{Method, request::Parts};
use pipe::greeting;
use support::pipe;
use tokio::io::duplex;
use tower_websocket::{
    Accept, BoxError, Config, Error, Handler, HandshakeRequest, Refusal, WebSocket, WebSocketLayer,
};

/// Sends what is left of the request.
async fn show(mut socket: WebSocket) -> Result<(), Error> {
    let request: &HandshakeRequest = socket.request();
    let shown = format!(
        "{} {} {:?} {:?} {}",
        request.method(),
        request.path(),
        request.query(),
        request.header("x-user"),
        request.extensions().len(),
    );
    socket.send(shown).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn drops_the_request_for_all_connections_or_for_one() {
    struct Forgetful;

    impl Handler for Forgetful {
        async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
            request.extensions.insert("kept");
            let accept = Accept::new();
            Ok(match request.uri.path() {
                "/forget" => accept.without_request(),
                _ => accept,
            })
        }

        async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
            Ok(show(socket).await?)
        }
    }

    let layer = WebSocketLayer::new(Forgetful);
    let all = r#"GET /keep Some("a=b") Some("anna") 1"#;
    assert_eq!(greeting(&layer, "/keep?a=b", "anna").await, all);
    let path = "GET /forget None None 0";
    assert_eq!(greeting(&layer, "/forget?a=b", "anna").await, path);
    let path = "GET /keep None None 0";
    let layer = layer.without_request();
    assert_eq!(greeting(&layer, "/keep?a=b", "anna").await, path);
}

#[tokio::test(start_paused = true)]
async fn request_of_a_socket_without_a_handshake_is_empty() {
    let (server, _client) = duplex(1024);
    let socket = WebSocket::from_io(server, Config::new());
    assert_eq!(socket.request().method(), Method::GET);
    assert_eq!(socket.request().path(), "");
    assert_eq!(socket.request().headers().count(), 0);
}
