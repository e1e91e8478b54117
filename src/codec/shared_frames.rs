//! Messages that many connections send together: their frames are encoded once.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Load, SharedMessage, frames::LARGE, segments::HEAD};

/// From this payload on, sharing the bytes of one frame costs less than copying them.
const SHARED: usize = 512;

/// The frames of several messages in one buffer, which connections write without a copy.
#[derive(Debug)]
pub(crate) struct SharedFrames {
    frames: Bytes,
    /// The messages, and the bytes of their payloads.
    load: Load,
}

impl SharedFrames {
    /// Encodes messages. Returns `None` if copying them costs less, or if their payloads are shared already.
    pub(crate) fn new(messages: &[&SharedMessage]) -> Option<Self> {
        let is_large = |message: &&SharedMessage| message.len() >= LARGE;
        if messages.iter().any(is_large) {
            return None;
        }
        let bytes: usize = messages.iter().map(|message| message.len()).sum();
        if messages.len() < 2 && bytes < SHARED {
            return None;
        }
        let mut frames = BytesMut::with_capacity(bytes + HEAD * messages.len());
        for message in messages {
            frames.put_slice(message.head());
            frames.put_slice(message.message().as_bytes());
        }
        let load = Load {
            messages: messages.len(),
            bytes,
        };
        Some(Self {
            frames: frames.freeze(),
            load,
        })
    }

    /// Returns the number of messages, and the bytes of their payloads.
    pub(crate) const fn load(&self) -> Load {
        self.load
    }

    /// Returns a handle of the encoded frames.
    pub(super) fn frames(&self) -> Bytes {
        self.frames.clone()
    }
}
