//! The checks of the targets `session` and `handshake`, which use only the public API.

mod handshake;
mod session;
mod stream;
mod written;

pub use self::{handshake::handshake, session::session};

use std::{cell::RefCell, future::Future};

use tokio::runtime::{Builder, Runtime};

/// The remaining bytes of an input.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Takes one byte, or returns 0 at the end.
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// Takes a length byte and that many bytes, or all that remain.
    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (front, rest) = self.0.split_at(len);
        self.0 = rest;
        front
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// Runs a future on one thread with a paused clock, which only advances when no task can run.
fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: RefCell<Option<(Runtime, u32)>> = const { RefCell::new(None) };
    }
    RUNTIME.with_borrow_mut(|kept| {
        // Replace the runtime regularly, because its clock runs further and further ahead.
        let old = kept.take_if(|(_, runs)| *runs >= 10_000);
        drop(old);
        let (runtime, runs) = kept.get_or_insert_with(|| (runtime(), 0));
        *runs += 1;
        runtime.block_on(future)
    })
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing from the system")
}
