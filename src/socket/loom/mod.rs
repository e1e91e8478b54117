//! Models of a connection whose socket and senders are on other threads.
//!
//! loom runs each model in every order in which its threads can take the locks, up to three
//! preemptions. The models run the real connection, over a peer that reads and writes at once. The
//! connection is polled only when it is woken. The clock is paused, so no timer can hide a lost
//! wake: the model then ends in a deadlock, which loom reports.
//!
//! `RUSTFLAGS="--cfg tower_websocket_loom" cargo test --release --lib --features hub loom` runs them,
//! and those of rooms in `hub/loom`.
//!
//! | File | Holds |
//! | --- | --- |
//! | this one | running a model, and waiting in one |
//! | `peer` | the scripted peer |
//! | `connection` | the connection of a model |
//! | `receiving` | models of receiving |
//! | `sending` | models of sending, and of waiting for room |
//! | `ending` | models of the end |
//! | `halves` | models of halves and of pings |
//! | `shedding` | models of a connection that drops its memory |

pub(crate) mod connection;
mod ending;
mod halves;
pub(crate) mod peer;
mod receiving;
mod sending;
mod shedding;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use ::loom::{
    model::Builder,
    sync::{Condvar, Mutex},
};
use bytes::Bytes;

use super::{
    RecvError, SendError,
    link::{Caller, Link},
};
use crate::words::{CloseCode, CloseFrame, Message};

/// Runs a model in every order of its threads.
pub(crate) fn model(model: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _clock = runtime.enter();
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

/// The waker of a thread.
#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Returns whether it was woken since the last call.
    fn take(&self) -> bool {
        std::mem::take(&mut *self.woken.lock().unwrap())
    }

    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// Polls a future whenever it is woken, until it is ready.
fn wait_for<F: Future>(future: F) -> F::Output {
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        signal.wait();
    }
}

/// Polls a future once, with a waker that does nothing.
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn recv(link: &Link) -> impl Future<Output = Result<Option<Message>, RecvError>> {
    poll_fn(|cx| link.poll_recv(cx))
}

fn flushed(link: &Link) -> impl Future<Output = Result<(), SendError>> {
    poll_fn(|cx| link.poll_flushed(cx))
}

/// Returns a send that owns its link.
fn send_future(
    link: &Arc<Link>,
    payload: u8,
) -> Pin<Box<dyn Future<Output = Result<(), SendError>>>> {
    let link = Arc::clone(link);
    Box::pin(async move { link.send(message(payload), Caller::Holder).await })
}

fn message(payload: u8) -> Message {
    Message::Binary(Bytes::copy_from_slice(&[payload]))
}

fn payload(received: Result<Option<Message>, RecvError>) -> Option<u8> {
    received.unwrap().map(|message| message.as_bytes()[0])
}

fn close(link: &Link) {
    link.close(CloseFrame::without_reason(CloseCode::NORMAL));
}
