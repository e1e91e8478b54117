//! A handler and its connection, side by side in one task.
//!
//! Both are polled in turn until neither gets on: no second task, no channel between them, and a
//! handler that waits for something else holds up neither pings nor a Close.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, request::Parts};
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
    request: Parts,
    subprotocol: Option<HeaderValue>,
    handle: impl FnOnce(WebSocket) -> F,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<(), BoxError>>,
{
    let link = Arc::new(Link::new());
    let driver = Driver::new(io, config, Arc::clone(&link)).await;
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
    let driver = Driver::new(io, &config, Arc::clone(&link)).await;
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
        for _ in 0..TURNS {
            let turn = driver.as_mut().map_or(Turn::Over, |driver| driver.poll(cx));
            if turn == Turn::Over {
                // The handler may have a lot to tidy up; the stream does not wait for it.
                driver = None;
            }
            if let Poll::Ready(code) = poll_handler(handler.as_mut(), cx) {
                link.close(CloseFrame::without_reason(code));
            }
            if turn == Turn::Over && handler.is_none() {
                return Poll::Ready(());
            }
            if turn != Turn::Again && link.park(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Ready, once, with the code that the handler's end calls for.
fn poll_handler<F>(mut handler: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<CloseCode>
where
    F: Future<Output = Result<(), BoxError>>,
{
    let Some(running) = handler.as_mut().as_pin_mut() else {
        return Poll::Pending;
    };
    // A handler that panicked is not polled again, so nobody sees what it left half done, except
    // through state that it shares, which is the business of whoever shares it.
    let code = match catch_unwind(AssertUnwindSafe(|| running.poll(cx))) {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(Ok(()))) => CloseCode::NORMAL,
        Ok(Poll::Ready(Err(error))) => {
            // These tell of an end that the connection knows already.
            if !error.is::<RecvError>() && !error.is::<SendError>() {
                report::handler_failed(&error);
            }
            CloseCode::INTERNAL_ERROR
        }
        Err(_) => {
            report::handler_panicked();
            CloseCode::INTERNAL_ERROR
        }
    };
    if catch_unwind(AssertUnwindSafe(|| handler.set(None))).is_err() {
        report::handler_panicked();
    }
    Poll::Ready(code)
}
