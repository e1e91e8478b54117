//! Settings of one connection, which the handler chooses when it accepts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use http::{HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS, request::Parts};
use support::{pipe, wire};
use tokio::{
    io::DuplexStream,
    time::{Instant, timeout},
};
use tower_websocket::{
    Accept, BoxError, Config, Echo, Handler, Refusal, WebSocket, WebSocketLayer,
};
use wire::{BINARY, CLOSE, FIN, frame, read_frame, write};

const GUARD: Duration = Duration::from_secs(3600);

/// Echoes with settings that depend on the path.
#[derive(Clone)]
struct ByPath;

impl Handler for ByPath {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let accept = Accept::new();
        Ok(match request.uri.path() {
            "/token" => accept.configure(|config| config.max_lifetime(Duration::from_secs(90))),
            "/small" => accept.configure(|config| config.max_message_size(10)),
            #[cfg(feature = "deflate")]
            "/plain" => accept.configure(Config::without_deflate),
            "/twice" => accept
                .configure(|config| config.max_message_size(10))
                .configure(|config| config.max_message_size(20)),
            "/panic" => accept.configure(|_| panic!("on purpose")),
            "/offer" => {
                // The client's own offer counts, even if the handler changes the request.
                let offer = HeaderValue::from_static("permessage-deflate");
                request.headers.insert(SEC_WEBSOCKET_EXTENSIONS, offer);
                accept.configure(|config| config)
            }
            "/remove" => {
                request.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
                accept.configure(|config| config)
            }
            _ => accept,
        })
    }

    async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
        Echo::new().handle(socket).await
    }
}

fn config() -> Config {
    let config = Config::new().max_message_size(1000);
    #[cfg(feature = "deflate")]
    let config = config.deflate(tower_websocket::Deflate::new());
    config
}

async fn ask(path: &str, fields: &str) -> (String, DuplexStream) {
    let layer = WebSocketLayer::new(ByPath).config(config());
    pipe::ask_at(&layer, path, fields).await
}

/// Returns the code of the Close that a message of `len` bytes is answered with, if it is.
async fn code_after(path: &str, len: usize) -> Option<u16> {
    let (head, mut client) = ask(path, "").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    write(&mut client, &frame(FIN | BINARY, &vec![0; len])).await;
    let answer = timeout(GUARD, read_frame(&mut client)).await.unwrap();
    let answer = answer.unwrap();
    match answer.first {
        CLOSE_FRAME => answer.close_code(),
        _ => None,
    }
}

const CLOSE_FRAME: u8 = FIN | CLOSE;

#[tokio::test(start_paused = true)]
async fn sets_the_limits_of_one_connection() {
    for (path, len, code) in [
        ("/small", 10, None),
        ("/small", 11, Some(1009)),
        ("/twice", 20, None),
        ("/twice", 21, Some(1009)),
        ("/", 1000, None),
        ("/", 1001, Some(1009)),
        ("/offer", 1000, None),
        ("/offer", 1001, Some(1009)),
    ] {
        assert_eq!(code_after(path, len).await, code, "{path} {len}");
    }
}

#[tokio::test(start_paused = true)]
async fn ends_a_connection_with_its_token() {
    let (_, mut client) = ask("/token", "").await;
    let start = Instant::now();
    let close = loop {
        let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
        let frame = frame.unwrap();
        if frame.first == CLOSE_FRAME {
            break frame;
        }
        // A ping.
        write(&mut client, &wire::frame(FIN | wire::PONG, &frame.payload)).await;
    };
    assert_eq!(close.close_code(), Some(1001));
    assert_eq!(start.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn refuses_with_500_where_the_function_panics() {
    let (head, _) = ask("/panic", "").await;
    assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    // Other connections are served.
    assert_eq!(code_after("/", 7).await, None);
}

#[cfg(feature = "deflate")]
#[tokio::test(start_paused = true)]
async fn compresses_some_connections_and_others_not() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let two = format!("Sec-WebSocket-Extensions: x-unknown\r\n{offer}");
    for (path, offered, compressed) in [
        ("/", offer, true),
        ("/token", offer, true),
        ("/token", &*two, true),
        ("/plain", offer, false),
        ("/plain", &*two, false),
        ("/", "", false),
        ("/offer", "", false),
        ("/offer", "Sec-WebSocket-Extensions: x-unknown\r\n", false),
        ("/offer", offer, true),
        ("/remove", offer, true),
        ("/remove", "", false),
    ] {
        let (head, _) = ask(path, offered).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let head = head.to_ascii_lowercase();
        let answer = head.contains("sec-websocket-extensions: permessage-deflate");
        assert_eq!(answer, compressed, "{path} {offered:?}");
    }
}
