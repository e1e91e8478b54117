//! An executor that makes it possible to reset streams of HTTP/2.
//!
//! hyper sends the output of an upgraded stream from a task of its own. It spawns that task on the
//! server's executor together with the answer. While the task waits for the client's window, it
//! does not notice that the stream was dropped. When it notices, it ends the stream as if the
//! output were complete. If the task is aborted instead, h2 discards the rest and resets the stream
//! with CANCEL.

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

/// How long the output of an ended stream may take to be sent.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the streams of an HTTP/2 server on tokio, and resets the stream of a WebSocket that is
/// given up.
///
/// Pass it to a server's builder instead of hyper-util's `TokioExecutor`. It spawns the same tasks,
/// and also keeps track of the task in which hyper sends the output of a WebSocket. A connection is
/// given up if its client reads nothing for [`write_timeout`](crate::Config::write_timeout),
/// answers no ping, or is not closed in time at a shutdown. The executor then aborts that task:
/// output that the client has not read is discarded, and the stream is reset with CANCEL. Other
/// streams are not affected, and a stream that is closed ends as before.
///
/// Streams cannot be reset with another executor, under `axum::serve` (which has its own), or
/// behind a layer that answers requests in a separate task. If the client reads nothing, hyper then
/// keeps the stream and up to 64 KiB until the client reads, resets the stream or disconnects. A
/// stream that can be written to ends as if the server had finished.
///
/// Use it for servers only. Tasks that an HTTP client spawns on it while a WebSocket request is
/// answered may be aborted together with that WebSocket.
///
/// It costs about 40 bytes for each HTTP/2 request while it is answered, and about 70 for each
/// WebSocket.
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
    /// Makes an executor. All are alike.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

tokio::task_local! {
    /// Set while a request is answered: the send task of the WebSocket that it becomes.
    static ACCEPTED: RefCell<Option<Task>>;
}

impl<F> Executor<F> for Http2Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        // hyper spawns the send task in the last poll of the request that it has answered.
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
    /// A future that is never polled after it was stopped.
    ///
    /// Aborting a tokio task does not guarantee that: a poll in another thread may continue, see
    /// the end of the output, and end the stream.
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
        // Locked during the poll: after [`Task::stop`] no poll is running.
        let state = this.task.lock();
        match *state {
            State::Stopped => Poll::Ready(None),
            State::NotSpawned | State::Running(_) => this.future.poll(cx).map(Some),
        }
    }
}

/// Stops the send task of a stream when it is dropped, which resets the stream.
#[derive(Debug)]
pub(crate) struct ResetGuard {
    task: Task,
    stream_ended: bool,
}

impl ResetGuard {
    /// Makes the guard for the request that is being answered. Call it in the poll that accepts the
    /// request. Returns `None` if the server has another executor.
    pub(crate) fn accepted() -> Option<Self> {
        let task = Task::default();
        let ask = |accepted: &RefCell<_>| accepted.replace(Some(task.clone()));
        ACCEPTED.try_with(ask).ok()?;
        Some(Self {
            task,
            stream_ended: false,
        })
    }

    /// Records that the stream has ended. Its output gets [`GRACE`] to be sent.
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
    /// The task is spawned after the answer.
    #[default]
    NotSpawned,
    Running(AbortHandle),
    Stopped,
}

impl Task {
    fn set_running(&self, task: AbortHandle) {
        let mut state = self.lock();
        match *state {
            // The connection was given up before the task was spawned.
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
    fn a_stopped_future_is_not_polled() {
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
    async fn finds_no_task_unless_a_request_is_answered() {
        assert!(ResetGuard::accepted().is_none());
        let plain = ACCEPTED.scope(RefCell::default(), async {
            // Any other task that the server spawns while it answers.
            Http2Executor::new().execute(async {});
            ResetGuard::accepted()
        });
        let sending = plain.await.unwrap();
        assert!(matches!(*sending.task.lock(), State::NotSpawned));
    }
}
