//! A handler and its connection, side by side in one task.
//!
//! Both are polled in turn until neither gets on: no second task, no channel between them, and a
//! handler that waits for something else holds up neither pings nor a Close.

use std::{
    collections::hash_map::RandomState,
    error::Error,
    future::{Future, Pending},
    hash::BuildHasher,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Introduction, WebSocket,
    driver::{Driver, Turn},
    error::{RecvError, SendError},
    io::Io,
    link::{Link, Parked},
    setup::Served,
    timer::{Timer, now},
};
use crate::{
    socket::report,
    time::Moment,
    words::{BoxError, CloseCode, CloseFrame},
};
use pin_project_lite::pin_project;

/// Turns taken before other tasks of the thread get theirs.
const TURNS: usize = 64;

pin_project! {
    /// The future of a connection and of its handler, until both have ended.
    ///
    /// The connection is open as long as the handler runs or the `WebSocket` lives, whichever is
    /// longer. A handler that returns `Ok` while its `WebSocket` lives elsewhere decides nothing; one
    /// that fails or panics ends the connection with its code. When the connection is over, the
    /// stream is dropped, and the handler has [`Config::handler_grace`] to return.
    ///
    /// Written by hand because every connection holds one: the compiler would keep the arguments of
    /// an `async fn` a second time.
    pub(crate) struct Session<IO, F, P>
    where
        P: Occupies,
    {
        link: Arc<Link>,
        // `None` once the connection is over.
        driver: Option<Driver<IO>>,
        occupied: P,
        // `None` once it has returned.
        #[pin]
        handler: Option<F>,
        // From the end of the connection on.
        grace: Option<Box<Grace>>,
    }

    impl<IO, F, P> PinnedDrop for Session<IO, F, P>
    where
        P: Occupies,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.driver.take().is_some() {
                this.occupied.connection_over(this.link);
            }
        }
    }
}

/// What a connection takes of what is limited, and gives back.
pub(crate) trait Occupies {
    /// The connection is over, or its task is dropped.
    fn connection_over(&mut self, link: &Link);

    /// The handler of a connection that is over has returned.
    fn handler_over(&mut self);
}

impl Occupies for () {
    fn connection_over(&mut self, _: &Link) {}

    fn handler_over(&mut self) {}
}

/// The time that is left to a handler whose connection is over.
struct Grace {
    ends: Moment,
    timer: Timer,
}

/// Serves a connection that was accepted, and gives back what it has `occupied`. One that was `refused`
/// is closed at once, without its handler.
pub(crate) fn serve<IO, F, P>(
    served: Served<IO>,
    introduction: Box<Introduction>,
    occupied: P,
    refused: Option<CloseFrame>,
    handle: impl FnOnce(WebSocket) -> F,
) -> Session<IO, F, P>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
    P: Occupies,
{
    let link = Arc::clone(&served.link);
    let driver = Driver::new(served, seed());
    let socket = WebSocket::new(Arc::clone(&link), introduction);
    let handler = match refused {
        Some(frame) => {
            link.close(frame);
            None
        }
        // Handlers that are plain functions may panic before they return a future.
        None => catch(|| handle(socket)).or_else(|| {
            report::handler_panicked();
            link.close(CloseFrame::without_reason(CloseCode::INTERNAL_ERROR));
            None
        }),
    };
    Session {
        link,
        driver: Some(driver),
        occupied,
        handler,
        grace: None,
    }
}

/// Serves a connection without a handler, until its `WebSocket` is dropped.
pub(super) fn detached<IO: Io>(
    served: Served<IO>,
) -> Session<IO, Pending<Result<(), BoxError>>, ()> {
    detached_in(served, ())
}

/// Serves a connection as [`detached`] does, and gives back what it has `occupied`.
pub(crate) fn detached_in<IO: Io, P: Occupies>(
    served: Served<IO>,
    occupied: P,
) -> Session<IO, Pending<Result<(), BoxError>>, P> {
    Session {
        link: Arc::clone(&served.link),
        driver: Some(Driver::new(served, seed())),
        occupied,
        handler: None,
        grace: None,
    }
}

impl<IO, F, P> Future for Session<IO, F, P>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
    P: Occupies,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = report::PanicAlarm::new();
        let poll = self.as_mut().poll_both(cx);
        if let Some(driver) = self.project().driver {
            driver.rest();
        }
        alarm.disarm();
        poll
    }
}

impl<IO, F, P> Session<IO, F, P>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
    P: Occupies,
{
    /// Polls both in turn until neither gets on.
    fn poll_both(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let link = &*this.link;
        // The task may have been woken for the handler.
        let mut is_due = true;
        let mut now = now();
        for _ in 0..TURNS {
            let driver = this.driver.as_mut();
            let turn = driver.map_or(Turn::Over, |driver| driver.poll(&mut now, cx));
            if turn == Turn::Over {
                if let Some(mut driver) = this.driver.take() {
                    driver.rest();
                    drop(driver);
                    this.occupied.connection_over(link);
                }
            }
            let handler = &mut this.handler;
            is_due |= link.is_own_due();
            let was_due = mem::replace(&mut is_due, false);
            if !was_due && handler.is_some() && !matches!(turn, Turn::Again | Turn::Over) {
                // There is nothing new for the handler.
            } else if let Poll::Ready(verdict) = poll_handler(handler.as_mut(), cx) {
                match verdict {
                    Some(frame) => link.close(frame),
                    None if link.abandoned().is_some() => {
                        link.close(CloseFrame::without_reason(CloseCode::NORMAL));
                    }
                    None if turn == Turn::Over => {}
                    None => link.handed_on(),
                }
            } else if handler.is_none() {
                close_with_the_socket(link);
            }
            if turn == Turn::Over {
                let has_time = handler.is_some() && poll_grace(this.grace, link, cx).is_pending();
                if handler.is_none() {
                    this.occupied.handler_over();
                    return Poll::Ready(());
                }
                if !has_time {
                    drop_handler(handler.as_mut(), link);
                    return Poll::Ready(());
                }
            }
            let parked = match (turn, this.driver.as_mut()) {
                (Turn::Again, _) => continue,
                (Turn::Yield, Some(_)) => break,
                (_, Some(driver)) => driver.park(cx),
                (_, None) => link.park(None, cx),
            };
            match parked {
                Parked::Asleep => return Poll::Pending,
                Parked::Awake { is_awaited } => is_due = is_awaited,
                Parked::Yields => break,
            }
        }
        if let Some(driver) = this.driver {
            driver.yields(cx);
        }
        // Unlike a wake of our own this is behind what timers and streams have for other tasks.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }
}

/// Closes a connection whose handler has returned, once its `WebSocket` is dropped.
fn close_with_the_socket(link: &Link) {
    match link.abandoned() {
        None => {}
        Some(false) => link.close(CloseFrame::without_reason(CloseCode::NORMAL)),
        Some(true) => link.close(CloseFrame::without_reason(CloseCode::INTERNAL_ERROR)),
    }
}

/// Ready when the handler of a connection that is over has had its time, or has to make room for
/// others.
fn poll_grace(grace: &mut Option<Box<Grace>>, link: &Link, cx: &mut Context<'_>) -> Poll<()> {
    let now = now();
    let grace = grace.get_or_insert_with(|| {
        let ends = now + link.config().handler_limit();
        let timer = Timer::default();
        Box::new(Grace { ends, timer })
    });
    if link.is_evicted() {
        return Poll::Ready(());
    }
    if link.has_taken() {
        // It still receives what came before the end, of which an inbox holds no more than so much.
        grace.ends = now + link.config().handler_limit();
    }
    grace.timer.poll(Some(grace.ends), now, cx)
}

/// Drops the handler of a connection that is over.
fn drop_handler<F>(mut handler: Pin<&mut Option<F>>, link: &Link) {
    report::handler_outlived(link.name());
    if catch(|| handler.set(None)).is_none() {
        report::handler_panicked();
    }
}

/// Ready, once, when the handler has ended, with the Close that its error or panic calls for.
fn poll_handler<F>(
    mut handler: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<Option<CloseFrame>>
where
    F: Future<Output = Result<(), BoxError>>,
{
    let Some(running) = handler.as_mut().as_pin_mut() else {
        return Poll::Pending;
    };
    // A handler that panicked is not polled again, so nobody sees what it left half done, except
    // through state that it shares, which is the business of whoever shares it.
    let poll = catch(|| running.poll(cx).map(frame_of));
    let verdict = match poll {
        Some(Poll::Pending) => return Poll::Pending,
        Some(Poll::Ready(verdict)) => Some(verdict),
        None => None,
    };
    let dropped = catch(|| handler.set(None));
    Poll::Ready(match (verdict, dropped) {
        (Some(verdict), Some(())) => verdict,
        (verdict, _) => {
            report::handler_panicked();
            let failed = || CloseFrame::without_reason(CloseCode::INTERNAL_ERROR);
            Some(verdict.flatten().unwrap_or_else(failed))
        }
    })
}

/// Runs code of the user's; `None` if it panics.
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Option<T> {
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

/// Returns the Close that a handler's error calls for.
fn frame_of(result: Result<(), BoxError>) -> Option<CloseFrame> {
    Some(match result.err()?.downcast::<CloseFrame>() {
        Ok(frame) => *frame,
        Err(error) => {
            if !tells_of_the_end(&*error) {
                report::handler_failed(&error);
            }
            CloseFrame::without_reason(CloseCode::INTERNAL_ERROR)
        }
    })
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
fn seed() -> u64 {
    // std's hash maps are seeded from the system's randomness, which is all that is needed here.
    RandomState::new().hash_one(())
}
