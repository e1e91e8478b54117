//! What is logged in the thread of a test, which is where the tasks of its runtime run, too.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{cell::RefCell, io, sync::Once};

use tokio::sync::watch;

use super::within;

thread_local! {
    static CAPTURED: RefCell<Option<watch::Sender<String>>> = const { RefCell::new(None) };
}

/// Sets up the log of the process, which goes nowhere where it is not captured.
///
/// A subscriber for each thread would not do: if an event is first met by a thread without one,
/// `tracing` may remember for all threads that nobody listens. So whoever runs beside a test that
/// captures the log, and may cause the same events, calls this before.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG);
        subscriber.with_writer(|| Writer).init();
    });
}

/// The lines logged since [`capture`], each with its level.
#[derive(Debug)]
pub(crate) struct Log(watch::Receiver<String>);

/// Captures what this thread logs until the guard is dropped.
pub(crate) fn capture() -> (Log, impl Sized) {
    install();
    let (sender, log) = watch::channel(String::new());
    CAPTURED.set(Some(sender));
    (Log(log), Guard)
}

impl Log {
    /// Returns how many lines have these words in them.
    pub(crate) fn count(&self, words: &str) -> usize {
        let log = self.0.borrow();
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// Waits for a line with both of these in it.
    pub(crate) async fn names(&mut self, level: &str, words: &str) {
        let told = |log: &String| {
            let mut lines = log.lines();
            lines.any(|line| line.contains(level) && line.contains(words))
        };
        within(self.0.wait_for(told)).await.unwrap();
    }
}

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        CAPTURED.set(None);
    }
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow(|captured| {
            if let Some(sender) = captured {
                sender.send_modify(|log| log.push_str(&String::from_utf8_lossy(bytes)));
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
