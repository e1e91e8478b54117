//! The queue of messages that wait to be compressed.
//!
//! Every sender queues plain messages. The connection compresses them in order and in pieces. Later
//! messages wait behind them, compressed or not. A queued message counts with its uncompressed
//! length.

use std::{collections::VecDeque, mem, task::Poll};

use bytes::Bytes;

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
    compresses: bool,
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
        self.queue.push_back(Queued {
            message,
            compresses,
        });
        true
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
        while let Some(Queued {
            message,
            compresses,
        }) = self.queue.front_mut()
        {
            let compressed = match compresses {
                false => None,
                true if left == 0 => break,
                true => match self.compression.compress(message.as_bytes(), &mut left) {
                    Poll::Pending => break,
                    Poll::Ready(compressed) => compressed,
                },
            };
            let load = Queued::load(message.len());
            self.done.messages += load.messages;
            self.done.bytes += load.bytes;
            if output.is_empty() {
                output.acquire_memory();
            }
            match compressed {
                None => output.push(message),
                Some(compressed) => output.push_compressed(message, &compressed),
            }
            self.queue.pop_front();
        }
        budget.set_left(left);
        self.queue.is_empty()
    }
}
