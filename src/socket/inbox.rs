//! Messages that wait for the handler.

use std::{cell::RefCell, collections::VecDeque};

use crate::{codec::Bound, words::Message};

/// The most empty queues that a thread keeps for reuse, and the most messages that a kept queue may
/// have room for.
const POOLED_QUEUES: usize = 64;
const POOLED_CAPACITY: usize = 16;

thread_local! {
    #[expect(clippy::vec_box, reason = "they move between here and the inboxes")]
    static POOL: RefCell<Vec<Box<Queue>>> = const { RefCell::new(Vec::new()) };
}

/// A queue that counts the bytes in it.
///
/// Its memory comes from a pool of the thread. It is taken with the first message and given back
/// with the last one.
#[derive(Debug, Default)]
pub(super) struct Inbox(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn push(&mut self, message: Message) {
        let queue = self.0.get_or_insert_with(take);
        queue.bytes += message.len();
        queue.messages.push_back(message);
    }

    /// Returns the bytes of all messages in it.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        let queue = self.0.as_ref();
        queue.is_none_or(|queue| queue.messages.is_empty())
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Message> {
        let queue = self.0.as_mut()?;
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.len();
        if queue.messages.is_empty() {
            give_back(self.0.take());
        }
        Some(message)
    }

    /// Returns whether another message may be pushed.
    pub(super) fn has_room(&self, bound: Bound) -> bool {
        self.0
            .as_ref()
            .is_none_or(|queue| queue.messages.len() < bound.messages && queue.bytes < bound.bytes)
    }
}

#[inline(never)]
fn take() -> Box<Queue> {
    // Fails while the thread ends.
    let taken = POOL.try_with(|pool| pool.borrow_mut().pop());
    taken.ok().flatten().unwrap_or_default()
}

/// Keeps an empty queue for reuse.
#[inline(never)]
fn give_back(queue: Option<Box<Queue>>) {
    let queue = queue.filter(|queue| queue.messages.capacity() <= POOLED_CAPACITY);
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < POOLED_QUEUES {
            pool.extend(queue);
        }
    });
}
