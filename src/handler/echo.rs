//! The echo handler.

use std::sync::Arc;

use super::Handler;
use crate::{
    socket::WebSocket,
    words::{BoxError, Message, Utf8Bytes},
};

/// Sends every message back.
///
/// Text comes back as text and binary as binary. A prefix is added to text only, because it would corrupt
/// binary data.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Echo, WebSocketLayer};
///
/// let unchanged = WebSocketLayer::new(Echo::new());
/// let greeting = WebSocketLayer::new(Echo::prefixed("Echo: "));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Echo {
    prefix: Arc<str>,
}

impl Echo {
    /// Sends every message back unchanged.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends text back with `prefix` in front, and binary unchanged.
    #[must_use]
    pub fn prefixed(prefix: impl Into<Utf8Bytes>) -> Self {
        Self {
            prefix: prefix.into().as_str().into(),
        }
    }

    fn answer(&self, message: Message) -> Message {
        message.with_prefix(&self.prefix)
    }
}

impl Handler for Echo {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        while let Some(message) = socket.recv().await? {
            socket.send(self.answer(message)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_text_but_not_binary() {
        let echo = Echo::prefixed("Echo: ");
        assert_eq!(echo.answer("Hello".into()), Message::from("Echo: Hello"));
        assert_eq!(echo.answer(vec![0xff].into()), Message::from(vec![0xff]));
    }

    #[test]
    fn repeats_without_a_prefix() {
        assert_eq!(Echo::new().answer("Hello".into()), Message::from("Hello"));
        assert_eq!(Echo::new().answer("".into()), Message::from(""));
    }
}
