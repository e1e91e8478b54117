//! The form in which a message is queued: as it is, or compressed.

use bytes::Bytes;

use crate::{
    codec::{Compression, Turn},
    message::Message,
};

/// What goes into a message's frame.
#[derive(Debug)]
pub(super) enum Form<'a> {
    Plain,
    Compressed(Bytes),
    /// It may refer to the messages before it, so it is compressed when it is queued.
    InTurn(&'a Compression),
}

/// Another message is being compressed.
#[derive(Debug)]
pub(super) struct Busy;

impl<'a> Form<'a> {
    /// Chooses the form of a message, which takes as long as it takes to compress it.
    pub(super) fn of(message: &Message, compression: Option<&'a Compression>) -> Self {
        match compression {
            Some(compression) if compression.applies_to(message.len()) => {
                if compression.has_turns() {
                    return Self::InTurn(compression);
                }
                let compressed = compression.compress(message.as_bytes());
                compressed.map_or(Self::Plain, Self::Compressed)
            }
            _ => Self::Plain,
        }
    }

    /// Waits for the message's turn, if there are turns.
    pub(super) fn turn(&self) -> Option<Turn<'a>> {
        match self {
            Self::InTurn(compression) => Some(compression.turn()),
            Self::Plain | Self::Compressed(_) => None,
        }
    }

    /// Takes the message's turn, if there are turns and no other message is being compressed.
    pub(super) fn try_turn(&self) -> Result<Option<Turn<'a>>, Busy> {
        match self {
            Self::InTurn(compression) => compression.try_turn().ok_or(Busy).map(Some),
            Self::Plain | Self::Compressed(_) => Ok(None),
        }
    }

    /// Returns the bytes for which there must be room.
    pub(super) fn len(&self, message: &Message) -> usize {
        match self {
            Self::Compressed(compressed) => compressed.len(),
            // As much as that at most, nearly: deflate can make a message larger by a little.
            Self::Plain | Self::InTurn(_) => message.len(),
        }
    }
}
