//! Rooms write to the TCP streams of connections that sleep: what may go wrong between the rooms, the connection, its
//! senders and the peer.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::io;

use support::{
    settle, tcp,
    wire::{self, FIN, Frame, TEXT, frame, read_frame, write},
    within,
};
use tokio::{
    net::TcpStream,
    sync::mpsc::{self, UnboundedReceiver},
};
use tower_websocket::{
    BoxError, Config, Sender, WebSocket, WebSocketLayer,
    error::RecvError,
    hub::{Hub, Membership},
};

/// A connection in the room `a`, and its peer.
struct Peer {
    client: TcpStream,
    sender: Sender,
    membership: Membership,
    /// The result of the handler's last receive.
    ends: UnboundedReceiver<Option<RecvError>>,
}

impl Peer {
    /// The handler joins the room, then sends texts back until the end.
    async fn join(hub: &Hub, config: Config) -> Self {
        Self::join_with(hub, config, "").await
    }

    async fn join_with(hub: &Hub, config: Config, lines: &str) -> Self {
        let (to_test, mut members) = mpsc::unbounded_channel();
        let (ended, ends) = mpsc::unbounded_channel();
        let room = hub.room("a");
        let handler = move |mut socket: WebSocket| {
            let (room, to_test, ended) = (room.clone(), to_test.clone(), ended.clone());
            async move {
                let membership = room.join(&socket, ()).await?;
                to_test.send((socket.sender(), membership)).unwrap();
                let end = loop {
                    match socket.recv().await {
                        Ok(Some(message)) => drop(socket.send(message).await),
                        Ok(None) => break None,
                        Err(error) => break Some(error),
                    }
                };
                drop(ended.send(end));
                Ok::<_, BoxError>(())
            }
        };
        let layer = WebSocketLayer::new(handler).config(config.without_keepalive());
        let address = tcp::serve(layer.into_service()).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let _ = wire::upgrade(&mut client, &wire::handshake_with("/", lines)).await;
        let (sender, membership) = within(members.recv()).await.unwrap();
        Self {
            client,
            sender,
            membership,
            ends,
        }
    }

    async fn frame(&mut self) -> Frame {
        within(read_frame(&mut self.client)).await.unwrap()
    }

    async fn text(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame.first, FIN | TEXT);
        String::from_utf8(frame.payload).unwrap()
    }

    /// The connection sleeps after this, because this task runs only while it does.
    async fn sleeps(&mut self) {
        write(&mut self.client, &frame(FIN | TEXT, b"are you there?")).await;
        assert_eq!(self.text().await, "are you there?");
        settle().await;
    }
}

#[tokio::test]
async fn the_first_message_of_a_connection_may_be_one_of_a_sender() {
    let hub = Hub::new();
    let mut peer = Peer::join(&hub, Config::new()).await;
    settle().await;
    peer.sender.try_send("from a sender").unwrap();
    assert_eq!(peer.text().await, "from a sender");
    peer.membership.send("from a room").unwrap();
    assert_eq!(peer.text().await, "from a room");
}

/// The system reports a reset once, to the first who writes or reads.
#[tokio::test]
async fn a_handler_learns_of_a_reset_that_a_room_has_met_first() {
    for is_room_first in [false, true] {
        let hub = Hub::new();
        let mut peer = Peer::join(&hub, Config::new()).await;
        peer.sleeps().await;
        peer.client.set_zero_linger().unwrap();
        drop(peer.client);
        if is_room_first {
            // Its task runs before the runtime asks the system what has happened.
            peer.membership.send("nobody reads this").unwrap();
        }
        let end = within(peer.ends.recv()).await.unwrap();
        let Some(RecvError::Io(error)) = end else {
            panic!("{is_room_first}: {end:?}");
        };
        let kind = error.kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset, "{is_room_first}");
        let closed = within(peer.sender.closed()).await;
        assert!(!closed.is_clean());
    }
}
