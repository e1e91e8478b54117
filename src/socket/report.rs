//! The log of a connection: one function per event. Without the `tracing` feature, the functions do nothing.
//!
//! Payloads are never logged, because they may be secret. The path, which the client chose, is logged as
//! [`Visible`](crate::words::header::Visible).

use std::{future::Future, time::Duration};

#[cfg(feature = "tracing")]
use crate::words::header::Visible;
use crate::words::{BoxError, Closed};

/// The name of a connection in warnings.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "tracing"),
    allow(dead_code, reason = "used only in the log")
)]
pub(crate) struct Name {
    /// The type of the handler.
    pub(crate) handler: &'static str,
    /// The path of its request, without the query.
    pub(crate) path: Box<str>,
}

/// The span of one connection, from its 101 to its end.
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// Makes the span of a connection. It follows from the current span, which is that of the request.
///
/// It is not a child of the request's span, which would then stay open as long as the connection. `path` is the path
/// without the query, which may hold a token.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn connection(path: &str) -> Span {
    #[cfg(feature = "tracing")]
    {
        let path = Visible(path.as_bytes());
        let span = tracing::info_span!(parent: None, "websocket", %path);
        span.follows_from(tracing::Span::current());
        Span { span }
    }
    #[cfg(not(feature = "tracing"))]
    Span {}
}

impl Span {
    /// Runs a future inside the span.
    pub(crate) fn around<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        #[cfg(feature = "tracing")]
        let future = tracing::Instrument::instrument(future, self.span);
        future
    }
}

/// A connection was handed over, and its handler begins.
pub(crate) fn opened() {
    #[cfg(feature = "tracing")]
    tracing::debug!("websocket opened");
}

/// A handler has returned, and its `WebSocket` keeps the connection open.
pub(crate) fn handed_on() {
    #[cfg(feature = "tracing")]
    tracing::debug!("the websocket handler returned, but its websocket is still in use elsewhere");
}

/// Reports a panic of the crate's own code, unless it is disarmed.
#[derive(Debug)]
pub(crate) struct PanicAlarm(());

impl PanicAlarm {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    pub(crate) const fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            connection_panicked();
        }
    }
}

/// A connection is given up because the code that serves it panicked.
fn connection_panicked() {
    #[cfg(feature = "tracing")]
    tracing::error!("serving a websocket panicked; its connection is dropped");
}

/// A connection is closed because its handler takes no messages.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn not_receiving(name: &Name, limit: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        handler = name.handler,
        path = %Visible(name.path.as_bytes()),
        "the websocket handler took no message for {limit:?} while more were waiting: closing with \
         1008; a handler that only sends should call `WebSocket::ignore_incoming`"
    );
}

/// A handler is dropped because its connection was over long ago.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn handler_outlived(name: &Name) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        handler = name.handler,
        path = %Visible(name.path.as_bytes()),
        "the websocket handler went on after its connection was over, and is dropped; see \
         `WebSocket::closed` and `Config::handler_grace`"
    );
}

/// A connection is over.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn closed(closed: &Closed) {
    #[cfg(feature = "tracing")]
    {
        let code = closed.code().map(u16::from);
        let (by, clean, reason) = (closed.side(), closed.is_clean(), closed.fault());
        tracing::debug!(code, ?by, clean, reason, "websocket closed");
    }
}

/// The handler returned an error of its own.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn handler_failed(error: &BoxError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        error = &**error as &dyn std::error::Error,
        "the websocket handler failed"
    );
}

/// The handler panicked.
pub(crate) fn handler_panicked() {
    #[cfg(feature = "tracing")]
    tracing::error!("the websocket handler panicked");
}

/// An observer of the registry panicked. This is logged at error level if `is_news`, otherwise at debug level.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn observer_panicked(is_news: bool) {
    #[cfg(feature = "tracing")]
    match is_news {
        true => tracing::error!("an observer of the websocket connections panicked"),
        false => tracing::debug!("an observer of the websocket connections panicked"),
    }
}
