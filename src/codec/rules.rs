//! The rules for the peer of a connection, and their violations.

use std::time::Duration;

use super::utf8::InvalidUtf8;
use crate::words::CloseCode;

/// Limits on the messages of a peer. Every message needs the first two.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Limits {
    /// Bytes of a message.
    pub(crate) message: usize,
    /// Bytes of a data frame's payload.
    pub(crate) frame: usize,
    /// Frames of a fragmented message.
    pub(crate) fragments: u32,
    /// Empty frames of a message, not counting its last frame.
    pub(crate) empty_fragments: u32,
    /// Time from the first to the last byte of a message, or of a control frame outside of a message. [`Duration::MAX`]
    /// is no limit.
    pub(crate) assembly: Duration,
}

/// The role of this side of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Role {
    /// This side accepted the handshake. Incoming frames are masked, outgoing frames are not (RFC 6455 §5.1).
    #[default]
    Server,
    /// This side started the handshake. Outgoing frames are masked, incoming frames are not.
    #[cfg_attr(
        not(any(test, tower_websocket_fuzzing, feature = "client")),
        expect(
            dead_code,
            reason = "without the feature, the crate only accepts connections"
        )
    )]
    Client,
}

/// The rules for the head of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadRules<'a> {
    pub(super) role: Role,
    pub(super) limits: &'a Limits,
    /// Messages may be compressed.
    pub(super) compression: bool,
}

/// A violation of the rules by the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Violation {
    /// A frame breaks the protocol. The text describes the fault.
    Protocol(&'static str),
    /// A text, or the reason of a Close, is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8,
    /// A frame or message is over [`Limits::frame`] or [`Limits::message`].
    TooLarge,
    /// A message is over [`Limits::fragments`] or [`Limits::empty_fragments`].
    TooManyFragments,
    /// A compressed message has too many tiny deflate streams.
    #[cfg_attr(
        not(feature = "deflate"),
        expect(dead_code, reason = "without the feature, no message is compressed")
    )]
    TooManyFinalBlocks,
    /// A message or control frame took longer than [`Limits::assembly`].
    TooSlow,
    /// The peer exceeded the rate limit for messages or for their bytes.
    TooFast,
}

impl Violation {
    /// Returns the close code that is sent to the peer.
    pub(crate) const fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::TooLarge => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments | Self::TooManyFinalBlocks | Self::TooSlow | Self::TooFast => {
                CloseCode::POLICY_VIOLATION
            }
        }
    }
}

impl From<InvalidUtf8> for Violation {
    fn from(InvalidUtf8: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}
