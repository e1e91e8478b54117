//! What writes to the stream, lent to rooms while the connection sleeps.
//!
//! Who has it may write, so the connection and a room never write at the same time. A room writes under the lock, and
//! only what is queued. What the stream does not take stays queued, perhaps as the rest of a frame, and the connection
//! is woken. It takes the queue together with what it has lent, so nothing comes in between.

use std::io::IoSlice;

use tokio::net::tcp::OwnedWriteHalf;

use super::{Link, Stage, State};
use crate::{
    codec::{Load, Outgoing},
    socket::io::send,
    words::catch_panic,
};

/// The most buffers of one write.
const SLICES: usize = 8;

/// What a connection takes back.
#[derive(Debug)]
pub(in crate::socket) struct Back {
    pub(in crate::socket) writer: Option<OwnedWriteHalf>,
    /// About the bytes of messages that were sent and written, since the connection began.
    pub(in crate::socket) written: u64,
}

impl Link {
    /// Lends what writes to the stream, if the connection still sleeps and is in a room. Returns the bytes of messages
    /// that it has sent, or `None` if nothing was lent.
    pub(in crate::socket) fn lend(
        &self,
        writer: impl FnOnce() -> Option<OwnedWriteHalf>,
    ) -> Option<u64> {
        let mut state = self.lock();
        let may_lend = state.asleep && state.stage == Stage::Open;
        let rooms = state.rooms.as_mut().filter(|_| may_lend)?;
        rooms.writer = writer();
        let is_lent = rooms.writer.is_some();
        is_lent.then_some(state.traffic.bytes_sent)
    }

    /// Takes back what was lent, and moves the queued frames to `output`, which is empty.
    pub(in crate::socket) fn take_back(&self, output: &mut Outgoing) -> Back {
        let mut state = self.lock();
        // The queue counts the heads of frames, too, so it may have more bytes than were sent in messages.
        let unwritten = state.unwritten().bytes as u64;
        let written = state.traffic.bytes_sent.saturating_sub(unwritten);
        state.move_outbox_to(output);
        let writer = state.take_lent();
        let unused = state.take_unused_rooms();
        drop(state);
        drop(unused);
        Back { writer, written }
    }

    /// Takes back what was lent, because the connection ends.
    pub(in crate::socket) fn take_lent(&self) -> Option<OwnedWriteHalf> {
        self.lock().take_lent()
    }

    /// Writes what rooms have queued, or wakes the connection to do so.
    pub(crate) fn write_or_wake(&self) {
        let mut state = self.lock();
        if !state.is_lent() {
            // The connection runs, and has the queue or will look for it.
            return self.wake_connection(state, ());
        }
        let is_all = state.write_queued();
        let (writer, granted) = state.make_room(Load::default(), is_all, self.config.outbox());
        match is_all {
            true => drop(state),
            false => self.wake_connection(state, ()),
        }
        for waker in writer.into_iter().chain(granted) {
            // One that panics must not keep the others asleep.
            let _ = catch_panic(|| waker.wake());
        }
    }
}

impl State {
    /// Returns whether rooms may write, so that the connection need not be woken.
    pub(super) fn is_lent(&self) -> bool {
        let rooms = self.rooms.as_ref();
        self.asleep && rooms.is_some_and(|rooms| rooms.writer.is_some())
    }

    fn take_lent(&mut self) -> Option<OwnedWriteHalf> {
        self.rooms.as_mut()?.writer.take()
    }

    /// Writes the queue. Returns whether nothing is left to write.
    fn write_queued(&mut self) -> bool {
        let rooms = self.rooms.as_ref();
        let Some(writer) = rooms.and_then(|rooms| rooms.writer.as_ref()) else {
            return false;
        };
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            // Without a look at tokio's readiness, which is a cache miss.
            match send(writer.as_ref(), self.outbox.slices(&mut slices)) {
                Ok(written) if written > 0 => self.outbox.advance(written),
                // The connection finds errors when it writes.
                _ => return false,
            };
        }
        self.outbox.release_memory();
        self.uncompressed().is_empty()
    }
}
