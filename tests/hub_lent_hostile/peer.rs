//! A server whose connections are in a room, and their peers.

use std::{net::SocketAddr, str};

use tokio::{
    net::TcpStream,
    sync::mpsc::{self, UnboundedReceiver},
};
use tower_websocket::{
    BoxError, Config, Sender, WebSocket, WebSocketLayer,
    error::RecvError,
    hub::{Hub, Membership},
};

use crate::support::{
    settle, tcp,
    wire::{self, FIN, Frame, TEXT, frame, read_frame, write},
    within,
};

/// Its handler joins the room `a`, then sends messages back until the end.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) members: UnboundedReceiver<(Sender, Membership)>,
    /// The results of the handlers' last receives.
    pub(crate) ends: UnboundedReceiver<Option<RecvError>>,
}

impl Server {
    pub(crate) async fn new(hub: &Hub, config: Config) -> Self {
        let (to_test, members) = mpsc::unbounded_channel();
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
        let layer = WebSocketLayer::new(handler).config(config);
        Self {
            address: tcp::serve(layer.into_service()).await,
            members,
            ends,
        }
    }

    pub(crate) async fn member(&mut self) -> (Sender, Membership) {
        within(self.members.recv()).await.unwrap()
    }
}

/// A connection in the room, and its peer.
pub(crate) struct Peer {
    pub(crate) client: TcpStream,
    pub(crate) sender: Sender,
    pub(crate) membership: Membership,
    /// The result of the handler's last receive.
    pub(crate) ends: UnboundedReceiver<Option<RecvError>>,
}

impl Peer {
    pub(crate) async fn join(hub: &Hub, config: Config) -> Self {
        let mut server = Server::new(hub, config.without_keepalive()).await;
        let client = wire::open(server.address, "/").await;
        let (sender, membership) = server.member().await;
        Self {
            client,
            sender,
            membership,
            ends: server.ends,
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        within(read_frame(&mut self.client)).await.unwrap()
    }

    pub(crate) async fn text(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame.first, FIN | TEXT);
        String::from_utf8(frame.payload).unwrap()
    }

    /// The connection sleeps after this, because this task runs only while it does.
    pub(crate) async fn sleeps(&mut self) {
        write(&mut self.client, &frame(FIN | TEXT, b"are you there?")).await;
        assert_eq!(self.text().await, "are you there?");
        settle().await;
    }
}

/// A payload that shows where it was cut: its number, again and again.
pub(crate) fn numbered(number: usize, words: usize) -> String {
    format!("{number:07} ").repeat(words)
}

pub(crate) fn number_of(payload: &[u8]) -> usize {
    let text = str::from_utf8(payload).unwrap();
    let number = &text[..8];
    assert_eq!(number.repeat(text.len() / 8), text);
    number.trim().parse().unwrap()
}

/// Sends numbered messages until the peer's system takes no more. Returns their number.
pub(crate) async fn fill(peer: &Peer, words: usize) -> usize {
    for number in 0..10_000 {
        peer.membership.send(numbered(number, words)).unwrap();
        settle().await;
        if peer.sender.buffered().messages > 0 {
            return number + 1;
        }
    }
    panic!("the peer's system takes everything");
}
