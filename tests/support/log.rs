//! Captures the log of a test's thread. The tasks of the test's runtime run on the same thread.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{cell::RefCell, io, sync::Once};

use tokio::sync::watch;

use super::within;

thread_local! {
    static CAPTURED: RefCell<Option<watch::Sender<String>>> = const { RefCell::new(None) };
}

/// Sets up the log of the process. Threads without [`capture`] discard it.
///
/// One subscriber for all threads is needed: if an event happens first on a thread without a subscriber, `tracing`
/// may cache that no thread listens to it. So a test must call this first if it may cause the same events as a
/// test of the same file that captures the log.
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
    /// Returns how many lines contain these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        let log = self.0.borrow();
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// Returns the lines that contain these words.
    pub(crate) fn lines_with(&self, words: &str) -> Vec<String> {
        let log = self.0.borrow();
        let lines = log.lines().filter(|line| line.contains(words));
        lines.map(str::to_owned).collect()
    }

    /// Waits for a line that contains both.
    pub(crate) async fn names(&mut self, level: &str, words: &str) {
        let has_line = |log: &String| {
            let mut lines = log.lines();
            lines.any(|line| line.contains(level) && line.contains(words))
        };
        within(self.0.wait_for(has_line)).await.unwrap();
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
