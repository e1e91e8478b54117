//! Messages that many connections send together: their frames are encoded once.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Load, SharedMessage, frames::LARGE, segments::HEAD};

/// From this payload on, sharing the bytes of one frame in a queue costs less than copying them.
const SHARED: usize = 512;

/// The frames of several messages in one buffer, which connections write without a copy.
#[derive(Debug)]
pub(crate) struct SharedFrames {
    frames: Bytes,
    /// The messages, and the bytes of their payloads.
    load: Load,
}

impl SharedFrames {
    /// Encodes messages. Returns `None` if their payloads are so large that connections share these.
    pub(crate) fn new(messages: &[&SharedMessage]) -> Option<Self> {
        let is_large = |message: &&SharedMessage| message.len() >= LARGE;
        if messages.iter().any(is_large) {
            return None;
        }
        let bytes: usize = messages.iter().map(|message| message.len()).sum();
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

    /// Returns whether queueing these costs less than copying the messages.
    pub(super) const fn are_worth_sharing(&self) -> bool {
        self.load.messages >= 2 || self.load.bytes >= SHARED
    }

    /// Returns the encoded frames.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.frames
    }

    /// Returns a handle of the encoded frames.
    pub(super) fn frames(&self) -> Bytes {
        self.frames.clone()
    }
}
