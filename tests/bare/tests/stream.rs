//! The crate finds the `TcpStream` in the upgraded connection of `axum::serve`, with the hyper-util features
//! of this application.
//!
//! The crate uses a found stream without the server's wrappers, and sets `TCP_NODELAY` on it. This test
//! checks the option.

#![cfg(all(unix, feature = "websocket"))]

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::fd::AsFd,
    sync::mpsc,
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use tokio::net::TcpListener;
use tower_websocket::{Echo, WebSocketLayer};

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: localhost\r\n\
    Connection: Upgrade\r\n\
    Upgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Reads until the end of `pattern`.
fn read_past(stream: &mut TcpStream, pattern: &[u8]) -> io::Result<()> {
    let mut read = Vec::new();
    while !read.ends_with(pattern) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        read.extend(byte);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn finds_the_stream_of_axum() -> io::Result<()> {
    let (to_test, accepted) = mpsc::channel();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    // A second handle to the same socket, to read its options.
    let listener = listener.tap_io(move |stream| {
        let socket = stream.as_fd().try_clone_to_owned();
        drop(to_test.send(socket.map(TcpStream::from)));
    });
    let app = Router::new().layer(WebSocketLayer::new(Echo::new()));
    tokio::spawn(async move { axum::serve(listener, app).await });

    tokio::task::spawn_blocking(move || {
        let mut client = TcpStream::connect(address)?;
        client.set_read_timeout(Some(Duration::from_secs(60)))?;
        client.write_all(HANDSHAKE)?;
        read_past(&mut client, b"\r\n\r\n")?;
        // After an answer the connection is set up. The mask is zero.
        client.write_all(b"\x81\x85\0\0\0\0hello")?;
        read_past(&mut client, b"\x81\x05hello")?;
        let server = accepted.recv().map_err(io::Error::other)??;
        assert!(server.nodelay()?, "the stream was not found");
        Ok(())
    })
    .await?
}
