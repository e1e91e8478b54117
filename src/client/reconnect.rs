//! Connects again when a connection has ended.

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
/// # Delays
///
/// The first attempt has no delay. The delay before each later attempt is random, between zero and a ceiling
/// that doubles with each attempt ("full jitter"): 1 s, 2 s, 4 s and so on, at most 30 s. The ceiling is reset
/// after a connection that lasted 10 s, from its return to the call for the next one. If a server refuses with
/// `Retry-After`, that time is added to the delay, up to the largest ceiling.
///
/// # Errors
///
/// After a transient error ([`ConnectError::is_transient`]) there is another attempt. The error is not returned.
/// With the feature `tracing` it is logged at info level, as `websocket client connects again` with the fields
/// `error` and `delay`. All other errors are returned. A name that does not resolve counts as transient, so a
/// wrong name is tried forever; [`retry_if`](Self::retry_if) changes that.
///
/// # Close codes
///
/// A Close of the server is no error, so `Reconnect` ignores its code. This includes a server that refuses with
/// [`Refusal::close`](crate::Refusal::close), for example with 4401: a loop that only receives would connect
/// again forever. Check [`close_frame`](WebSocket::close_frame) or [`closed`](WebSocket::closed), and leave the
/// loop for the application's codes (4000 to 4999), as in the example.
///
/// # Stream
///
/// It is also a [`Stream`], which never ends. After an error, polling it makes the next attempt.
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
///     // A refusal by the application, such as 4401 for an expired token.
///     if let Some(frame) = socket.close_frame().filter(|frame| frame.code().get() >= 4000) {
///         eprintln!("closed with {}: {}", frame.code(), frame.reason());
///         return Ok(());
///     }
/// }
/// # }
/// ```
pub struct Reconnect {
    dial: Box<dyn FnMut() -> Attempt + Send>,
    is_transient: Box<dyn FnMut(&ConnectError) -> bool + Send>,
    backoff: Backoff,
    state: State,
}

/// The progress. It is kept when a call of `connect` is dropped.
enum State {
    New,
    Waiting(Pin<Box<Sleep>>),
    Connecting(Attempt),
    /// A connection was returned at this time.
    Connected(Instant),
}

impl Reconnect {
    /// Makes connections with [`connect`], always with the same handshake.
    #[must_use]
    pub fn new(handshake: Handshake) -> Self {
        Self::with(move || connect(handshake.clone()))
    }

    /// Makes connections with a function that is called for each attempt.
    ///
    /// The function can use a new token for each attempt, or dial differently and call
    /// [`connect_with`](super::connect_with). `Reconnect` has no timeout for an attempt; the function sets it,
    /// for example with [`Handshake::timeout`].
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
            is_transient: Box::new(ConnectError::is_transient),
            backoff: Backoff::new(),
            state: State::New,
        }
    }

    /// Sets the first and the largest ceiling of the delay.
    ///
    /// Minimum: 10 ms for `initial`, and `initial` for `max`. Default: 1 s and 30 s.
    #[must_use]
    pub fn delays(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff
            .set_ceilings(clamp(Duration::ZERO, initial), clamp(Duration::ZERO, max));
        self
    }

    /// Sets how long a connection has to last to reset the ceiling.
    ///
    /// With a shorter time, a server that accepts connections and drops them at once gets more attempts.
    /// Default: 10 s.
    #[must_use]
    pub fn reset_after(mut self, kept: Duration) -> Self {
        self.backoff.set_reset_after(kept);
        self
    }

    /// Sets the function that returns whether there is another attempt after an error. Default:
    /// [`ConnectError::is_transient`].
    ///
    /// The function is called with each error.
    #[must_use]
    pub fn retry_if(
        mut self,
        is_transient: impl FnMut(&ConnectError) -> bool + Send + 'static,
    ) -> Self {
        self.is_transient = Box::new(is_transient);
        self
    }

    /// Returns the next connection, and the head of the server's answer.
    ///
    /// # Errors
    ///
    /// The [`ConnectError`]s after which there is no other attempt, see [`retry_if`](Self::retry_if). The next
    /// call tries again, after the delay.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, or in one without its time driver.
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: the next call continues the delay or the attempt. Dropping the `Reconnect` drops the
    /// attempt.
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
                        if !(self.is_transient)(&error) {
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
    fn wait(&mut self, retry_after: Duration) -> Duration {
        let delay = self.backoff.delay(random_number(), retry_after);
        let delay = clamp(Duration::ZERO, delay);
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

/// Returns a random number. Without random bytes from the system it is the maximum, for the longest delay.
fn random_number() -> u64 {
    let half = |nonce: [u8; 16]| u128::from_le_bytes(nonce) as u64;
    random::nonce().map_or(u64::MAX, half)
}

/// Returns the `Retry-After` of a refusal, or zero (RFC 9110 §10.2.3). Ignores dates.
fn retry_after(error: &ConnectError) -> Duration {
    let ConnectError::Refused(response) = error else {
        return Duration::ZERO;
    };
    let value = response.headers().get(RETRY_AFTER);
    let seconds = value.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}
