//! The types of the model: the place of the socket, the causes of an end, and the messages.

use std::{io, sync::LazyLock, time::Duration};

use tower_websocket::{Message, Side, error::RecvError};

/// The maximum time that an inbox may be full while the holder takes no message.
pub(crate) const INBOX_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The senders. Messages of one sender arrive in their order. This is the holder of the socket:
pub(crate) const HOLDER: usize = 0;
/// The holder, with a `Sender`. Of the actors, a handler without a socket.
pub(crate) const BESIDE: usize = 1;
/// The test itself.
pub(crate) const TEST: usize = 2;
pub(crate) const TASKS: usize = 3;
pub(crate) const SENDERS: usize = 6;
/// The sender in messages of the peer.
const PEER: usize = 0x7f;

/// The part of the configuration that the model uses.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes that the pipe holds in each direction.
    pub(crate) capacity: usize,
    /// The stream reads and writes in pieces, and is sometimes pending without a reason.
    pub(crate) pieces: bool,
    pub(crate) inbox: (usize, usize),
    pub(crate) outbox: (usize, usize),
    /// The silence before a ping, and the time to answer it.
    pub(crate) keepalive: Option<(Duration, Duration)>,
    pub(crate) write: Duration,
    pub(crate) assembly: Duration,
    pub(crate) close: Duration,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) message: usize,
    /// The largest message that a session sends, except to break a limit.
    pub(crate) largest: usize,
    /// The maximum number of frames in a message, and of empty frames among them.
    pub(crate) fragments: (u32, u32),
}

/// The places of the socket and of the handler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// The handler holds its socket.
    Inside,
    /// Another task holds the socket, and the handler continues without it.
    Moved,
    /// Another task holds the socket, and the handler waits for that task.
    Awaited,
    /// Another task holds the socket, and the handler has returned.
    Left,
    /// There is no handler: the socket was made by `from_io`.
    Alone,
}

/// How a handler ends, or a task that holds a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Ok,
    Error,
    Frame(u16),
    Panic,
}

/// A violation by the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Protocol,
    Utf8,
    TooLarge,
    Fragments,
}

/// A cause that may end a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// This side closed with a code.
    Local(u16),
    /// The peer closed, maybe with a code.
    Peer(Option<u16>),
    Violation(Fault),
    /// The peer ended its half of the stream without a Close.
    Fin,
    /// The peer dropped the stream.
    Reset,
    /// No pong came in time.
    Unresponsive,
    /// Nothing could be written in time.
    Stalled,
    /// The rest of a message did not come in time.
    TooSlow,
    Lifetime,
    /// Nothing was taken out of a full inbox in time.
    Neglected,
}

impl Cause {
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Peer(_) | Self::Fin | Self::Reset => Side::Remote,
            _ => Side::Local,
        }
    }

    /// Returns the code of the first Close.
    pub(crate) fn code(self) -> Option<u16> {
        match self {
            Self::Peer(code) => code,
            Self::Fin => None,
            cause => cause.sent(),
        }
    }

    /// Returns the code of the Close that this side sends, if it sends one with a code.
    pub(crate) fn sent(self) -> Option<u16> {
        match self {
            Self::Local(code) => Some(code),
            Self::Peer(code) => code,
            Self::Violation(Fault::Protocol) | Self::Fin => Some(1002),
            Self::Violation(Fault::Utf8) => Some(1007),
            Self::Violation(Fault::TooLarge) => Some(1009),
            Self::Violation(Fault::Fragments) | Self::TooSlow | Self::Neglected => Some(1008),
            Self::Lifetime => Some(1001),
            Self::Reset | Self::Unresponsive | Self::Stalled => None,
        }
    }

    /// Returns whether this side sends a Close.
    pub(crate) fn is_told(self) -> bool {
        !matches!(self, Self::Reset | Self::Unresponsive | Self::Stalled)
    }

    pub(crate) fn is_timed(self) -> bool {
        matches!(
            self,
            Self::Unresponsive | Self::Stalled | Self::TooSlow | Self::Lifetime | Self::Neglected
        )
    }

    pub(crate) fn is_of_the_stream(self) -> bool {
        matches!(self, Self::Violation(_) | Self::Fin)
    }
}

/// Returns the reason for a code that the test chose.
pub(crate) fn reason(code: u16) -> &'static str {
    if code >= 3000 && code % 2 == 0 {
        "as agreed"
    } else {
        ""
    }
}

/// Returns whether `recv` may return `error` for that cause.
pub(crate) fn explains(cause: Cause, error: &RecvError) -> bool {
    match error {
        RecvError::Protocol(_) => cause == Cause::Violation(Fault::Protocol),
        RecvError::InvalidUtf8 => cause == Cause::Violation(Fault::Utf8),
        RecvError::TooLarge => cause == Cause::Violation(Fault::TooLarge),
        RecvError::TooManyFragments => cause == Cause::Violation(Fault::Fragments),
        RecvError::TooSlow => cause == Cause::TooSlow,
        RecvError::Unresponsive => cause == Cause::Unresponsive,
        RecvError::Stalled => cause == Cause::Stalled,
        RecvError::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => matches!(cause, Cause::Fin | Cause::Reset),
            io::ErrorKind::ConnectionAborted => false,
            _ => cause == Cause::Reset,
        },
        _ => cause == Cause::Neglected,
    }
}

/// Builds a message of the peer.
pub(crate) fn peer_message(number: u32, largest: usize) -> Message {
    message(PEER, number, largest)
}

/// Builds a message that contains its sender and number. These also determine its length and kind.
pub(crate) fn message(sender: usize, number: u32, largest: usize) -> Message {
    static PATTERN: LazyLock<String> =
        LazyLock::new(|| "abcdeé€\u{10ffff}".chars().cycle().take(60_000).collect());
    let mix = number.wrapping_mul(0x9e37_79b1) ^ (sender as u32).wrapping_mul(0x85eb_ca6b);
    let len = mix as usize
        % match mix >> 24 {
            0 => largest,
            1..10 => largest.min(420),
            _ => largest.min(40),
        };
    let start = usize::from(mix.to_be_bytes()[1]);
    let mut payload = vec![u8::try_from(sender).unwrap()];
    // Bytes of seven bits are valid UTF-8.
    payload.extend((0..5).map(|digit| u8::try_from(number >> (7 * digit) & 0x7f).unwrap()));
    if mix & 0x80_0000 == 0 {
        payload.extend_from_slice(&PATTERN.as_bytes()[start..start + len]);
        return payload.into();
    }
    let boundary = |at: usize| (at..).find(|&at| PATTERN.is_char_boundary(at)).unwrap();
    payload.extend_from_slice(&PATTERN.as_bytes()[boundary(start)..boundary(start + len)]);
    String::from_utf8(payload).unwrap().into()
}

/// Reads the sender and the number of a message.
pub(crate) fn name(payload: &[u8]) -> (usize, u32) {
    let (Some(sender), Some(digits)) = (payload.first(), payload.get(1..6)) else {
        return (usize::MAX, 0);
    };
    let digits = digits.iter().rev();
    let number = digits.fold(0, |number, digit| number << 7 | u32::from(*digit));
    (usize::from(*sender), number)
}
