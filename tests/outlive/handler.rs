//! The handlers of the matrix, and the events that they report.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{future::pending, time::Duration};

use tokio::{
    sync::{broadcast, mpsc},
    time::sleep,
};
use tower_websocket::{
    BoxError, Handler, IntoHandler, Message, Sender, WebSocket, error::RecvError,
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Behaviour {
    /// Holds the socket and waits for the end of the connection.
    NeverReceives,
    /// Holds the socket and waits for something that never comes.
    NeverReturns,
    /// Moves the socket to a task that receives, and returns.
    MovedReceives,
    /// Moves the socket to a task that waits for something that never comes, and returns.
    MovedNeverReceives,
    /// Sends until that fails.
    OnlySends,
    /// Ignores messages, and sends until that fails.
    OnlySendsIgnoring,
    /// Ignores messages, and sends the rare events of a topic until the connection has ended.
    OnlySendsATopic,
    /// Drops the socket and sends by a `Sender` until that fails.
    OnlySendsBySender,
    /// Receives slowly.
    Slow,
}

impl Behaviour {
    pub(crate) const ALL: [Self; 9] = [
        Self::NeverReceives,
        Self::NeverReturns,
        Self::MovedReceives,
        Self::MovedNeverReceives,
        Self::OnlySends,
        Self::OnlySendsIgnoring,
        Self::OnlySendsATopic,
        Self::OnlySendsBySender,
        Self::Slow,
    ];

    /// Returns whether the handler or its task receives.
    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::MovedReceives | Self::Slow)
    }

    /// Returns whether messages leave the inbox: they are received or ignored.
    pub(crate) fn takes(self) -> bool {
        !matches!(
            self,
            Self::NeverReceives | Self::NeverReturns | Self::MovedNeverReceives | Self::OnlySends
        )
    }

    /// Returns whether the handler sends repeatedly on its own.
    pub(crate) fn sends(self) -> bool {
        matches!(
            self,
            Self::OnlySends | Self::OnlySendsIgnoring | Self::OnlySendsBySender
        )
    }

    /// Returns whether the handler returns when the connection is over, or before.
    pub(crate) fn returns(self) -> bool {
        self != Self::NeverReturns
    }

    /// Returns whether the handler returns before the connection is over.
    pub(crate) fn moves(self) -> bool {
        matches!(self, Self::MovedReceives | Self::MovedNeverReceives)
    }

    async fn run(
        self,
        mut socket: WebSocket,
        tick: Duration,
        notes: Notes,
    ) -> Result<(), BoxError> {
        match self {
            Self::NeverReceives => {
                socket.closed().await;
            }
            Self::NeverReturns => {
                let _socket = socket;
                pending::<()>().await;
            }
            Self::MovedReceives => {
                tokio::spawn(receive(socket, Duration::ZERO, notes));
            }
            Self::MovedNeverReceives => {
                tokio::spawn(async {
                    let _socket = socket;
                    pending::<()>().await;
                });
            }
            Self::OnlySends => loop {
                sleep(tick).await;
                socket.send("tick").await?;
            },
            Self::OnlySendsIgnoring => {
                socket.ignore_incoming();
                loop {
                    sleep(tick).await;
                    socket.send("tick").await?;
                }
            }
            Self::OnlySendsATopic => {
                let (_publisher, mut topic) = broadcast::channel::<String>(1);
                socket.ignore_incoming();
                let closed = socket.closed();
                tokio::pin!(closed);
                loop {
                    tokio::select! {
                        news = topic.recv() => socket.send(news?).await?,
                        _ = &mut closed => break,
                    }
                }
            }
            Self::OnlySendsBySender => {
                let sender = socket.sender();
                drop(socket);
                loop {
                    sleep(tick).await;
                    sender.send("tick").await?;
                }
            }
            Self::Slow => receive(socket, tick, notes).await,
        }
        Ok(())
    }
}

/// Receives until the end, and answers each message with its number.
async fn receive(mut socket: WebSocket, pause: Duration, notes: Notes) {
    loop {
        let over = match socket.recv().await {
            Ok(Some(message)) => {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                // This fails if the peer can no longer receive. Messages that it has sent are received anyway.
                let number = message.as_bytes()[..1].to_vec();
                let _ = socket.send(number).await;
                notes.send(Note::Received(message));
                continue;
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        notes.send(Note::Over(over));
        return;
    }
}

/// Reports the events of a handler.
#[derive(Clone)]
pub(crate) struct Notes(mpsc::UnboundedSender<Note>);

enum Note {
    Opened(Sender),
    Received(Message),
    /// The result of `recv` after the messages.
    Over(Result<(), RecvError>),
    /// The handler has returned, or was dropped before it did.
    Ended {
        returned: bool,
    },
}

impl Notes {
    fn send(&self, note: Note) {
        // The test may be over.
        let _ = self.0.send(note);
    }
}

/// Notes how a handler ends.
struct Ending {
    notes: Notes,
    returned: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let returned = self.returned;
        self.notes.send(Note::Ended { returned });
    }
}

/// Makes a handler, and a receiver of its events. `tick` is the interval of a handler that only sends, or the
/// time that a slow handler takes for a message.
pub(crate) fn handler(behaviour: Behaviour, tick: Duration) -> (impl Handler, Heard) {
    let (notes, heard) = mpsc::unbounded_channel();
    let notes = Notes(notes);
    let handler = move |socket: WebSocket| {
        let notes = notes.clone();
        async move {
            let mut ending = Ending {
                notes: notes.clone(),
                returned: false,
            };
            notes.send(Note::Opened(socket.sender()));
            let result = behaviour.run(socket, tick, notes).await;
            ending.returned = true;
            result
        }
    };
    (handler.into_handler(), Heard(heard))
}

/// The events of one run of a handler.
pub(crate) struct Heard(mpsc::UnboundedReceiver<Note>);

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) received: Vec<Message>,
    pub(crate) over: Option<Result<(), RecvError>>,
    pub(crate) returned: bool,
}

impl Heard {
    /// Waits for the handler to begin. The returned value does not keep the connection open.
    pub(crate) async fn opened(&mut self) -> Sender {
        match self.0.recv().await.unwrap() {
            Note::Opened(sender) => sender,
            _ => panic!("the handler did not begin"),
        }
    }

    /// Waits until the handler has ended. If it receives, also waits until it has received the end.
    pub(crate) async fn seen(&mut self, behaviour: Behaviour) -> Seen {
        let mut seen = Seen::default();
        let mut ended = false;
        while !ended || (behaviour.receives() && seen.over.is_none()) {
            match self.0.recv().await.unwrap() {
                Note::Opened(_) => panic!("the handler began twice"),
                Note::Received(message) => seen.received.push(message),
                Note::Over(over) => seen.over = Some(over),
                Note::Ended { returned } => {
                    ended = true;
                    seen.returned = returned;
                }
            }
        }
        seen
    }
}
