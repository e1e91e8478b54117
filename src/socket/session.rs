//! A handler and its connection in one task.
//!
//! The session polls both in turn until neither makes progress. There is no second task and no
//! channel. A handler that waits for something else does not delay pings or a Close.

use std::{
    collections::hash_map::RandomState,
    future::{Future, Pending},
    hash::BuildHasher,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{
    Values, WebSocket,
    driver::{Driver, Progress},
    handler_error::close_frame_of,
    io::Io,
    link::{Link, TrySleep},
    setup::Served,
    timer::{Timer, now},
};
use crate::{
    socket::report,
    time::Moment,
    words::{BoxError, CloseCode, CloseFrame, Panicked, catch_panic},
};

/// The most rounds of a poll before it yields to other tasks.
const MAX_ROUNDS: usize = 64;

pin_project! {
    /// The future of a connection and its handler. Ready when both have ended.
    ///
    /// The connection is open as long as the handler runs or the `WebSocket` lives, whichever is
    /// longer. A handler that returns `Ok` while its `WebSocket` lives elsewhere leaves the
    /// connection open. A handler that fails or panics closes it. At the end of the connection the
    /// stream is dropped, and the handler has [`Config::handler_grace`] to return.
    ///
    /// Not an `async fn`, which would store its arguments twice in each connection.
    // As in `Link`, what every message needs comes first.
    #[repr(C)]
    pub(crate) struct Session<IO, F, P>
    where
        P: EndHooks,
    {
        // `None` once the handler has returned.
        #[pin]
        handler: Option<F>,
        link: Arc<Link>,
        connection: Connection<IO>,
        hooks: P,
        // Of the connection, and then of the handler's time.
        #[pin]
        timer: Timer,
    }

    impl<IO, F, P> PinnedDrop for Session<IO, F, P>
    where
        P: EndHooks,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.connection.end().is_some() {
                report_end(this.link);
                this.hooks.connection_over(this.link);
            }
        }
    }
}

/// The connection of a session.
#[expect(
    clippy::large_enum_variant,
    reason = "almost all connections are open, and a box would cost them memory"
)]
enum Connection<IO> {
    Open(Driver<IO>),
    Over {
        /// The end of the time that the handler has to return.
        grace: Option<Moment>,
    },
}

impl<IO> Connection<IO> {
    #[inline]
    fn driver(&mut self) -> Option<&mut Driver<IO>> {
        match self {
            Self::Open(driver) => Some(driver),
            Self::Over { .. } => None,
        }
    }

    /// Takes the driver out, because the connection is over.
    fn end(&mut self) -> Option<Driver<IO>> {
        self.driver()?;
        match mem::replace(self, Self::Over { grace: None }) {
            Self::Open(driver) => Some(driver),
            Self::Over { .. } => None,
        }
    }
}

/// Callbacks that release the limited resources of a connection.
pub(crate) trait EndHooks {
    /// The connection is over, or its task was dropped.
    fn connection_over(&mut self, link: &Link);

    /// The connection is over, and its handler has returned.
    fn handler_over(&mut self);

    /// The handler is dropped because its connection was over long ago. Returns whether this is logged at warn level.
    fn handler_outlived(&mut self, link: &Link) -> bool;
}

impl EndHooks for () {
    fn connection_over(&mut self, _: &Link) {}

    fn handler_over(&mut self) {}

    fn handler_outlived(&mut self, _: &Link) -> bool {
        true
    }
}

/// Serves a connection with its handler, and calls the `hooks` at the end.
///
/// With a `refused` frame it closes the connection at once and does not call the handler.
pub(crate) fn serve<IO, F, P>(
    served: Served<IO>,
    values: Values,
    hooks: P,
    refused: Option<CloseFrame>,
    handle: impl FnOnce(WebSocket) -> F,
) -> Session<IO, F, P>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
    P: EndHooks,
{
    let link = Arc::clone(&served.link);
    let driver = Driver::new(served, ping_seed());
    let socket = WebSocket::new(Arc::clone(&link), values);
    let handler = match refused {
        Some(frame) => {
            link.close(frame);
            None
        }
        // A handler that is a plain function may panic before it returns a future.
        None => match catch_panic(|| handle(socket)) {
            Ok(handler) => Some(handler),
            Err(panicked) => {
                report::handler_panicked(&panicked);
                link.close(CloseFrame::without_reason(CloseCode::INTERNAL_ERROR));
                None
            }
        },
    };
    Session {
        link,
        connection: Connection::Open(driver),
        hooks,
        handler,
        timer: Timer::default(),
    }
}

/// Serves a connection without a handler, until its `WebSocket` is dropped.
pub(super) fn detached<IO: Io>(
    served: Served<IO>,
) -> Session<IO, Pending<Result<(), BoxError>>, ()> {
    detached_in(served, ())
}

/// Serves a connection as [`detached`] does, and calls `hooks` at its ends.
pub(crate) fn detached_in<IO: Io, P: EndHooks>(
    served: Served<IO>,
    hooks: P,
) -> Session<IO, Pending<Result<(), BoxError>>, P> {
    Session {
        link: Arc::clone(&served.link),
        connection: Connection::Open(Driver::new(served, ping_seed())),
        hooks,
        handler: None,
        timer: Timer::default(),
    }
}

impl<IO, F, P> Future for Session<IO, F, P>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
    P: EndHooks,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = report::PanicAlarm::new();
        let poll = self.as_mut().poll_both(cx);
        if let Some(driver) = self.project().connection.driver() {
            driver.end_poll();
        }
        alarm.disarm();
        poll
    }
}

impl<IO, F, P> Session<IO, F, P>
where
    IO: Io,
    F: Future<Output = Result<(), BoxError>>,
    P: EndHooks,
{
    /// Polls both in turn until neither makes progress.
    fn poll_both(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let link = &*this.link;
        // The wake may have been for the handler.
        let (mut driver_is_due, mut handler_is_due) = (true, true);
        let mut now = now();
        for _ in 0..MAX_ROUNDS {
            let progress = match this.connection.driver() {
                Some(_) if !mem::replace(&mut driver_is_due, true) => Progress::Idle,
                Some(driver) => driver.poll(this.timer.as_mut(), &mut now, cx),
                None => Progress::Over,
            };
            if progress == Progress::Over {
                if let Some(mut driver) = this.connection.end() {
                    driver.end_poll();
                    drop(driver);
                    report_end(link);
                    this.hooks.connection_over(link);
                }
            }
            let handler = &mut this.handler;
            handler_is_due |= link.take_handler_due();
            let was_due = mem::replace(&mut handler_is_due, false);
            if !was_due
                && handler.is_some()
                && !matches!(progress, Progress::Again | Progress::Over)
            {
                // The handler has nothing new to do.
            } else if let Poll::Ready(verdict) = poll_handler(handler.as_mut(), cx) {
                match verdict {
                    Some(frame) => link.close(frame),
                    None if link.abandoned().is_some() => {
                        link.close(CloseFrame::without_reason(CloseCode::NORMAL));
                    }
                    None if progress == Progress::Over => {}
                    None => link.note_handed_on(),
                }
            } else if handler.is_none() {
                close_if_socket_dropped(link);
            }
            if progress == Progress::Over {
                let timer = this.timer.as_mut();
                let has_time =
                    handler.is_some() && poll_grace(this.connection, timer, link, cx).is_pending();
                if handler.is_none() {
                    this.hooks.handler_over();
                    return Poll::Ready(());
                }
                if !has_time {
                    report::handler_outlived(link.info(), this.hooks.handler_outlived(link));
                    drop_handler(handler.as_mut());
                    return Poll::Ready(());
                }
            }
            let settled = match this.connection.driver() {
                Some(driver) if progress == Progress::Again && !link.is_handler_due() => {
                    driver.settle(now, cx)
                }
                _ => None,
            };
            let sleep = match (settled, progress, this.connection.driver()) {
                (Some(sleep), _, _) => sleep,
                (None, Progress::Again, _) => continue,
                (None, Progress::Yield, Some(_)) => break,
                (None, _, Some(driver)) => driver.try_sleep(cx),
                (None, _, None) => link.try_sleep(None, cx),
            };
            match sleep {
                TrySleep::Asleep => return Poll::Pending,
                TrySleep::Awake { handler_waits } => {
                    handler_is_due = handler_waits;
                    // If the handler does anything that the connection has to see, it sets the dirty flag.
                    driver_is_due = !handler_waits;
                }
                TrySleep::Yield => break,
            }
        }
        if let Some(driver) = this.connection.driver() {
            driver.before_yield(cx);
        }
        // tokio's yield lets timers and I/O of other tasks run first; waking the task directly
        // would not.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }
}

/// Logs how the connection ended.
fn report_end(link: &Link) {
    report::closed(|| Some((link.ending()?, link.age(), link.traffic())));
}

/// Closes a connection whose handler has returned, once the `WebSocket` is dropped.
fn close_if_socket_dropped(link: &Link) {
    match link.abandoned() {
        None => {}
        Some(false) => link.close(CloseFrame::without_reason(CloseCode::NORMAL)),
        Some(true) => link.close(CloseFrame::without_reason(CloseCode::INTERNAL_ERROR)),
    }
}

/// Ready when the handler of an ended connection has had its time, or is evicted.
fn poll_grace<IO>(
    connection: &mut Connection<IO>,
    timer: Pin<&mut Timer>,
    link: &Link,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Connection::Over { grace } = connection else {
        return Poll::Pending;
    };
    let now = now();
    let ends = grace.get_or_insert_with(|| now + link.config().handler_limit());
    if link.is_evicted() {
        return Poll::Ready(());
    }
    if link.holder_has_received() {
        // The handler still receives messages from before the end. The inbox bounds their number.
        *ends = now + link.config().handler_limit();
    }
    timer.poll(Some(*ends), now, cx)
}

/// Drops the handler of a connection that is over.
fn drop_handler<F>(mut handler: Pin<&mut Option<F>>) {
    if let Err(panicked) = catch_panic(|| handler.set(None)) {
        report::handler_panicked(&panicked);
    }
}

/// Ready once, when the handler has ended, with the Close for its error or panic.
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
    // A handler that panicked is not polled again, so no code sees its broken state. State that it
    // shares with other code is up to the user.
    let poll = catch_panic(|| {
        running
            .poll(cx)
            .map(|result| result.err().map(close_frame_of))
    });
    let verdict = match poll {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(verdict)) => Ok(verdict),
        Err(panicked) => Err(panicked),
    };
    let dropped = catch_panic(|| handler.set(None));
    Poll::Ready(match (verdict, dropped) {
        (Ok(verdict), Ok(())) => verdict,
        (Ok(verdict), Err(panicked)) => Some(verdict.unwrap_or_else(|| panic_frame(&panicked))),
        (Err(panicked), _) => Some(panic_frame(&panicked)),
    })
}

/// Reports a handler's panic, and returns the Close for it.
fn panic_frame(panicked: &Panicked) -> CloseFrame {
    report::handler_panicked(panicked);
    CloseFrame::without_reason(CloseCode::INTERNAL_ERROR)
}

/// Returns the seed of the ping payloads.
fn ping_seed() -> u64 {
    // The seed of std's hash maps comes from the system's random numbers.
    RandomState::new().hash_one(())
}
