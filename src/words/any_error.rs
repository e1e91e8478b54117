//! Types that hold any error: for handlers, and for the source of another error.

use std::{error::Error as StdError, fmt};

/// Any error, boxed. A [`Handler`](crate::Handler) returns it when it fails.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Any error, for handlers that are closures.
///
/// `?` converts every type that implements [`std::error::Error`]. Use [`Error::new`] for a text or a
/// [`BoxError`].
///
/// The last line of a closure has to name its error type: use this one. [`BoxError`] works under most
/// servers as well. It fails if the compiler has to prove that a connection, spawned in a non-generic
/// function, is `Send`: the compiler then asks for a conversion from a box of *any* lifetime, which does
/// not exist. This type has no lifetime.
///
/// Like other catch-all error types, it does not implement [`std::error::Error`] itself. It converts into
/// [`BoxError`].
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
///
/// # Handlers that return `anyhow::Error`
///
/// `anyhow::Error` converts into [`BoxError`] too, but hides the error in it. Then a
/// [`CloseFrame`](crate::CloseFrame) closes with 1011 instead of its own code, [`NotText`](crate::error::NotText)
/// with 1011 instead of 1003, and the end of a connection is logged as a failure of the handler. This call of anyhow
/// keeps the type of the error:
///
/// ```
/// use tower_websocket::{CloseCode, CloseFrame, WebSocket, WebSocketLayer};
///
/// async fn serve(mut socket: WebSocket) -> anyhow::Result<()> {
///     while let Some(message) = socket.recv().await? {
///         if message.into_text()?.is_empty() {
///             Err(CloseFrame::truncated(CloseCode::of::<4003>(), "no empty text"))?;
///         }
///     }
///     Ok(())
/// }
///
/// let layer = WebSocketLayer::new(async |socket: WebSocket| {
///     let served = serve(socket).await;
///     served.map_err(anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace)
/// });
/// ```
pub struct Error(BoxError);

impl Error {
    /// Makes an error from a text or a [`BoxError`].
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
