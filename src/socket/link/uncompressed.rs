//! Messages that wait to be compressed.
//!
//! They are queued as they are, whoever sends them, and compressed by the connection, in order and in
//! pieces. What is sent behind them waits with them. They count by their length until they are compressed.

use std::{collections::VecDeque, mem, task::Poll};

use bytes::Bytes;

use crate::{
    codec::{Compression, Deflation, Load, Outgoing},
    socket::budget::Share,
    words::Message,
};

/// The shortest head of a frame.
const HEAD: usize = 2;

/// The queue of a connection.
#[derive(Debug)]
pub(super) struct Uncompressed {
    deflation: Deflation,
    queue: VecDeque<Waiting>,
    /// What is in the queue, and in the batch that the connection has taken.
    load: Load,
    /// `None` while the connection has taken a batch.
    compression: Option<Compression>,
}

/// What a connection takes to compress it without the lock.
#[derive(Debug)]
pub(in crate::socket) struct Batch {
    compression: Compression,
    queue: VecDeque<Waiting>,
    /// What was in the queue and is compressed.
    done: Load,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    compresses: bool,
}

impl Waiting {
    const fn load(len: usize) -> Load {
        Load {
            messages: 1,
            bytes: len + HEAD,
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

    /// Takes a message, and leaves an empty one, unless it is not to be compressed and nothing is before
    /// it. Returns whether it was taken.
    pub(super) fn push(&mut self, message: &mut Message, compresses: bool) -> bool {
        let compresses = compresses && self.deflation.applies_to(message.len());
        if self.is_empty() && !compresses {
            return false;
        }
        let load = Waiting::load(message.len());
        self.load.messages += load.messages;
        self.load.bytes += load.bytes;
        let message = mem::replace(message, Message::Binary(Bytes::new()));
        self.queue.push_back(Waiting {
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

    /// Takes all that is in the queue, if there is something.
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

    /// Puts what is left of a batch before what came meanwhile.
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
    /// Compresses messages and appends them to the `output`, as far as the `share` goes. Returns whether
    /// all are compressed.
    pub(in crate::socket) fn compress(&mut self, output: &mut Outgoing, share: &mut Share) -> bool {
        let mut left = share.left();
        while let Some(Waiting {
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
            let load = Waiting::load(message.len());
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
        share.set_left(left);
        self.queue.is_empty()
    }
}
