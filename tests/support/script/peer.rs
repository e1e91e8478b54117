//! The test's end of a [`Script`](super::Script).

use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
};

use super::{
    super::wire::{self, Frame},
    Calls, Input, State,
};

/// The test's end: what the stream does next, and what it was asked to do.
#[derive(Clone)]
pub(crate) struct Peer(pub(super) Arc<Mutex<State>>);

impl Peer {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn give(&self, input: Input) {
        let mut state = self.lock();
        state.input.push_back(input);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Makes `bytes` arrive in one segment.
    pub(crate) fn send(&self, bytes: impl Into<Vec<u8>>) {
        self.give(Input::segment(bytes));
    }

    /// Makes room for `bytes` more, and returns whether a write was waiting.
    pub(crate) fn add_room(&self, bytes: usize) -> bool {
        self.lock().room += bytes;
        self.wake_writer()
    }

    /// Wakes a pending write or flush, and returns whether there was one.
    pub(crate) fn wake_writer(&self) -> bool {
        let writer = self.lock().writer.take();
        writer.map(Waker::wake).is_some()
    }

    pub(crate) fn calls(&self) -> Calls {
        self.lock().calls
    }

    /// Returns the number of calls of all methods.
    pub(crate) fn polls(&self) -> usize {
        let calls = self.calls();
        calls.idle_reads
            + calls.reads
            + calls.idle_writes
            + calls.writes
            + calls.flushes
            + calls.shutdowns
    }

    /// Clears the counts and the output.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        state.calls = Calls::default();
        state.output.clear();
        state.read = 0;
        state.written = 0;
        state.flushed = 0;
    }

    /// Returns whether the server has dropped the stream.
    pub(crate) fn is_gone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Returns the frames that were written, and whether a part of a frame follows them.
    pub(crate) async fn frames(&self) -> (Vec<Frame>, bool) {
        let output = self.lock().output.clone();
        let mut rest = &*output;
        let mut frames = Vec::new();
        let mut len = 0;
        while let Some(frame) = wire::read_frame(&mut rest).await {
            frames.push(frame);
            len = output.len() - rest.len();
        }
        (frames, len < output.len())
    }

    /// Returns the payloads of the frames that were written.
    pub(crate) async fn payloads(&self) -> Vec<Vec<u8>> {
        let (frames, torn) = self.frames().await;
        assert!(!torn, "only whole frames");
        frames.into_iter().map(|frame| frame.payload).collect()
    }
}
