//! Tests of `examples/tunnel.rs`.

#[path = "../../examples/tunnel.rs"]
#[allow(dead_code, reason = "main is not called")]
mod example;

use std::{
    future::ready,
    io,
    sync::{Arc, Mutex},
};

use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::sleep,
};
use tower_websocket::testing::{Request, Wire, connect};

use super::{SECOND, client::code};

/// Returns a tunnel to the other end of the returned stream, which stands for the TCP server.
fn tunnel() -> (Router, DuplexStream) {
    let (server, dialled) = duplex(4096);
    let dialled = Arc::new(Mutex::new(Some(dialled)));
    let dial = move || {
        ready(
            dialled
                .lock()
                .unwrap()
                .take()
                .ok_or(io::ErrorKind::Other.into()),
        )
    };
    (example::app(dial), server)
}

/// Returns the two ends of both sides of a tunnel: the streams of a TCP client and of a TCP server.
async fn streams() -> (DuplexStream, DuplexStream, Wire) {
    let (app, server) = tunnel();
    let request = Request::new("/").config(example::config());
    let client = connect(app, request).await.unwrap();
    let wire = client.wire();
    let (user, accepted) = duplex(4096);
    tokio::spawn(example::join(client.into_socket(), accepted));
    (user, server, wire)
}

/// Reads to the end, and returns the number of bytes.
async fn rest(mut stream: DuplexStream) -> usize {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_in_both_directions() {
    let (mut user, mut server, _) = streams().await;
    for _ in 0..2 {
        let mut bytes = [0; 5];
        user.write_all(b"Hello").await.unwrap();
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"Hello");
        server.write_all(b"World").await.unwrap();
        user.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"World");
    }
}

#[tokio::test(start_paused = true)]
async fn the_user_reads_all_bytes_before_the_end_of_the_server() {
    let (user, mut server, _) = streams().await;
    let reading = tokio::spawn(rest(user));
    server.write_all(&[7; 1_000_000]).await.unwrap();
    drop(server);
    assert_eq!(reading.await.unwrap(), 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn the_server_reads_all_bytes_before_the_end_of_the_user() {
    let (mut user, server, _) = streams().await;
    let reading = tokio::spawn(rest(server));
    user.write_all(&[7; 1_000_000]).await.unwrap();
    drop(user);
    assert_eq!(reading.await.unwrap(), 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_user_may_pause_for_half_an_hour() {
    let (user, mut server, _) = streams().await;
    let writing = tokio::spawn(async move { server.write_all(&[7; 10_000_000]).await });
    sleep(30 * 60 * SECOND).await;
    // The tunnel holds a part, and the server waits.
    assert!(!writing.is_finished());
    assert_eq!(rest(user).await, 10_000_000);
    writing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_may_pause_for_half_an_hour() {
    let (mut user, server, _) = streams().await;
    let writing = tokio::spawn(async move { user.write_all(&[7; 10_000_000]).await });
    sleep(30 * 60 * SECOND).await;
    assert!(!writing.is_finished());
    assert_eq!(rest(server).await, 10_000_000);
    writing.await.unwrap().unwrap();
}

/// Sizes that fit into the buffers of the tunnel: of the streams, of the network, and of the rest.
const SIZES: [usize; 4] = [1_000, 50_000, 150_000, 500_000];

#[tokio::test(start_paused = true)]
async fn the_user_may_read_the_last_bytes_half_an_hour_after_the_end() {
    for size in SIZES {
        let (user, mut server, _) = streams().await;
        server.write_all(&vec![7; size]).await.unwrap();
        drop(server);
        sleep(30 * 60 * SECOND).await;
        assert_eq!(rest(user).await, size);
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_may_read_the_last_bytes_half_an_hour_after_the_end() {
    for size in SIZES {
        let (mut user, server, _) = streams().await;
        user.write_all(&vec![7; size]).await.unwrap();
        drop(user);
        sleep(30 * 60 * SECOND).await;
        assert_eq!(rest(server).await, size);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_may_wait_for_half_an_hour() {
    for size in SIZES {
        let mut bytes = vec![7; size];
        let (mut user, mut server, _) = streams().await;
        server.write_all(&bytes).await.unwrap();
        sleep(30 * 60 * SECOND).await;
        user.read_exact(&mut bytes).await.unwrap();
        user.write_all(&bytes).await.unwrap();
        sleep(30 * 60 * SECOND).await;
        server.read_exact(&mut bytes).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn both_ends_are_closed_if_the_websocket_is_lost() {
    let (user, server, wire) = streams().await;
    wire.cut();
    assert_eq!(rest(user).await, 0);
    assert_eq!(rest(server).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached_is_a_502() {
    let app = example::app(|| ready(Err::<DuplexStream, _>(io::ErrorKind::TimedOut.into())));
    let error = connect(app, "/").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().status(), 502);
}

#[tokio::test(start_paused = true)]
async fn text_ends_with_1003() {
    let (app, _server) = tunnel();
    let mut client = connect(app, "/").await.unwrap();
    client.send("Hello").await.unwrap();
    assert_eq!(code(&mut client).await, Some(1003));
}
