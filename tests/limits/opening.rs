//! The opening handshake.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep},
};
use tower_websocket::{
    Accept, BoxError, CountedCode, Echo, Handler, Refusal, Side, WebSocket, WebSocketLayer,
};

use super::{BUFFER, MILLI, seconds};
use crate::support::{
    pipe,
    wire::{handshake, read_head, write},
};

/// Accepts after this time.
struct Slow(Duration);

impl Handler for Slow {
    async fn accept(&self, _: &mut http::request::Parts) -> Result<Accept, Refusal> {
        sleep(self.0).await;
        Ok(Accept::new())
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        while socket.recv().await?.is_some() {}
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_with_503_when_the_handler_takes_too_long_to_accept() {
    for (set, limit) in [(None, seconds(10)), (Some(seconds(2)), seconds(2))] {
        let layer = |slow| match set {
            Some(limit) => WebSocketLayer::new(slow).accept_timeout(limit),
            None => WebSocketLayer::new(slow),
        };
        let late = layer(Slow(limit + MILLI));
        let connections = late.connections();
        let mut client = pipe::serve(late.into_service(), BUFFER);
        let start = Instant::now();
        write(&mut client, handshake("/").as_bytes()).await;
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(start.elapsed(), limit);
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.accepted()), (0, 0));
        assert_eq!(counts.refused_as("accept_timeout"), 1);

        pipe::open(layer(Slow(limit - MILLI)).into_service(), BUFFER).await;
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_a_connection_that_is_not_handed_over_in_time() {
    let layer = WebSocketLayer::new(Echo::new());
    for (layer, limit) in [
        (WebSocketLayer::new(Echo::new()), seconds(10)),
        (layer.upgrade_timeout(seconds(2)), seconds(2)),
    ] {
        let connections = layer.connections();
        // The 101 does not fit, and is not read: hyper cannot hand over the connection.
        let mut client = pipe::serve(layer.into_service(), 16);
        let start = Instant::now();
        write(&mut client, handshake("/").as_bytes()).await;
        sleep(MILLI).await;
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.accepted()), (1, 1));
        connections.wait().await;
        assert_eq!(start.elapsed(), limit);
        let counts = connections.counts();
        assert_eq!((counts.open(), counts.accepted()), (0, 1));
        assert_eq!(counts.closed_as(Side::Local, CountedCode::None), 1);
        // A client that reads the 101 later finds the connection closed.
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
