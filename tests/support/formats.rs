//! The log of a test in the formats of `tracing-subscriber`: plain, compact and JSON.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{cell::RefCell, io, sync::Once};

use serde_json::Value;
use tracing_subscriber::{filter::LevelFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

pub(crate) const FORMATS: [&str; 3] = ["plain", "compact", "json"];

thread_local! {
    /// The log of this thread in each format. The tasks of its test run on the same thread.
    static LOGS: RefCell<[String; 3]> = RefCell::default();
}

/// Clears the log of this thread, and begins to capture it.
///
/// All threads share one subscriber. Otherwise, a thread without a subscriber could make `tracing` cache that nobody
/// listens to an event.
pub(crate) fn listen() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let plain = fmt::layer().with_writer(|| Writer(0)).with_ansi(false);
        let compact = fmt::layer().with_writer(|| Writer(1)).with_ansi(false);
        tracing_subscriber::registry()
            .with(LevelFilter::DEBUG)
            .with(plain)
            .with(compact.compact())
            .with(fmt::layer().with_writer(|| Writer(2)).json())
            .init();
    });
    LOGS.take();
}

/// Returns the lines with these words, in the format at this index of [`FORMATS`].
pub(crate) fn lines(format: usize, words: &str) -> Vec<String> {
    LOGS.with_borrow(|logs| {
        let lines = logs[format].lines().filter(|line| line.contains(words));
        lines.map(str::to_owned).collect()
    })
}

/// Returns the lines with these words as JSON.
pub(crate) fn parsed(words: &str) -> Vec<Value> {
    let lines = lines(2, words).into_iter();
    lines
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

struct Writer(usize);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Tasks may log while the thread ends.
        let _ = LOGS.try_with(|logs| {
            logs.borrow_mut()[self.0].push_str(&String::from_utf8_lossy(bytes));
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
