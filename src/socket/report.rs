//! The log of a connection: one function per event. Without the `tracing` feature, the functions do nothing.
//!
//! Payloads are never logged, because they may be secret. The path, which the client chose, is logged as
//! [`Visible`](crate::words::header::Visible).

#[cfg(feature = "tracing")]
use std::fmt;
use std::{future::Future, net::IpAddr, time::Duration};

use tokio::task::JoinHandle;

use super::{info::HandshakeInfo, traffic::Traffic};
#[cfg(feature = "tracing")]
use crate::words::header::Visible;
use crate::words::{BoxError, Closed, ConnectionId, Panicked};

/// The span of one connection, from its 101 to its end.
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// Makes the span of a connection as a child of the current span. So each line of the connection has the fields of
/// the request, such as its id. `path` is without the query, because a query may hold a token. `peer` is called only
/// if the span is enabled.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn connection(
    id: ConnectionId,
    peer: impl FnOnce() -> Option<IpAddr>,
    path: &str,
) -> Span {
    #[cfg(feature = "tracing")]
    {
        let path = (!path.is_empty()).then(|| tracing::field::display(Visible(path.as_bytes())));
        let peer = || peer().map(|peer| tracing::field::display(peer.to_canonical()));
        let span = tracing::info_span!("websocket", id = id.get(), peer = peer(), path);
        Span { span }
    }
    #[cfg(not(feature = "tracing"))]
    Span {}
}

#[cfg(feature = "tracing")]
impl From<tracing::Span> for Span {
    fn from(span: tracing::Span) -> Self {
        Self { span }
    }
}

impl Span {
    /// Spawns the task of a connection inside the span.
    pub(crate) fn spawn(self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        #[cfg(feature = "tracing")]
        if !self.span.is_none() {
            return spawn(tracing::Instrument::instrument(task, self.span));
        }
        spawn(task)
    }
}

/// Spawns the task of a connection.
// Boxed: tokio aligns its part of a task to 128 bytes, and glibc seldom reuses the memory of a large aligned block.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(Box::pin(task))
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

/// A connection is closed because its handler takes no messages. This is logged at warn level, or at debug level if
/// the handler waits for a peer that does not read.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn not_receiving(info: &HandshakeInfo, limit: Duration, waits_for_peer: bool) {
    #[cfg(feature = "tracing")]
    {
        let path = Visible(info.request.path().as_bytes());
        match waits_for_peer {
            true => tracing::debug!(
                handler = info.handler,
                %path,
                "the websocket handler took no message for {limit:?}, because it waits to send to a peer \
                 that reads slowly: closing with 1008"
            ),
            false => tracing::warn!(
                handler = info.handler,
                %path,
                "the websocket handler took no message for {limit:?} while more were waiting: closing with \
                 1008; a handler that only sends should call `WebSocket::ignore_incoming`"
            ),
        }
    }
}

/// A handler is dropped because it ran longer than `Config::handler_grace` after the end of its connection. This is
/// logged at warn level if `is_news`, otherwise at debug level: such a handler usually outlives all its connections.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn handler_outlived(info: &HandshakeInfo, is_news: bool) {
    #[cfg(feature = "tracing")]
    {
        let path = Visible(info.request.path().as_bytes());
        let text = "the websocket handler went on after its connection was over, and is dropped; see \
                    `WebSocket::closed` and `Config::handler_grace`";
        match is_news {
            true => tracing::warn!(handler = info.handler, %path, "{text}"),
            false => tracing::debug!(handler = info.handler, %path, "{text}"),
        }
    }
}

/// A connection is over. `ended` returns its end, lifetime and traffic. It is called only if the debug level is
/// enabled.
///
/// The logged reason is the rule that was broken, or the reason of the first Close.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn closed(ended: impl FnOnce() -> Option<(Closed, Duration, Traffic)>) {
    #[cfg(feature = "tracing")]
    if tracing::enabled!(tracing::Level::DEBUG) {
        let Some((closed, lifetime, traffic)) = ended() else {
            return;
        };
        let reason = closed.fault().unwrap_or_else(|| closed.reason());
        let reason = (!reason.is_empty()).then(|| tracing::field::display(Reason(reason)));
        tracing::debug!(
            code = closed.code().map(u16::from),
            by = ?closed.side(),
            clean = closed.is_clean(),
            reason,
            duration_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
            messages_received = traffic.messages_received(),
            bytes_received = traffic.bytes_received(),
            messages_sent = traffic.messages_sent(),
            bytes_sent = traffic.bytes_sent(),
            "websocket closed"
        );
    }
}

/// The reason of a Close, with control characters escaped: the peer may have chosen it.
#[cfg(feature = "tracing")]
struct Reason<'a>(&'a str);

#[cfg(feature = "tracing")]
impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Visible` escapes spaces, but a reason is easier to read with its spaces.
        let mut words = self.0.split(' ');
        if let Some(first) = words.next() {
            write!(f, "{}", Visible(first.as_bytes()))?;
        }
        words.try_for_each(|word| write!(f, " {}", Visible(word.as_bytes())))
    }
}

/// The handler failed. This is logged at warn level, or at debug level if `is_peers_doing`.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn handler_failed(error: &BoxError, is_peers_doing: bool) {
    #[cfg(feature = "tracing")]
    {
        let error = &**error as &dyn std::error::Error;
        match is_peers_doing {
            true => tracing::debug!(
                error,
                "the websocket handler ended with an error of its peer"
            ),
            false => tracing::warn!(error, "the websocket handler failed"),
        }
    }
}

/// The handler panicked.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn handler_panicked(panicked: &Panicked) {
    #[cfg(feature = "tracing")]
    tracing::error!(%panicked, "the websocket handler panicked");
}

/// An observer of the registry panicked. This is logged at error level if `is_news`, otherwise at debug level.
#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
pub(crate) fn observer_panicked(panicked: &Panicked, is_news: bool) {
    #[cfg(feature = "tracing")]
    match is_news {
        true => {
            tracing::error!(%panicked, "an observer of the websocket connections panicked");
        }
        false => {
            tracing::debug!(%panicked, "an observer of the websocket connections panicked");
        }
    }
}
