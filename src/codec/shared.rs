//! Messages that many connections send. The head of a frame is made once, and so are the bytes of several frames.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Load, frames::LARGE};
use crate::words::Message;

/// The length of the longest head without a mask: two bytes, and eight of length.
const HEAD: usize = 10;

/// A message with the head of its unmasked, uncompressed frame.
#[derive(Debug)]
pub(crate) struct SharedMessage {
    message: Message,
    head: [u8; HEAD],
    head_len: u8,
}

impl SharedMessage {
    pub(crate) fn new(message: Message) -> Self {
        let first = if message.is_text() { 0x81 } else { 0x82 };
        let len = message.len();
        let mut head = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // RFC 6455 §5.2: seven bits, or 126 and 16 bits, or 127 and 64 bits.
        let head_len = match u16::try_from(len) {
            Ok(len) if len < 126 => {
                head[1] = len as u8;
                2
            }
            Ok(len) => {
                head[1] = 126;
                head[2..4].copy_from_slice(&len.to_be_bytes());
                4
            }
            Err(_) => {
                head[1] = 127;
                head[2..].copy_from_slice(&(len as u64).to_be_bytes());
                10
            }
        };
        Self {
            message,
            head,
            head_len,
        }
    }

    pub(crate) const fn message(&self) -> &Message {
        &self.message
    }

    pub(crate) fn len(&self) -> usize {
        self.message.len()
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Returns a handle of the payload, without copying it.
    pub(super) fn payload(&self) -> Bytes {
        self.message.clone().into_bytes()
    }
}

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
            frames.put_slice(message.message.as_bytes());
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
