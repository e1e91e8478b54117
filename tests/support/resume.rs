//! Members of rooms with a history, in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use tokio::io::DuplexStream;
use tower_websocket::{
    Config, WebSocket,
    hub::{
        GapReason, Hub, HubConfig, Join, Json, Membership, Position, Recovery, Room, RoomConfig,
    },
};

use super::{
    pipe,
    wire::{FIN, Frame, TEXT, read_frame},
    within,
};

pub(crate) fn json() -> RoomConfig {
    RoomConfig::new().envelope(Json::without_values())
}

pub(crate) fn hub(config: impl Fn() -> RoomConfig + Send + Sync + 'static) -> Hub {
    Hub::with(HubConfig::new().rooms(move |_| config()))
}

pub(crate) struct Client {
    pub(crate) member: Membership,
    pub(crate) _socket: WebSocket,
    pub(crate) stream: DuplexStream,
}

pub(crate) fn socket() -> (WebSocket, DuplexStream) {
    pipe::socket(Config::new().without_keepalive(), 1 << 20)
}

pub(crate) async fn join(room: &Room, manner: impl FnOnce(Join) -> Join) -> Client {
    let (socket, stream) = socket();
    let member = manner(room.join(&socket, ())).await.unwrap();
    Client {
        member,
        _socket: socket,
        stream,
    }
}

pub(crate) async fn read(stream: &mut DuplexStream) -> Frame {
    within(read_frame(stream)).await.unwrap()
}

/// Returns a field of an object, up to the next quote, comma or brace.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
    rest.trim_start_matches('"').split(['"', ',', '}']).next()
}

impl Client {
    /// Returns the next message and its position. Lists of members are passed over.
    pub(crate) async fn message(&mut self) -> (usize, Position) {
        loop {
            let frame = read(&mut self.stream).await;
            assert_eq!(frame.first, FIN | TEXT);
            let text = String::from_utf8(frame.payload).unwrap();
            if let Some(data) = field(&text, "data") {
                let at = field(&text, "at").unwrap_or_else(|| panic!("{text}"));
                return (data.parse().unwrap(), at.into());
            }
            assert_eq!(field(&text, "gap"), None, "{text}");
        }
    }

    pub(crate) async fn messages(&mut self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            assert_eq!(self.message().await.0, number);
        }
    }
}

/// The number of messages that a client has missed and gets, or the reason why it does not.
pub(crate) fn outcome(recovery: Recovery) -> Result<usize, GapReason> {
    match recovery {
        Recovery::Recovered {
            messages,
            withheld: 0,
            ..
        } => Ok(messages),
        Recovery::Gap { reason, .. } => Err(reason),
        other => panic!("{other:?}"),
    }
}
