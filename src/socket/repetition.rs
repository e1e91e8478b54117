//! A connection that repeats every message, without a handler.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    driver::{Driver, Turn, Usual},
    io::Io,
    session::{Served, TURNS, seed},
};
/// The future of such a connection, until it has ended.
///
/// Its fields are in this order in memory: what every message needs is at the front, and the stream
/// behind it.
#[repr(C)]
pub(crate) struct Repetition<IO> {
    usual: Usual,
    driver: Driver<IO>,
}

/// Serves a connection that repeats every message, text behind `prefix`.
pub(crate) fn repeat<IO: Io>(served: Served<IO>, prefix: Arc<str>) -> Repetition<IO> {
    let link = Arc::clone(&served.link);
    // Before it repeats: others that do would be made to look at their links.
    link.abandon(false);
    let driver = Driver::new(served, seed()).repeating(prefix);
    Repetition {
        usual: driver.usual(),
        driver,
    }
}

impl<IO: Io> Repetition<IO> {
    /// Repeats what has arrived, in the usual case, and tells whether that was all there was to do.
    /// Else it is to be polled.
    #[inline(always)]
    pub(crate) fn repeats_all(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.repeats_all(&mut self.usual, cx)
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            match self.driver.poll(cx) {
                Turn::Over => return Poll::Ready(()),
                Turn::Yield => break,
                Turn::Idle if self.driver.link().park(cx) => return Poll::Pending,
                Turn::Again | Turn::Idle => {}
            }
        }
        // As a connection with a handler does.
        pin!(tokio::task::yield_now()).poll(cx)
    }
}

impl<IO: Io> Future for Repetition<IO> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.driver.catch_up(&mut this.usual);
        let poll = this.poll_driver(cx);
        this.driver.rest();
        this.driver.settle(&mut this.usual);
        poll
    }
}
