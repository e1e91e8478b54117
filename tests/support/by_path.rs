//! A layer whose handler accepts, refuses and ends as the path says, and the client's part of each case. Every secret
//! of a client or a handler contains `hush`. The reasons of Closes are not secrets.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{future::pending, net::IpAddr};

use http::{HeaderValue, header, request::Parts};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Config, Handler, Refusal, Side, WebSocket,
    WebSocketLayer,
};

use super::wire::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, handshake, handshake_with,
    read_frame,
};

pub(crate) struct ByPath;

impl Handler for ByPath {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        match request.uri.path() {
            "/refuse" => {
                let secret = HeaderValue::from_static("Bearer hush-challenge");
                return Err(Refusal::unauthorized()
                    .header(header::WWW_AUTHENTICATE, secret)
                    .message("hush-message"));
            }
            "/panic-in-accept" => panic!("of accept"),
            "/late" => pending().await,
            _ => {}
        }
        let cookie = HeaderValue::from_static("session=hush-set-cookie");
        let accept = Accept::new().header(header::SET_COOKIE, cookie);
        Ok(accept.subprotocol("hush-subprotocol"))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let path = socket.request().path().to_owned();
        match path.as_str() {
            "/return" => return Ok(()),
            "/fail" => return Err("no database".into()),
            "/panic" => panic!("of the handler"),
            "/code" => return Err(CloseFrame::new(CloseCode::new(4001)?, "a code")?.into()),
            "/close" => socket.close(CloseCode::new(4002)?, "a close").await?,
            "/reason" => socket.close(CloseCode::NORMAL, "hush".repeat(99)).await?,
            "/full" => loop {
                socket.sender().try_send("hush-full")?;
            },
            "/closed" => {
                socket.sender().close(CloseCode::NORMAL, "")?;
                socket.sender().try_send("hush-closed")?;
            }
            "/stuck" => loop {
                socket.send("hush-stuck ".repeat(1000)).await?;
            },
            "/wait" => pending().await,
            "/text" => {
                while let Some(message) = socket.recv().await? {
                    socket.send(message.into_text()?).await?;
                }
            }
            _ => {
                while let Some(message) = socket.recv().await? {
                    socket.send(message).await?;
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn layer() -> WebSocketLayer<ByPath> {
    let config = Config::new()
        .max_message_size(1000)
        .max_fragments(16, 4)
        .max_control_frames(1, 10);
    let layer = WebSocketLayer::new(ByPath).config(config);
    let layer = layer.max_per_key(1, |request| {
        let path = request.uri.path();
        assert_ne!(path, "/panic-in-key");
        (path == "/key").then_some("only one")
    });
    layer.max_per_peer(usize::MAX, |request| {
        let path = request.uri.path();
        (path != "/no-peer").then_some(IpAddr::from([192, 0, 2, 1]))
    })
}

/// Requests that are refused, each with its status and the label under which it is counted.
pub(crate) fn refusals() -> Vec<(u16, &'static str, String)> {
    const PATH: &str = "/?token=hush-query";
    let replace = |part: &str, other: &str| {
        let request = handshake(PATH);
        assert!(request.contains(part), "{part}");
        request.replace(part, other)
    };
    let with = |line: &str| handshake_with(PATH, &format!("{line}\r\n"));
    let large = format!("X-Large: {}", "hush".repeat(5000));
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let extensions = "Sec-WebSocket-Extensions: hush;;=hush";
    vec![
        (405, "invalid_method", replace("GET", "POST")),
        (400, "invalid_host", replace("example.com", "hush host")),
        (
            400,
            "missing_connection_upgrade",
            replace("Connection: Upgrade", "Connection: hush"),
        ),
        (400, "invalid_key", replace(key, "hush")),
        (426, "unsupported_version", replace(": 13", ": 8")),
        (400, "unexpected_body", with("Content-Length: 4")),
        (431, "headers_too_large", with(&large)),
        (403, "origin_denied", with("Origin: https://other.example")),
        (
            400,
            "invalid_subprotocols",
            with("Sec-WebSocket-Protocol: hush hush"),
        ),
        (400, "invalid_extensions", with(extensions)),
        (401, "refused", handshake("/refuse")),
        (500, "accept_panicked", handshake("/panic-in-accept")),
        (500, "accept_panicked", handshake("/panic-in-key")),
        (500, "unknown_peer", handshake("/no-peer")),
        (503, "accept_timeout", handshake("/late")),
    ]
}

/// Paths, the bytes that a client sends after the handshake, the side that closes, and the code.
pub(crate) fn endings() -> Vec<(&'static str, Vec<u8>, Side, Option<u16>)> {
    use Side::{Local, Remote};
    let handlers = [
        ("/return", 1000),
        ("/code", 4001),
        ("/close", 4002),
        ("/closed", 1000),
        ("/fail", 1011),
        ("/panic", 1011),
        ("/reason", 1011),
        ("/full", 1011),
    ];
    let fragments = |count, payload| frame(CONTINUATION, payload).repeat(count);
    let violations = [
        // In this order: reserved bits, no mask, an unknown opcode, a fragmented ping, a ping that is too long, a
        // continuation without a message, an illegal code.
        (frame(0xf1, b"hush-reserved"), 1002),
        (b"\x81\x04hush".to_vec(), 1002),
        (frame(FIN | 3, b"hush-opcode"), 1002),
        (frame(PING, b"hush-ping"), 1002),
        (frame(FIN | PING, &b"hush".repeat(40)), 1002),
        (frame(FIN | CONTINUATION, b"hush-end"), 1002),
        (close(1005, "a reason"), 1002),
        (frame(FIN | TEXT, b"hush\xff"), 1007),
        (frame(FIN | TEXT, &b"hush".repeat(300)), 1009),
        (
            [frame(TEXT, b"hush"), fragments(16, b"hush")].concat(),
            1008,
        ),
        ([frame(TEXT, b"hush"), fragments(5, b"")].concat(), 1008),
        // A message that is never completed.
        (frame(TEXT, b"hush-begin"), 1008),
        (frame(FIN | PING, b"hush-flood").repeat(11), 1008),
    ];
    let mut endings = vec![
        ("/", close(1000, "a reason"), Remote, Some(1000)),
        ("/", close(4999, "a reason"), Remote, Some(4999)),
        ("/", frame(FIN | CLOSE, b""), Remote, None),
        (
            "/text",
            frame(FIN | BINARY, b"hush-binary"),
            Local,
            Some(1003),
        ),
        // After these bytes, the client sends nothing, not even a pong.
        ("/", frame(FIN | TEXT, b"hush-text"), Local, None),
        ("/wait", frame(FIN | PONG, b"hush-pong"), Local, None),
    ];
    endings.extend(handlers.map(|(path, code)| (path, Vec::new(), Local, Some(code))));
    endings.extend(violations.map(|(bytes, code)| ("/", bytes, Local, Some(code))));
    endings
}

/// Writes to a peer that may be gone already.
pub(crate) async fn try_write(client: &mut DuplexStream, bytes: &[u8]) {
    let _ = client.write_all(bytes).await;
}

/// Reads up to the Close, answers it and drops the connection. Returns the code, if there was one.
pub(crate) async fn until_closed(mut client: DuplexStream) -> Option<u16> {
    while let Some(frame) = read_frame(&mut client).await {
        if frame.first == FIN | CLOSE {
            let code = frame.close_code();
            try_write(&mut client, &close(code.unwrap_or(1000), "")).await;
            return code;
        }
    }
    None
}
