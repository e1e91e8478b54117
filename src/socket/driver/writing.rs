//! Writing output, and reporting it to the link.

use std::{
    io, mem,
    task::{Context, Poll},
};

use super::{Driver, Phase};
use crate::{
    codec::Load,
    socket::{engine::Engine, io::Io, timer},
    time::Moment,
};

impl<IO: Io> Driver<IO> {
    pub(super) fn push_control(&mut self, push: impl FnOnce(&mut Engine<IO>)) {
        let before = self.engine.output.load().bytes;
        push(&mut self.engine);
        self.control_bytes += self.engine.output.load().bytes - before;
    }

    pub(super) fn take_unreported(&mut self) -> Option<Load> {
        mem::take(&mut self.has_unreported).then(|| mem::take(&mut self.unreported))
    }

    /// Reports the written load to the link. Returns whether someone waits for room or for a flush.
    pub(super) fn report_written(&mut self, cx: &Context<'_>) -> bool {
        let written = self.take_unreported();
        written.is_some_and(|written| self.link.note_written(written, true, cx))
    }

    /// Writes until the output is empty or blocked. Ready with whether there is more to do at once:
    /// someone waits for the room that became free, or messages were sent while output was blocked.
    pub(super) fn poll_flush(
        &mut self,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let flushed = self.poll_flush_later(now, cx);
        let waits = self.report_written(cx);
        flushed.map_ok(|is_more| is_more || waits)
    }

    /// Like [`poll_flush`](Self::poll_flush), but the link gets the report of a complete flush
    /// later.
    pub(super) fn poll_flush_later(
        &mut self,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.has_write_error() {
            return match self.phase {
                Phase::Open | Phase::Answering(_) => Poll::Pending,
                Phase::Closing(_) | Phase::Over => {
                    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
                }
            };
        }
        // Messages that are sent while output is blocked wait until it moves and something was
        // read. Otherwise a handler that sends without end would keep the connection from reading.
        let was_blocked = self.blocked_since.is_some();
        if !was_blocked && !mem::take(&mut self.outbox_empty) {
            self.take_outgoing(cx);
        }
        let mut moved = Load::default();
        loop {
            let written = match self.engine.poll_write(cx) {
                Poll::Pending if was_blocked => self.poll_write_without_readiness(now),
                written => written,
            };
            let Poll::Ready(written) = written? else {
                // Room that became free counts even if not all output could be written.
                let has_moved = !moved.is_empty();
                if has_moved || self.blocked_since.is_none() {
                    let now = timer::now();
                    self.blocked_since = Some(now);
                    self.stall.begins(now);
                }
                return if has_moved && self.link.note_written(moved, false, cx) {
                    Poll::Ready(Ok(true))
                } else {
                    Poll::Pending
                };
            };
            if !written.is_empty() {
                self.unflushed = true;
                self.spent.add(0, written.bytes);
                self.stall.backlog.add(written.bytes, now);
                self.add_written(written, &mut moved);
            } else if let Some(payload) = self.take_unanswered_ping() {
                self.push_control(|engine| engine.output.push_pong(&payload));
            } else {
                self.blocked_since = None;
                if mem::take(&mut self.unflushed) {
                    (self.unreported, self.has_unreported) = (moved, true);
                }
                return Poll::Ready(Ok(was_blocked));
            }
        }
    }

    /// Takes queued messages, and compresses as many as the budget of the poll allows.
    fn take_outgoing(&mut self, cx: &Context<'_>) {
        let Some(mut batch) = self.link.take_outgoing(&mut self.engine.output) else {
            return;
        };
        let output = &mut self.engine.output;
        let before = output.load();
        let is_all = batch.compress(output, &mut self.compress_budget);
        let after = output.load();
        let added = Load {
            messages: after.messages - before.messages,
            bytes: after.bytes - before.bytes,
        };
        self.link.put_back_batch(batch, added, cx);
        self.must_yield |= !is_all;
        self.send_close();
    }

    /// Adds the written bytes of messages to `moved`. Control frames count as written first, so
    /// room becomes free late rather than early.
    fn add_written(&mut self, mut written: Load, moved: &mut Load) {
        let control = written.bytes.min(self.control_bytes);
        self.control_bytes -= control;
        written.bytes -= control;
        moved.messages += written.messages;
        moved.bytes += written.bytes;
    }
}
