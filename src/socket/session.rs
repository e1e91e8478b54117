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

use http::{HeaderValue, Version, request::Parts};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    WebSocket,
    driver::{Driver, Turn},
    link::Link,
};
use crate::{
    close::{CloseCode, CloseFrame},
    config::Config,
    error::{BoxError, RecvError, SendError},
    report,
};

/// Turns taken before other tasks of the thread get theirs.
const TURNS: usize = 64;

/// Serves a connection until both it and its handler have ended.
pub(crate) async fn serve<IO, F>(
    io: IO,
    config: &Config,
    link: Arc<Link>,
    request: Parts,
    subprotocol: Option<HeaderValue>,
    handle: impl FnOnce(WebSocket) -> F,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<(), BoxError>>,
{
    let driver = Driver::new(io, config, Arc::clone(&link), seed());
    // By value: borrowed, it would take its place in the task twice.
    let driver = driver.probing(request.version == Version::HTTP_2);
    let socket = WebSocket::new(Arc::clone(&link), request, subprotocol);
    // Handlers that are plain functions may panic before they return a future.
    let handler = async move { handle(socket).await };
    run(driver, &link, handler).await;
}

/// Serves a connection whose `WebSocket` is held somewhere else, until that is dropped.
pub(super) async fn detached<IO>(io: IO, config: Config, link: Arc<Link>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let driver = Driver::new(io, &config, Arc::clone(&link), seed());
    let holder = poll_fn(|_| match link.abandoned() {
        None => Poll::Pending,
        Some(false) => Poll::Ready(Ok(())),
        Some(true) => Poll::Ready(Err(BoxError::from("the holder of the websocket panicked"))),
    });
    run(driver, &link, holder).await;
}

async fn run<IO, F>(driver: Driver<IO>, link: &Link, handler: F)
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<(), BoxError>>,
{
    let mut handler = pin!(Some(handler));
    let mut driver = Some(driver);
    poll_fn(|cx| {
        let poll = poll_both(&mut driver, handler.as_mut(), link, cx);
        if let Some(driver) = &mut driver {
            driver.rest();
        }
        poll
    })
    .await;
}

fn poll_both<IO, F>(
    driver: &mut Option<Driver<IO>>,
    mut handler: Pin<&mut Option<F>>,
    link: &Link,
    cx: &mut Context<'_>,
) -> Poll<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
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
fn seed() -> u64 {
    // std's hash maps are seeded from the system's randomness, which is all that is needed here.
    RandomState::new().hash_one(())
}
