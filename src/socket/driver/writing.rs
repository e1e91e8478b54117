//! What is written, and when the holder of the link is told.

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

    pub(super) fn take_written(&mut self) -> Option<Load> {
        mem::take(&mut self.is_flushed).then(|| mem::take(&mut self.written))
    }

    /// Tells the holder of the link what was written, and returns whether somebody waits for the room
    /// that this makes.
    pub(super) fn tell_written(&mut self, cx: &Context<'_>) -> bool {
        let written = self.take_written();
        written.is_some_and(|written| self.link.written(written, true, cx))
    }

    /// Writes what was sent, until there is nothing left or the stream takes no more. Ready with
    /// whether there is more to do at once: the handler waits for the room that this made, or more
    /// was sent while output was blocked.
    pub(super) fn poll_flush(
        &mut self,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let flushed = self.poll_flush_later(now, cx);
        let waits = self.tell_written(cx);
        flushed.map_ok(|is_more| is_more || waits)
    }

    /// Writes as [`poll_flush`](Self::poll_flush) does, but when everything is written, the holder of
    /// the link is told so later.
    pub(super) fn poll_flush_later(
        &mut self,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.is_cut_off() {
            return match self.phase {
                Phase::Open | Phase::Answering(_) => Poll::Pending,
                Phase::Closing(_) | Phase::Over => {
                    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
                }
            };
        }
        // What is sent while output is blocked waits until it has moved, and something was read:
        // else a handler that sends without end would keep the peer from being heard.
        let was_blocked = self.blocked.is_some();
        if !was_blocked && !mem::take(&mut self.has_taken_all) {
            self.take_outgoing(cx);
        }
        let mut moved = Load::default();
        loop {
            let written = match self.engine.poll_write(cx) {
                Poll::Pending if was_blocked => self.poll_write_without_readiness(now),
                written => written,
            };
            let Poll::Ready(written) = written? else {
                // Room that was made before counts also if not everything could be written.
                let has_moved = !moved.is_empty();
                if has_moved || self.blocked.is_none() {
                    let now = timer::now();
                    self.blocked = Some(now);
                    self.stall.begins(now);
                }
                return if has_moved && self.link.written(moved, false, cx) {
                    Poll::Ready(Ok(true))
                } else {
                    Poll::Pending
                };
            };
            if !written.is_empty() {
                self.unflushed = true;
                self.spent.add(0, written.bytes);
                self.stall.backlog.add(written.bytes, now);
                self.release(written, &mut moved);
            } else if let Some(payload) = self.owed.take() {
                self.push_control(|engine| engine.output.push_pong(&payload));
            } else {
                self.blocked = None;
                if mem::take(&mut self.unflushed) {
                    (self.written, self.is_flushed) = (moved, true);
                }
                return Poll::Ready(Ok(was_blocked));
            }
        }
    }

    /// Takes what was sent, and compresses what is to be, as far as this poll's share goes.
    fn take_outgoing(&mut self, cx: &Context<'_>) {
        let Some(mut batch) = self.link.take_outgoing(&mut self.engine.output) else {
            return;
        };
        let output = &mut self.engine.output;
        let before = output.load();
        let is_all = batch.compress(output, &mut self.compresses);
        let after = output.load();
        let added = Load {
            messages: after.messages - before.messages,
            bytes: after.bytes - before.bytes,
        };
        self.link.put_back_batch(batch, added, cx);
        self.has_done_enough |= !is_all;
        self.send_close();
    }

    /// Adds what was written of messages to `moved`. Room is made late rather than early: control
    /// frames count as written first.
    fn release(&mut self, mut written: Load, moved: &mut Load) {
        let control = written.bytes.min(self.control_bytes);
        self.control_bytes -= control;
        written.bytes -= control;
        moved.messages += written.messages;
        moved.bytes += written.bytes;
    }
}
