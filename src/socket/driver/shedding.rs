//! The end of the connection that holds most, when all connections of a registry hold too much memory.

use std::task::Context;

use super::{Driver, Phase, Progress};
use crate::{
    socket::{io::Io, link::overloaded},
    time::Moment,
    words::{Closed, Side},
};

/// The most bytes of a started frame that are still written, so that a Close can follow. With more bytes the
/// connection is dropped, because they would stay in memory until the peer has read them.
const MOST: usize = 64 * 1024;

impl<IO: Io> Driver<IO> {
    /// Drops the output and the input, then closes with 1013.
    #[cold]
    pub(super) fn shed(&mut self, now: Moment, cx: &mut Context<'_>) -> Progress {
        self.resume(now);
        self.take_unanswered_ping();
        self.take_pending_end();
        self.control_bytes = 0;
        let is_whole = self.engine.drop_output(MOST);
        self.link.drop_held(self.engine.output.load());
        let frame = self.link.take_close().unwrap_or_else(|| Some(overloaded()));
        match &mut self.phase {
            Phase::Over => Progress::Over,
            Phase::Closing(closing) => {
                // The Close may be among the dropped output.
                let mut closed = closing.closed.clone();
                closed.set_clean(false);
                self.finish(closed, cx)
            }
            Phase::Answering(answering) if is_whole => {
                // Only the Close is still sent.
                answering.answer_at = now;
                Progress::Again
            }
            Phase::Answering(answering) => {
                let closed = Closed::new(Side::Remote, answering.frame.take(), false);
                self.finish(closed, cx)
            }
            Phase::Open => {
                self.link.end(None, Some(&mut self.engine.output), cx);
                let closed = Closed::new(Side::Local, frame.clone(), false);
                match is_whole {
                    // The input is not decoded any more, so the peer's Close cannot be awaited.
                    true => self.enter_closing(closed, true, frame),
                    false => self.finish(closed, cx),
                }
            }
        }
    }
}
