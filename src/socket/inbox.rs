//! Messages that arrived and wait for the handler.

use std::collections::VecDeque;

use crate::{config::Bound, message::Message};

/// A queue that knows how many bytes it holds.
///
/// Its memory is elsewhere and comes with the first message: many connections only listen, or are
/// served without a handler.
#[derive(Debug, Default)]
pub(super) struct Inbox(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn push(&mut self, message: Message) {
        let queue = self.0.get_or_insert_default();
        queue.bytes += message.len();
        queue.messages.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let queue = self.0.as_mut()?;
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.len();
        Some(message)
    }

    /// Tells whether another message may be pushed.
    pub(super) fn has_room(&self, bound: Bound) -> bool {
        self.0
            .as_ref()
            .is_none_or(|queue| queue.messages.len() < bound.messages && queue.bytes < bound.bytes)
    }
}
