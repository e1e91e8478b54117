//! The executor by which streams of HTTP/2 can be reset.
//!
//! hyper sends what is written to an upgraded stream by a task of its own, which it hands to the
//! server's executor as soon as the answer is on its way. While that task waits for the client's
//! window, it does not notice that the stream was dropped; and when it does, it ends the stream as
//! if all had been said. If it is stopped instead, h2 throws away what was not sent, and resets the
//! stream with CANCEL.

use std::{
    cell::RefCell,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, task::AbortHandle, time::sleep};

/// How long a stream that was ended has to send what was written before.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the streams of an HTTP/2 server on tokio, so that a WebSocket that is given up resets its
/// own.
///
/// It is given to the builder of a server in the place of hyper-util's `TokioExecutor`, and spawns
/// what that spawns. In addition it knows the task by which hyper sends what a WebSocket writes. When
/// a connection is given up (its client takes nothing for
/// [`write_timeout`](crate::Config::write_timeout), answers no ping, or is not closed in time at a
/// shutdown) that task is stopped: what the client had not taken is thrown away, and the stream reset
/// with CANCEL. The other streams go on, and one that is closed ends as before.
///
/// With another executor, under `axum::serve`, which has its own, and behind a layer that has requests
/// answered in a task of its own, hyper holds up to 64 KiB and the stream itself until a client that
/// takes nothing reads, resets the stream or leaves; and a stream that could be written to ends as if
/// the server had finished.
///
/// It is for servers alone: a client that a layer gives it to may have its tasks stopped together with
/// the WebSocket in whose answer they were spawned.
///
/// It costs each request over HTTP/2 some 40 bytes while it is answered, and each WebSocket some 70.
///
/// # Examples
///
/// ```
/// use hyper_util::server::conn::auto;
/// use tower_websocket::Http2Executor;
///
/// let mut server = auto::Builder::new(Http2Executor::new());
/// server.http2().enable_connect_protocol();
/// ```
///
/// Source: [RFC 8441 §5](https://www.rfc-editor.org/rfc/rfc8441#section-5), and
/// [RFC 9113 §5.4.2](https://www.rfc-editor.org/rfc/rfc9113#section-5.4.2) and
/// [§7](https://www.rfc-editor.org/rfc/rfc9113#section-7).
#[derive(Clone, Copy, Debug, Default)]
pub struct Http2Executor(());

impl Http2Executor {
    /// Makes one; all are alike.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

tokio::task_local! {
    /// There while a request is answered; the task that will send for the WebSocket it has become.
    static ACCEPTED: RefCell<Option<Task>>;
}

impl<F> Executor<F> for Http2Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        // hyper hands over the task that sends in the last poll of the stream that it answered.
        match ACCEPTED.try_with(|accepted| accepted.borrow().clone()) {
            Ok(Some(task)) => {
                let guarded = Guarded {
                    future,
                    task: task.clone(),
                };
                task.set_running(tokio::spawn(guarded).abort_handle());
            }
            Ok(None) | Err(_) => {
                tokio::spawn(ACCEPTED.scope(RefCell::default(), future));
            }
        }
    }
}

pin_project! {
    /// A future that is not polled once it was stopped. That alone is not certain of a task of
    /// tokio's: one that runs in another thread meanwhile goes on to its next wait, and may find the
    /// end of what it is to send.
    struct Guarded<F> {
        #[pin]
        future: F,
        task: Task,
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Kept while it is polled, so that whoever stops it knows that it rests.
        let state = this.task.lock();
        match *state {
            State::Stopped => Poll::Ready(None),
            State::NotSpawned | State::Running(_) => this.future.poll(cx).map(Some),
        }
    }
}

/// What sends for a stream: is stopped when this is dropped, which resets the stream.
#[derive(Debug)]
pub(crate) struct ResetGuard {
    task: Task,
    stream_ended: bool,
}

impl ResetGuard {
    /// Asks for the task of the stream whose request is answered, in the poll in which that is
    /// accepted. There is none if the server has another executor.
    pub(crate) fn accepted() -> Option<Self> {
        let task = Task::default();
        let ask = |accepted: &RefCell<_>| accepted.replace(Some(task.clone()));
        ACCEPTED.try_with(ask).ok()?;
        Some(Self {
            task,
            stream_ended: false,
        })
    }

    /// The stream was ended: what was written has a little time more to be sent.
    pub(crate) fn stream_ended(&mut self) {
        self.stream_ended = true;
    }
}

impl Drop for ResetGuard {
    fn drop(&mut self) {
        match Handle::try_current() {
            Ok(runtime) if self.stream_ended => {
                if self.task.is_running() {
                    let task = self.task.clone();
                    runtime.spawn(async move {
                        sleep(GRACE).await;
                        task.stop();
                    });
                }
            }
            Ok(_) | Err(_) => self.task.stop(),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Task(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// It comes after the answer.
    #[default]
    NotSpawned,
    Running(AbortHandle),
    Stopped,
}

impl Task {
    fn set_running(&self, task: AbortHandle) {
        let mut state = self.lock();
        match *state {
            // The connection was given up before it had begun.
            State::Stopped => task.abort(),
            State::NotSpawned | State::Running(_) => *state = State::Running(task),
        }
    }

    fn is_running(&self) -> bool {
        match &*self.lock() {
            State::Running(task) => !task.is_finished(),
            State::NotSpawned | State::Stopped => false,
        }
    }

    fn stop(&self) {
        if let State::Running(task) = mem::replace(&mut *self.lock(), State::Stopped) {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Waker};

    use super::*;

    #[test]
    fn what_was_stopped_is_not_polled_again() {
        let task = Task::default();
        let mut polls = 0;
        let mut guarded = pin!(Guarded {
            future: poll_fn(|_| {
                polls += 1;
                Poll::<()>::Pending
            }),
            task: task.clone(),
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(guarded.as_mut().poll(&mut cx).is_pending());
        drop(ResetGuard {
            task,
            stream_ended: false,
        });
        assert_eq!(guarded.as_mut().poll(&mut cx), Poll::Ready(None));
        assert_eq!(polls, 1);
    }

    #[tokio::test]
    async fn asks_for_nothing_where_nothing_is_answered() {
        assert!(ResetGuard::accepted().is_none());
        let plain = ACCEPTED.scope(RefCell::default(), async {
            // As a server's executor is called in answering, for something else.
            Http2Executor::new().execute(async {});
            ResetGuard::accepted()
        });
        let sending = plain.await.unwrap();
        assert!(matches!(*sending.task.lock(), State::NotSpawned));
    }
}
