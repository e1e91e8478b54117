//! What the peer of a connection may send, and what it did that it may not.

use std::time::Duration;

use super::{deflate::Deflation, utf8::InvalidUtf8};
use crate::words::CloseCode;

/// How much a peer may send, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a message.
    pub(crate) message: usize,
    /// Bytes of a data frame's payload.
    pub(crate) frame: usize,
    /// Frames of a message that has more than one.
    pub(crate) fragments: u32,
    /// Empty frames of a message, the last one aside.
    pub(crate) empty_fragments: u32,
    /// Time from the first byte of a message, or of a control frame outside of one, to its last.
    pub(crate) assembly: Option<Duration>,
}

/// Which side of a connection this one is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Role {
    /// It took the handshake: what arrives is masked, what leaves is not (RFC 6455 §5.1).
    #[default]
    Server,
    /// It asked for the handshake: what leaves is masked, what arrives is not.
    #[cfg_attr(
        not(any(test, tower_websocket_fuzzing, feature = "client")),
        expect(
            dead_code,
            reason = "connections are only accepted without the feature"
        )
    )]
    Client,
}

/// What the peer of a connection may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    /// How messages may be compressed, if they may.
    pub(crate) deflation: Option<Deflation>,
}

/// What a peer did that it may not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Violation {
    /// It broke the rule that these words say.
    Protocol(&'static str),
    /// A text, or the reason of a Close, is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8,
    /// A frame or message is over [`Limits::frame`] or [`Limits::message`].
    TooLarge,
    /// A message is over [`Limits::fragments`] or [`Limits::empty_fragments`].
    TooManyFragments,
    /// A compressed message has too many streams that say next to nothing.
    #[cfg_attr(
        not(feature = "deflate"),
        expect(dead_code, reason = "nothing is compressed without the feature")
    )]
    TooManyFinalBlocks,
    /// What has begun was not whole in time: [`Limits::assembly`].
    TooSlow,
    /// More messages, or more of their bytes, than may be sent in that time.
    TooFast,
}

impl Violation {
    /// Returns what the peer is told.
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
