//! Rooms write to the TCP streams of connections that sleep: what may go wrong between the rooms, the connection, its
//! senders and the peer.

#![cfg(feature = "hub")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{
    settle, tcp,
    wire::{self, FIN, Frame, TEXT, read_frame},
    within,
};
use tokio::{net::TcpStream, sync::mpsc};
use tower_websocket::{
    BoxError, Config, Sender, WebSocket, WebSocketLayer,
    hub::{Hub, Membership},
};

/// A connection in the room `a`, and its peer.
struct Peer {
    client: TcpStream,
    sender: Sender,
    membership: Membership,
}

impl Peer {
    /// The handler joins the room, then sends texts back until the end.
    async fn join(hub: &Hub, config: Config) -> Self {
        Self::join_with(hub, config, "").await
    }

    async fn join_with(hub: &Hub, config: Config, lines: &str) -> Self {
        let (to_test, mut members) = mpsc::unbounded_channel();
        let room = hub.room("a");
        let handler = move |mut socket: WebSocket| {
            let (room, to_test) = (room.clone(), to_test.clone());
            async move {
                let membership = room.join(&socket, ()).await?;
                to_test.send((socket.sender(), membership)).unwrap();
                while let Some(message) = socket.recv().await? {
                    socket.send(message).await?;
                }
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
