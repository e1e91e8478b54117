//! The memory that a connection holds, for a registry that limits the sum.
//!
//! The connection counts it when its task sleeps or yields. The registry counts it when the sum is past the
//! limit. The sum is written only when the count of a connection has changed by [`STEP`].

use std::{mem, sync::atomic::Ordering, task::Waker};

use super::{Link, Stage, State};
use crate::{
    codec::Load,
    words::{CloseCode, CloseFrame, catch_panic},
};

/// The precision of a count, in bytes.
const STEP: usize = 4 * 1024;

/// Returns the Close of a connection that sheds its memory.
pub(in crate::socket) fn overloaded() -> CloseFrame {
    CloseFrame::truncated(
        CloseCode::TRY_AGAIN_LATER,
        "too much is buffered for all connections",
    )
}

impl Link {
    /// Counts the memory, if the registry asks for it. Returns the change of the count, in bytes.
    pub(super) fn recount(&self, state: &mut State) -> isize {
        let counts = self.hook.as_ref().is_some_and(|hook| hook.counts);
        if counts { state.recount() } else { 0 }
    }

    /// Reports a change of the count. Call it without the lock.
    pub(super) fn report_held(&self, change: isize) {
        if change != 0 {
            if let Some(hook) = &self.hook {
                hook.events.held(change);
            }
        }
    }

    /// Counts the memory that is left after the end of the connection.
    pub(in crate::socket) fn count_rest(&self) {
        let change = self.recount(&mut self.lock());
        self.report_held(change);
    }

    /// Counts the memory for the registry. Returns the count and its change, in bytes.
    pub(crate) fn count_held(&self) -> (usize, isize) {
        let mut state = self.lock();
        let change = self.recount(&mut state);
        (state.counted as usize * STEP, change)
    }

    /// Counts the connection as 0 from now on. Returns the change of the count, in bytes.
    pub(crate) fn stop_counting(&self) -> isize {
        let mut state = self.lock();
        state.is_uncounted = true;
        self.recount(&mut state)
    }

    /// Drops the memory of the connection. The connection's task then drops its part and closes with 1013. Returns the
    /// change of the count, in bytes: the count is 0 from now on.
    pub(crate) fn shed(&self) -> isize {
        let Some(hook) = &self.hook else { return 0 };
        let mut state = self.lock();
        if state.is_uncounted {
            return 0;
        }
        state.is_uncounted = true;
        let change = self.recount(&mut state);
        state.is_shed = true;
        if state.stage == Stage::Open {
            state.stage = Stage::Closing;
            state.note_close(Some(&overloaded()));
            state.input_over = true;
        }
        let discarded = (
            mem::take(&mut state.inbox),
            mem::take(&mut state.outbox),
            state.uncompressed.take(),
        );
        let wakers = state.take_wakers();
        // Set under the lock, so that a connection that falls asleep sees it. After the end no driver would clear it.
        let has_driver = state.stage != Stage::Closed;
        hook.is_shed.store(has_driver, Ordering::Relaxed);
        self.wake_connection(state, ());
        // The owner of a payload is code of the user and may panic. The caller serves another connection.
        let _ = catch_panic(|| drop(discarded));
        wakers.all().for_each(Waker::wake);
        change
    }

    /// Returns whether the connection has to shed its memory.
    pub(super) fn has_to_shed(&self) -> bool {
        let hook = self.hook.as_ref();
        hook.is_some_and(|hook| hook.is_shed.load(Ordering::Relaxed))
    }

    /// Returns whether the connection has to shed its memory, and clears that flag.
    #[inline]
    pub(in crate::socket) fn take_shed(&self) -> bool {
        let has_to = self.has_to_shed();
        if has_to {
            self.clear_shed();
        }
        has_to
    }

    /// Clears the flag that memory has to be shed.
    pub(super) fn clear_shed(&self) {
        if let Some(hook) = &self.hook {
            hook.is_shed.store(false, Ordering::Relaxed);
        }
    }

    /// Drops undecoded bytes and the message in progress. `left` is the output that is still to be written.
    pub(in crate::socket) fn drop_held(&self, left: Load) {
        let mut state = self.lock();
        let receiver = state.receiver.take();
        state.writing = left;
        drop(state);
        if let Some(mut receiver) = receiver {
            receiver.discard();
        }
    }
}

impl State {
    fn recount(&mut self) -> isize {
        let held = match self.is_uncounted {
            true => 0,
            false => self.held(),
        };
        let counted = self.counted as usize * STEP;
        if held.abs_diff(counted) < STEP {
            return 0;
        }
        self.counted = u32::try_from(held / STEP).unwrap_or(u32::MAX);
        self.counted as isize * STEP as isize - counted as isize
    }

    /// Returns the bytes of unwritten messages, of messages in the inbox, and of the message in progress.
    fn held(&self) -> usize {
        let receiver = self.receiver.as_ref();
        self.unwritten().bytes + self.inbox.bytes() + receiver.map_or(0, |receiver| receiver.held())
    }
}
