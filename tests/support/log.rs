//! What is logged in the thread of a test, which is where the tasks of its runtime run, too.

use std::io;

use tokio::sync::watch;
use tracing_subscriber::util::SubscriberInitExt;

use super::within;

/// The lines logged since [`capture`], each with its level.
#[derive(Debug)]
pub(crate) struct Log(watch::Receiver<String>);

/// Captures what this thread logs until the guard is dropped.
pub(crate) fn capture() -> (Log, impl Sized) {
    let (sender, log) = watch::channel(String::new());
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || Writer(sender.clone()))
        .finish();
    (Log(log), subscriber.set_default())
}

impl Log {
    /// Waits for a line with both of these in it.
    pub(crate) async fn names(&mut self, level: &str, words: &str) {
        let told = |log: &String| {
            let mut lines = log.lines();
            lines.any(|line| line.contains(level) && line.contains(words))
        };
        within(self.0.wait_for(told)).await.unwrap();
    }
}

struct Writer(watch::Sender<String>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.send_modify(|log| log.push_str(&text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
