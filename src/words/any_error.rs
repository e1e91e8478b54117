//! Any error at all, for handlers and for sources.

use std::{error::Error as StdError, fmt};

/// Any error, boxed: what a [`Handler`](crate::Handler) returns when it fails.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Any error, for handlers that are closures: `?` turns everything into it that implements
/// [`std::error::Error`]. For a text or a [`BoxError`] there is [`Error::new`].
///
/// The error type of a closure has to be named in its last line, and this is the one to name.
/// [`BoxError`] does as well under most servers, but not where the compiler has to prove that a
/// connection spawned in a non-generic function is `Send`: it then asks for the conversion from a
/// box of *any* lifetime, which does not exist. This type has no lifetime to be forgotten.
///
/// Like the other catch-all error types it does not implement [`std::error::Error`] itself; it
/// converts into [`BoxError`], which does.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Error, WebSocket, WebSocketLayer};
///
/// let layer = WebSocketLayer::new(async |mut socket: WebSocket| {
///     while let Some(message) = socket.recv().await? {
///         let number: i64 = message.into_text()?.parse()?;
///         socket.send((number + 1).to_string()).await?;
///     }
///     Ok::<_, Error>(())
/// });
/// ```
pub struct Error(BoxError);

impl Error {
    /// Makes an error of a text, or of a box.
    #[must_use]
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<Error> for BoxError {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
