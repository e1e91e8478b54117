//! A connection that repeats every message, without a handler.

use std::{
    future::{Future, Pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    driver::Driver,
    io::Io,
    link::Link,
    session::{Served, poll_both, seed},
};
use crate::error::BoxError;

/// The future of such a connection, until it has ended.
pub(crate) struct Repetition<IO> {
    link: Arc<Link>,
    driver: Option<Driver<IO>>,
}

/// Serves a connection that repeats every message, text behind `prefix`.
pub(crate) fn repeat<IO: Io>(served: Served<IO>, prefix: Arc<str>) -> Repetition<IO> {
    let link = Arc::clone(&served.link);
    let driver = Driver::new(served, seed());
    link.abandon(false);
    Repetition {
        link,
        driver: Some(driver.repeating(prefix)),
    }
}

impl<IO: Io> Repetition<IO> {
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Repeats what has arrived, in the usual case, and tells whether that was all there was to do.
    /// Else it is to be polled.
    #[inline(always)]
    pub(crate) fn repeats_all(&mut self, cx: &mut Context<'_>) -> bool {
        let driver = self.driver.as_mut();
        driver.is_some_and(|driver| driver.repeats_all(cx))
    }
}

impl<IO: Io> Future for Repetition<IO> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut nobody = None::<Pending<Result<(), BoxError>>>;
        let poll = poll_both(&mut this.driver, Pin::new(&mut nobody), &this.link, cx);
        if let Some(driver) = &mut this.driver {
            driver.rest();
            driver.settle();
        }
        poll
    }
}
