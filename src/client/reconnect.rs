//! One connection after the other to the same server.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use http::{Response, header::RETRY_AFTER};
use tokio::time::{Instant, Sleep, sleep};

use super::{ConnectError, Handshake, backoff::Backoff, connect};
use crate::{codec::random, socket::WebSocket, time::limit::clamp};

type Connected = Result<(WebSocket, Response<()>), ConnectError>;
type Attempt = Pin<Box<dyn Future<Output = Connected> + Send>>;

/// Connects, and connects again when the connection has ended.
///
/// The first attempt is made at once. Before each further one there is a delay, drawn between zero and a
/// ceiling that doubles with each attempt ("full jitter"): 1 s, 2 s, 4 s and so on, at most 30 s. The
/// ceiling begins anew behind a connection that was kept for 10 s, counted from when it was returned to
/// when the next one is asked for. If a server refuses with `Retry-After`, that time is waited for as
/// well, up to the largest ceiling.
///
/// Errors that may pass ([`ConnectError::is_transient`]) are not returned, and there is another attempt. Each
/// of them is logged at info level by the feature `tracing`, as `websocket client connects again` with the
/// fields `error` and `delay`. A name that does not resolve is such an error: a wrong name is tried again and
/// again, unless [`retry_if`](Self::retry_if) says otherwise. Anything else is returned, since trying again
/// would not mend it.
///
/// How a connection ended is not looked at. A server that closes with a code, such as one that refuses by
/// [`Refusal::close`](crate::Refusal::close) with 4401, has made the handshake, so there is no error, and a
/// loop that only receives connects again for ever. Look at
/// [`close_frame`](WebSocket::close_frame) or [`closed`](WebSocket::closed) and leave the loop for the
/// application's codes, 4000 to 4999, as in the example.
///
/// It is a [`Stream`] as well, which does not end: behind an error it goes on when it is asked to.
///
/// # Examples
///
/// ```no_run
/// use tower_websocket::client::{ConnectError, Handshake, Reconnect};
///
/// # async fn example() -> Result<(), ConnectError> {
/// let mut feed = Reconnect::new(Handshake::new("ws://127.0.0.1:3000/feed")?);
/// loop {
///     let (mut socket, _response) = feed.connect().await?;
///     while let Ok(Some(message)) = socket.recv().await {
///         println!("{} bytes", message.len());
///     }
///     // The application's own no, such as 4401 for a token that has expired.
///     if let Some(frame) = socket.close_frame().filter(|frame| frame.code().get() >= 4000) {
///         eprintln!("closed with {}: {}", frame.code(), frame.reason());
///         return Ok(());
///     }
/// }
/// # }
/// ```
pub struct Reconnect {
    dial: Box<dyn FnMut() -> Attempt + Send>,
    may_pass: Box<dyn FnMut(&ConnectError) -> bool + Send>,
    backoff: Backoff,
    state: State,
}

/// The state between two calls. It is kept when a call is dropped, so that nothing is lost.
enum State {
    New,
    Waiting(Pin<Box<Sleep>>),
    Connecting(Attempt),
    /// A connection was returned.
    Connected(Instant),
}

impl Reconnect {
    /// Makes connections with [`connect`] and the same handshake each.
    #[must_use]
    pub fn new(handshake: Handshake) -> Self {
        Self::with(move || connect(handshake.clone()))
    }

    /// Makes connections with a function, which is called for each attempt.
    ///
    /// It can give each attempt a new token, or dial in a way of its own with
    /// [`connect_with`](super::connect_with). An attempt is bounded by what the function bounds, such as
    /// [`Handshake::timeout`].
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{HeaderValue, header};
    /// use tower_websocket::client::{Handshake, Reconnect, connect};
    ///
    /// # fn new_token() -> HeaderValue { HeaderValue::from_static("Bearer of-the-day") }
    /// let feed = Reconnect::with(|| async {
    ///     let handshake = Handshake::new("ws://127.0.0.1:3000/feed")?;
    ///     connect(handshake.header(header::AUTHORIZATION, new_token())).await
    /// });
    /// ```
    #[must_use]
    pub fn with<D, F>(mut dial: D) -> Self
    where
        D: FnMut() -> F + Send + 'static,
        F: Future<Output = Connected> + Send + 'static,
    {
        Self {
            dial: Box::new(move || Box::pin(dial())),
            may_pass: Box::new(ConnectError::is_transient),
            backoff: Backoff::new(),
            state: State::New,
        }
    }

    /// Sets the first ceiling of the delay, and the one beyond which it does not grow.
    ///
    /// Minimum: 10 ms, and `most` is at least `first`. Default: 1 s and 30 s.
    #[must_use]
    pub fn delays(mut self, first: Duration, most: Duration) -> Self {
        self.backoff
            .set_ceilings(clamp(Duration::ZERO, first), clamp(Duration::ZERO, most));
        self
    }

    /// Sets how long a connection has to be kept so that the ceiling begins anew.
    ///
    /// A server that takes connections and drops them at once is so not asked more and more often.
    /// Default: 10 s.
    #[must_use]
    pub fn reset_after(mut self, kept: Duration) -> Self {
        self.backoff.set_reset_after(kept);
        self
    }

    /// Sets behind which errors there is another attempt. Default: [`ConnectError::is_transient`].
    ///
    /// The function is called with each error.
    #[must_use]
    pub fn retry_if(
        mut self,
        may_pass: impl FnMut(&ConnectError) -> bool + Send + 'static,
    ) -> Self {
        self.may_pass = Box::new(may_pass);
        self
    }

    /// Returns the next connection, and the head of the server's answer.
    ///
    /// # Errors
    ///
    /// The [`ConnectError`]s behind which there is no other attempt, see
    /// [`retry_if`](Self::retry_if). A later call tries again, after the delay.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, or in one without its time driver.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: the next call goes on with the delay or the attempt. Dropping the `Reconnect`
    /// drops an attempt.
    pub async fn connect(&mut self) -> Connected {
        poll_fn(|cx| self.poll_connect(cx)).await
    }

    fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<Connected> {
        loop {
            match &mut self.state {
                State::New => self.state = State::Connecting((self.dial)()),
                State::Waiting(delay) => {
                    ready!(delay.as_mut().poll(cx));
                    self.state = State::Connecting((self.dial)());
                }
                State::Connecting(attempt) => match ready!(attempt.as_mut().poll(cx)) {
                    Ok(connected) => {
                        self.state = State::Connected(Instant::now());
                        return Poll::Ready(Ok(connected));
                    }
                    Err(error) => {
                        let delay = self.wait(retry_after(&error));
                        if !(self.may_pass)(&error) {
                            return Poll::Ready(Err(error));
                        }
                        #[cfg(feature = "tracing")]
                        tracing::info!(%error, ?delay, "websocket client connects again");
                        #[cfg(not(feature = "tracing"))]
                        let _ = delay;
                    }
                },
                State::Connected(since) => {
                    self.backoff.connected_for(since.elapsed());
                    self.wait(Duration::ZERO);
                }
            }
        }
    }

    /// Begins the delay before the next attempt, and returns it.
    fn wait(&mut self, asked: Duration) -> Duration {
        let delay = clamp(Duration::ZERO, self.backoff.delay(drawn(), asked));
        self.state = State::Waiting(Box::pin(sleep(delay)));
        delay
    }
}

impl Stream for Reconnect {
    type Item = Connected;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Connected>> {
        self.get_mut().poll_connect(cx).map(Some)
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect").finish_non_exhaustive()
    }
}

/// Draws a number. The highest one is drawn where the system has none: the delay is the longest.
fn drawn() -> u64 {
    let half = |nonce: [u8; 16]| u128::from_le_bytes(nonce) as u64;
    random::nonce().map_or(u64::MAX, half)
}

/// Returns how long a server asks for to be left alone (RFC 9110 §10.2.3). Dates are not read.
fn retry_after(error: &ConnectError) -> Duration {
    let ConnectError::Refused(response) = error else {
        return Duration::ZERO;
    };
    let value = response.headers().get(RETRY_AFTER);
    let seconds = value.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}
