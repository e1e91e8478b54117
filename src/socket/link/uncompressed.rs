//! The queue of messages that wait to be compressed.
//!
//! Every sender queues plain messages. The connection compresses them in order and in pieces. Later
//! messages wait behind them, compressed or not. A queued message counts with its uncompressed
//! length.

use std::{collections::VecDeque, mem, task::Poll};

use bytes::Bytes;

#[cfg(feature = "hub")]
use crate::codec::{SharedMessage, Sharing};
use crate::{
    codec::{Compression, Deflation, Load, Outgoing},
    socket::budget::Budget,
    words::Message,
};

/// The shortest head of a frame.
const MIN_HEAD: usize = 2;

/// The queue of one connection.
#[derive(Debug)]
pub(super) struct Uncompressed {
    deflation: Deflation,
    queue: VecDeque<Queued>,
    /// The load in the queue and in the batch that the connection has taken.
    load: Load,
    /// `None` while the connection has taken a batch.
    compression: Option<Compression>,
    /// The bytes by which messages of rooms were shorter than uncompressed, since the connection began.
    #[cfg(feature = "hub")]
    pub(super) saved: u64,
}

/// Messages that the connection has taken to compress them without the lock.
#[derive(Debug)]
pub(in crate::socket) struct Batch {
    compression: Compression,
    queue: VecDeque<Queued>,
    /// The load that is no longer in the queue.
    done: Load,
}

#[derive(Debug)]
struct Queued {
    message: Message,
    state: Compressing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Compressing {
    No,
    Waits,
    /// The message is the compressed payload.
    #[cfg(feature = "hub")]
    Done {
        is_text: bool,
    },
}

/// How a message of a room is sent.
#[cfg(feature = "hub")]
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'a> {
    Plain,
    /// Compressed once for all connections that share it.
    Shared(&'a Bytes),
    /// The connection compresses it.
    Own,
}

impl Queued {
    const fn load(len: usize) -> Load {
        Load {
            messages: 1,
            bytes: len + MIN_HEAD,
        }
    }
}

impl Uncompressed {
    pub(super) fn new(deflation: Deflation) -> Self {
        Self {
            deflation,
            queue: VecDeque::new(),
            load: Load::default(),
            compression: Some(Compression::new(deflation)),
            #[cfg(feature = "hub")]
            saved: 0,
        }
    }

    /// Queues a message and leaves an empty one. Returns false, and does nothing, if the queue is
    /// empty and the message is not to be compressed.
    pub(super) fn push(&mut self, message: &mut Message, compresses: bool) -> bool {
        let compresses = compresses && self.deflation.applies_to(message.len());
        if self.is_empty() && !compresses {
            return false;
        }
        let load = Queued::load(message.len());
        self.load.messages += load.messages;
        self.load.bytes += load.bytes;
        let message = mem::replace(message, Message::Binary(Bytes::new()));
        let state = match compresses {
            true => Compressing::Waits,
            false => Compressing::No,
        };
        self.queue.push_back(Queued { message, state });
        true
    }

    /// Queues a compressed message behind others. Returns false, and does nothing, if the queue is empty.
    #[cfg(feature = "hub")]
    pub(super) fn push_compressed(&mut self, is_text: bool, compressed: &Bytes) -> bool {
        if self.is_empty() {
            return false;
        }
        let load = Queued::load(compressed.len());
        self.load.messages += load.messages;
        self.load.bytes += load.bytes;
        self.queue.push_back(Queued {
            message: Message::Binary(compressed.clone()),
            state: Compressing::Done { is_text },
        });
        true
    }

    /// Returns what the connection shares with others, or `None` with context takeover.
    #[cfg(feature = "hub")]
    pub(super) fn sharing(&self) -> Option<Sharing> {
        self.deflation.sharing()
    }

    /// Returns how a message of a room is sent.
    #[cfg(feature = "hub")]
    pub(super) fn shape<'a>(&self, shared: &'a SharedMessage) -> Shape<'a> {
        if !self.deflation.applies_to(shared.len()) {
            return Shape::Plain;
        }
        let sharing = self.sharing();
        match sharing.and_then(|sharing| shared.compressed(sharing.form())) {
            None => Shape::Own,
            Some(None) => Shape::Plain,
            Some(Some(compressed)) => Shape::Shared(compressed),
        }
    }

    pub(super) const fn load(&self) -> Load {
        self.load
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.load.is_empty()
    }

    /// Takes all messages, or returns `None` if there are none.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        Some(Batch {
            compression: self.compression.take()?,
            queue: mem::take(&mut self.queue),
            done: Load::default(),
        })
    }

    /// Puts the rest of a batch in front of later messages.
    pub(super) fn put_back(&mut self, mut batch: Batch) {
        self.load.messages -= batch.done.messages;
        self.load.bytes -= batch.done.bytes;
        if !batch.queue.is_empty() {
            batch.queue.append(&mut self.queue);
            self.queue = batch.queue;
        }
        self.compression = Some(batch.compression);
    }
}

impl Batch {
    /// Compresses messages and appends them to `output` until `budget` is used up. Returns whether
    /// the batch is empty.
    pub(in crate::socket) fn compress(
        &mut self,
        output: &mut Outgoing,
        budget: &mut Budget,
    ) -> bool {
        let mut left = budget.left();
        while let Some(Queued { message, state }) = self.queue.front_mut() {
            let compressed = match state {
                Compressing::Waits if left == 0 => break,
                Compressing::Waits => {
                    match self.compression.compress(message.as_bytes(), &mut left) {
                        Poll::Pending => break,
                        Poll::Ready(compressed) => compressed,
                    }
                }
                _ => None,
            };
            let load = Queued::load(message.len());
            self.done.messages += load.messages;
            self.done.bytes += load.bytes;
            if output.is_empty() {
                output.acquire_memory();
            }
            match (compressed, state) {
                (Some(compressed), _) => output.push_compressed(message.is_text(), &compressed),
                #[cfg(feature = "hub")]
                (None, Compressing::Done { is_text }) => {
                    let payload = mem::replace(message, Message::Binary(Bytes::new()));
                    output.push_compressed(*is_text, &payload.into_bytes());
                }
                (None, _) => output.push(message),
            }
            self.queue.pop_front();
        }
        budget.set_left(left);
        self.queue.is_empty()
    }
}
