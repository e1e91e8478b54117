//! A handler and its connection, side by side in one task.
//!
//! Both are polled in turn until neither gets on: no second task, no channel between them, and a
//! handler that waits for something else holds up neither pings nor a Close.

use std::{
    collections::hash_map::RandomState,
    error::Error,
    future::{Future, poll_fn},
    hash::BuildHasher,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Introduction, WebSocket,
    driver::{Driver, Turn},
    io::Io,
    link::Link,
};
use crate::{
    close::{CloseCode, CloseFrame},
    codec::Deflation,
    config::Config,
    error::{BoxError, RecvError, SendError},
    report,
};
use bytes::Bytes;
use pin_project_lite::pin_project;

/// Turns taken before other tasks of the thread get theirs.
pub(super) const TURNS: usize = 64;

/// What a connection is served with.
pub(crate) struct Served<IO> {
    pub(crate) io: IO,
    /// What was read of it already.
    pub(crate) early: Bytes,
    pub(crate) config: Arc<Config>,
    pub(crate) link: Arc<Link>,
    /// What the handshake agreed on.
    pub(crate) deflation: Option<Deflation>,
    /// While nothing is read, the stream tells that its peer has gone only when it is asked: one of
    /// HTTP/2 that was reset wakes nobody.
    pub(crate) probes: bool,
}

pin_project! {
    /// The future of a connection and of its handler, until both have ended.
    ///
    /// Written by hand because every connection holds one: the compiler would keep the arguments of
    /// an `async fn` a second time.
    pub(crate) struct Session<IO, F> {
        link: Arc<Link>,
        driver: Option<Driver<IO>>,
        #[pin]
        handler: Option<F>,
    }
}

/// Serves a connection that was accepted.
pub(crate) fn serve<IO, F>(
    served: Served<IO>,
    introduction: Box<Introduction>,
    handle: impl FnOnce(WebSocket) -> F,
) -> Session<IO, F>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
{
    let link = Arc::clone(&served.link);
    let driver = Driver::new(served, seed());
    let socket = WebSocket::new(Arc::clone(&link), introduction);
    // Handlers that are plain functions may panic before they return a future.
    let handler = catch(|| handle(socket));
    if handler.is_none() {
        report::handler_panicked();
        link.close(CloseFrame::without_reason(CloseCode::INTERNAL_ERROR));
    }
    Session {
        link,
        driver: Some(driver),
        handler,
    }
}

/// Serves a connection whose `WebSocket` is held somewhere else, until that is dropped.
pub(super) fn detached<IO>(
    served: Served<IO>,
) -> Session<IO, impl Future<Output = Result<(), BoxError>> + use<IO>>
where
    IO: Io,
{
    let link = Arc::clone(&served.link);
    let driver = Driver::new(served, seed()).detached();
    let holder = Arc::clone(&link);
    let holder = poll_fn(move |_| match holder.abandoned() {
        None => Poll::Pending,
        Some(false) => Poll::Ready(Ok(())),
        Some(true) => Poll::Ready(Err(BoxError::from("the holder of the websocket panicked"))),
    });
    Session {
        link,
        driver: Some(driver),
        handler: Some(holder),
    }
}

impl<IO, F> Future for Session<IO, F>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let poll = poll_both(this.driver, this.handler, this.link, cx);
        if let Some(driver) = this.driver {
            driver.rest();
        }
        poll
    }
}

/// Polls both in turn until neither gets on.
fn poll_both<IO, F>(
    driver: &mut Option<Driver<IO>>,
    mut handler: Pin<&mut Option<F>>,
    link: &Link,
    cx: &mut Context<'_>,
) -> Poll<()>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
{
    for _ in 0..TURNS {
        let turn = driver.as_mut().map_or(Turn::Over, |driver| driver.poll(cx));
        if turn == Turn::Over {
            if let Some(driver) = driver {
                driver.rest();
            }
            // The handler may have a lot to tidy up; the stream does not wait for it.
            *driver = None;
        }
        if let Poll::Ready(frame) = poll_handler(handler.as_mut(), cx) {
            link.close(frame);
        }
        match turn {
            Turn::Over if handler.is_none() => return Poll::Ready(()),
            Turn::Yield => break,
            Turn::Idle | Turn::Over if link.park(cx) => return Poll::Pending,
            Turn::Again | Turn::Idle | Turn::Over => {}
        }
    }
    // Unlike a wake of our own this is behind what timers and streams have for other tasks.
    pin!(tokio::task::yield_now()).poll(cx)
}

/// Ready, once, with the Close that the handler's end calls for.
fn poll_handler<F>(mut handler: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<CloseFrame>
where
    F: Future<Output = Result<(), BoxError>>,
{
    let Some(running) = handler.as_mut().as_pin_mut() else {
        return Poll::Pending;
    };
    // A handler that panicked is not polled again, so nobody sees what it left half done, except
    // through state that it shares, which is the business of whoever shares it.
    let poll = catch(|| running.poll(cx).map(frame_of));
    let frame = match poll {
        Some(Poll::Pending) => return Poll::Pending,
        Some(Poll::Ready(frame)) => Some(frame),
        None => None,
    };
    let dropped = catch(|| handler.set(None));
    Poll::Ready(match (frame, dropped) {
        (Some(frame), Some(())) => frame,
        (frame, _) => {
            report::handler_panicked();
            frame.unwrap_or_else(|| CloseFrame::without_reason(CloseCode::INTERNAL_ERROR))
        }
    })
}

/// Runs the code of a handler; `None` if it panics.
fn catch<T>(code: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // What it panicked with may panic once more when it is dropped.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(payload);
            }
            None
        }
    }
}

fn frame_of(result: Result<(), BoxError>) -> CloseFrame {
    let Err(error) = result else {
        return CloseFrame::without_reason(CloseCode::NORMAL);
    };
    match error.downcast::<CloseFrame>() {
        Ok(frame) => *frame,
        Err(error) => {
            if !tells_of_the_end(&*error) {
                report::handler_failed(&error);
            }
            CloseFrame::without_reason(CloseCode::INTERNAL_ERROR)
        }
    }
}

/// Tells whether an error is, or comes from, one of the connection's own, which says nothing new.
fn tells_of_the_end(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    // A chain can be made that never ends.
    for _ in 0..16 {
        let Some(error) = next else { return false };
        if error.is::<RecvError>() || error.is::<SendError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Returns what the payloads of pings start from.
pub(super) fn seed() -> u64 {
    // std's hash maps are seeded from the system's randomness, which is all that is needed here.
    RandomState::new().hash_one(())
}
