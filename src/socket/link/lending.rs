//! What writes to the stream, lent to rooms while the connection sleeps.
//!
//! Who has it may write, so the connection and a room never write at the same time. A room writes under the lock, and
//! only what is queued. What the stream does not take stays queued, perhaps as the rest of a frame, and the connection
//! is woken. It takes the queue together with what it has lent, so nothing comes in between.

use std::{
    io::{self, IoSlice},
    mem,
};

use tokio::net::tcp::OwnedWriteHalf;

use super::{Link, Stage, State};
use crate::{
    codec::{Load, Outgoing},
    socket::io::send,
    words::catch_panic,
};

/// The most buffers of one write.
const SLICES: usize = 8;

/// What a connection has lent.
#[derive(Debug)]
pub(in crate::socket) enum Lent {
    Writer(OwnedWriteHalf),
    /// A room could not write. The system reports an error once, so the connection would not learn of it.
    Failed(io::Error),
}

/// What a connection takes back.
#[derive(Debug)]
pub(in crate::socket) struct Back {
    pub(in crate::socket) lent: Option<Lent>,
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
        rooms.lent = writer().map(Lent::Writer);
        let is_lent = rooms.lent.is_some();
        is_lent.then_some(state.traffic.bytes_sent)
    }

    /// Takes back what was lent, and moves the queued frames to `output`, which is empty.
    pub(in crate::socket) fn take_back(&self, output: &mut Outgoing) -> Back {
        let mut state = self.lock();
        // The queue counts the heads of frames, too, so it may have more bytes than were sent in messages.
        let unwritten = state.unwritten().bytes as u64;
        let written = state.traffic.bytes_sent.saturating_sub(unwritten);
        state.move_outbox_to(output);
        let lent = state.take_lent();
        let unused = state.take_unused_rooms();
        drop(state);
        drop(unused);
        Back { lent, written }
    }

    /// Takes back what was lent, because the connection ends.
    pub(in crate::socket) fn take_lent(&self) -> Option<Lent> {
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
        let lent = self.rooms.as_ref().and_then(|rooms| rooms.lent.as_ref());
        self.asleep && matches!(lent, Some(Lent::Writer(_)))
    }

    fn take_lent(&mut self) -> Option<Lent> {
        self.rooms.as_mut()?.lent.take()
    }

    /// Writes the queue. Returns whether nothing is left to write.
    fn write_queued(&mut self) -> bool {
        let lent = self.rooms.as_mut().and_then(|rooms| rooms.lent.as_mut());
        let Some(lent) = lent else {
            return false;
        };
        while let (Lent::Writer(writer), false) = (&*lent, self.outbox.is_empty()) {
            let mut slices = [IoSlice::new(&[]); SLICES];
            // Without a look at tokio's readiness, which is a cache miss.
            match send(writer.as_ref(), self.outbox.slices(&mut slices)) {
                Ok(0) => return false,
                Ok(written) => {
                    self.outbox.advance(written);
                }
                Err(error) => {
                    if let Lent::Writer(writer) = mem::replace(lent, Lent::Failed(error)) {
                        // Without it the stream is closed as a whole.
                        writer.forget();
                    }
                    return false;
                }
            }
        }
        self.outbox.release_memory();
        self.uncompressed().is_empty()
    }
}
