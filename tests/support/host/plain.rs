//! Plain HTTP: hyper's client, and servers' answer that shows what they were asked.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::within;

/// Sends one request over a connection of its own, and returns the response without its body.
pub(crate) async fn send_streaming<B>(
    address: SocketAddr,
    request: Request<B>,
) -> Response<Incoming>
where
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    client.send_request(request).await.unwrap()
}

/// Sends one request over a connection of its own, and returns the whole response.
pub(crate) async fn send<B>(address: SocketAddr, request: Request<B>) -> Response<Bytes>
where
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    within(async {
        let (head, body) = send_streaming(address, request).await.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    })
    .await
}

/// Gets `path` over a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Response<Bytes> {
    send(address, request(address, path)).await
}

/// A `GET` of `path`.
pub(crate) fn request(address: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header(header::HOST, address.to_string());
    request.body(Full::default()).unwrap()
}

/// A valid opening handshake, as a plain request.
pub(crate) fn handshake(address: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Full::default())
        .unwrap()
}

/// Writes a request down: its line, its header fields in alphabetical order, its body.
pub(crate) fn describe(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> String {
    let fields = headers.iter();
    let fields = fields.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    let mut fields: Vec<_> = fields.collect();
    fields.sort();
    let target = uri.path_and_query().unwrap();
    let body = String::from_utf8_lossy(body);
    format!("{method} {target}\n{}\n{body}", fields.concat())
}

/// A server's answer to any request: the request, written down.
pub(crate) async fn mirror<B>(request: Request<B>) -> Response<String>
where
    B: Body<Error: std::fmt::Debug>,
{
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    mirrored(&head.method, &head.uri, &head.headers, &body)
}

/// The answer of [`mirror`], for servers that have the request in pieces.
pub(crate) fn mirrored(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Response<String> {
    let text = describe(method, uri, headers, body);
    let response = Response::builder().header("x-answered-by", "mirror");
    response.body(text).unwrap()
}

/// Sends a request and asserts that [`mirror`] got it as it was sent, and its answer came back.
pub(crate) async fn assert_mirrored(address: SocketAddr, request: Request<Full<Bytes>>) {
    let (head, body) = request.clone().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut headers = head.headers;
    if !body.is_empty() {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    let sent = describe(&head.method, &head.uri, &headers, &body);

    let response = send(address, request).await;
    assert_eq!(response.status(), StatusCode::OK, "{sent}");
    assert_eq!(response.headers()["x-answered-by"], "mirror", "{sent}");
    assert_eq!(String::from_utf8_lossy(response.body()), sent);
}
