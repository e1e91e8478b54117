//! Header fields that HTTP/2 sends otherwise than HTTP/1.1 does.

#![cfg(feature = "http2")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use http::{StatusCode, header, request::Parts};
use http2::{Session, connect, serve};
use support::{http2, pipe, wire};
use tower_websocket::{
    Accept, BoxError, Echo, Handler, Refusal, WebSocket, WebSocketLayer, error::HandshakeError,
};
use wire::{FIN, TEXT, frame, handshake_with, read_frame, read_head, write};

/// Refuses with the cookies that it is shown, and sends those of the connection.
#[derive(Clone)]
struct Cookies;

impl Handler for Cookies {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let lines = request.headers.get_all(header::COOKIE).iter();
        let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap()).collect();
        match request.uri.path() {
            "/accept" => Ok(Accept::new()),
            _ => Err(Refusal::unauthorized().message(lines.join("|"))),
        }
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let cookies = socket.request().header("cookie").unwrap_or("none");
        let cookies = cookies.to_owned();
        socket.send(cookies).await?;
        Ok(())
    }
}

#[tokio::test]
async fn shows_one_line_of_cookies_over_either_version() {
    let session = Session::new(serve(WebSocketLayer::new(Cookies).into_service())).await;
    for (sent, shown) in [
        (&[][..], ""),
        (&["a=1"], "a=1"),
        (&["a=1", "b=2"], "a=1; b=2"),
        (&["a=1; b=2", "c=3", "d=\"4\""], "a=1; b=2; c=3; d=\"4\""),
        (&["a=1", ""], "a=1; "),
    ] {
        let request = sent.iter().fold(connect(), |request, cookie| {
            request.header(header::COOKIE, *cookie)
        });
        let mut answer = session.ask(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.text().await, shown);

        let fields: String = sent
            .iter()
            .map(|one| format!("Cookie: {one}\r\n"))
            .collect();
        let mut client = pipe::serve(WebSocketLayer::new(Cookies).into_service(), 64 * 1024);
        write(&mut client, handshake_with("/accept", &fields).as_bytes()).await;
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let frame = read_frame(&mut client).await.unwrap();
        let expected = if sent.is_empty() {
            "none"
        } else {
            shown.trim_end()
        };
        let payload = String::from_utf8(frame.payload).unwrap();
        assert_eq!(payload.trim_end(), expected);
    }
}

/// The server would hold the frames to it, and reset the stream with the first of them.
#[tokio::test]
async fn refuses_a_length_to_which_the_stream_would_be_held() {
    let layer = WebSocketLayer::new(Echo::new());
    let session = Session::new(serve(layer.into_service())).await;
    for length in ["0", "00"] {
        let request = connect().header(header::CONTENT_LENGTH, length);
        let mut answer = session.ask(request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{length}");
        let text = HandshakeError::UnexpectedBody.to_string();
        assert_eq!(answer.text().await, text);
    }
    // The HTTP/2 connection stays open.
    let mut open = session.open().await;
    write(&mut open, &frame(FIN | TEXT, b"hello")).await;
    assert_eq!(read_frame(&mut open).await.unwrap().payload, b"hello");
}
