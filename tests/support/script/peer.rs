//! The test's end of a [`Script`](super::Script).

use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    super::wire::{Frame, read_frame},
    Calls, Input, State,
};

/// Gives a [`Script`](super::Script) its input, and reads its output and what it has counted.
#[derive(Clone)]
pub(crate) struct Peer(pub(super) Arc<Mutex<State>>);

impl Peer {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
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

    /// Has `bytes` arrive in one segment.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        self.give(Input::Segment(bytes.into()));
    }

    pub(crate) fn calls(&self) -> Calls {
        self.lock().calls
    }

    /// Returns how often the stream was called, whatever for.
    pub(crate) fn polls(&self) -> usize {
        let calls = self.calls();
        calls.idle_reads
            + calls.reads
            + calls.idle_writes
            + calls.writes
            + calls.flushes
            + calls.shutdowns
    }

    /// Lets the stream take so many bytes more.
    pub(crate) fn add_room(&self, bytes: usize) {
        let mut state = self.lock();
        state.room += bytes;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Forgets what was counted and written until now.
    pub(crate) fn reset(&self) {
        self.set(|state| {
            state.calls = Calls::default();
            state.output.clear();
            state.read = 0;
            state.written = 0;
            state.flushed = 0;
        });
    }

    /// Returns whether the server has let go of the stream.
    pub(crate) fn is_gone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Returns the frames that were written, and whether there was more than whole frames.
    pub(crate) async fn frames(&self) -> (Vec<Frame>, bool) {
        let output = self.lock().output.clone();
        let mut rest = &*output;
        let mut frames = Vec::new();
        let mut len = 0;
        while let Some(frame) = read_frame(&mut rest).await {
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
