//! No connection over TCP outlives its peer, for all messages of the peer and all kinds of handler.

#[path = "outlive/mod.rs"]
mod outlive;
mod support;

use std::{sync::Arc, time::Duration};

use outlive::{
    Stream,
    network::{Cable, Kind, Server, run, within},
};
use pipe::Served;
use support::{pipe, wire};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
    time::sleep,
};
use tower_websocket::{Error, WebSocket, WebSocketLayer, error::RecvError};
use wire::{FIN, TEXT, frame};

struct Tcp;

impl Kind for Tcp {
    const STREAM: Stream = Stream::Tcp;
    type Socket = Cable;
    type Session = ();

    fn serve(&self, stream: TcpStream, service: impl Served) {
        pipe::serve_on(stream, service);
    }

    async fn open(&self, mut cable: Cable) -> (Cable, ()) {
        wire::upgrade(&mut cable, &wire::handshake("/")).await;
        (cable, ())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_tcp_end_with_their_peers() {
    run(Tcp).await;
}

/// A closed socket answers further bytes with a reset.
#[tokio::test]
async fn everything_is_received_from_a_peer_that_has_closed_its_socket_by_a_handler_that_answers() {
    const SENT: usize = 40;
    let closed = Arc::new(Notify::new());
    let (notes, mut heard) = mpsc::unbounded_channel();
    let layer = WebSocketLayer::new({
        let closed = Arc::clone(&closed);
        move |mut socket: WebSocket| {
            let (closed, notes) = (Arc::clone(&closed), notes.clone());
            async move {
                closed.notified().await;
                let mut received = 0;
                let end = loop {
                    sleep(Duration::from_millis(20)).await;
                    match socket.recv().await {
                        Ok(Some(message)) => {
                            received += 1;
                            // These bytes are lost.
                            let _ = socket.send(message).await;
                        }
                        end => break end,
                    }
                };
                notes.send((received, end))?;
                Ok::<_, Error>(())
            }
        }
    });
    let server = Server::start(Arc::new(Tcp), layer.into_service()).await;
    let mut client = wire::open(server.address, "/").await;
    let message = frame(FIN | TEXT, b"and then");
    wire::write(&mut client, &message.repeat(SENT)).await;
    drop(client);
    closed.notify_one();
    let (received, end) = within("the end", heard.recv()).await.unwrap();
    assert_eq!(received, SENT);
    assert!(matches!(end, Err(RecvError::Io(_))), "{end:?}");
}
