//! The response with which a handler refuses a request.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::answer::{NOSNIFF, X_CONTENT_TYPE_OPTIONS};
use crate::words::{CloseFrame, InvalidClose};

/// A handler's refusal of a handshake: an HTTP response, or a Close right after the handshake.
///
/// A text is sent as `text/plain; charset=utf-8`, with `X-Content-Type-Options: nosniff` so that browsers
/// treat it as nothing else. `Refusal::from(response)` or `?` sends any [`http::Response`] whose body is in
/// memory. [`collect`](Self::collect) reads a body first.
///
/// A page in a browser sees neither status nor body of a refusal: its socket fails with 1006. If the page
/// has to know the reason, refuse with [`close`](Self::close).
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
/// use tower_websocket::{CloseCode, CloseFrame, Refusal};
///
/// let busy = Refusal::new(StatusCode::TOO_MANY_REQUESTS)
///     .header(RETRY_AFTER, HeaderValue::from_static("30"))
///     .message("one connection per user");
/// let json = Refusal::unauthorized().json(r#"{"error":"token expired"}"#);
/// let for_browsers = Refusal::close(CloseFrame::truncated(CloseCode::of::<4401>(), "token expired"));
///
/// let response = http::Response::builder().status(402).header("x-price", "3").body("pay first")?;
/// let any = Refusal::from(response);
/// assert_eq!(any.status(), StatusCode::PAYMENT_REQUIRED);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: [RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2), items 2 to 4.
#[derive(Clone)]
pub struct Refusal {
    // Boxed to keep a `Result` with this error small.
    parts: Box<RefusalParts>,
}

/// The parts of a refusal.
#[derive(Clone)]
pub(crate) struct RefusalParts {
    pub(crate) response: Response<Bytes>,
    pub(crate) close: Option<CloseFrame>,
}

impl Refusal {
    /// Refuses with a status. The body is the standard phrase of the status; [`message`](Self::message)
    /// sets another text.
    ///
    /// A status below 300 is replaced by 500: it would report success to the client.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        let status = failure_status(status);
        let text = status.canonical_reason().unwrap_or("refused");
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        Self::of(response, None)
    }

    /// Refuses with 401: the client is not authenticated.
    ///
    /// RFC 9110 §15.5.2 requires a `WWW-Authenticate` [`header`](Self::header) as well.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED)
    }

    /// Refuses with 403: the client is authenticated, but not allowed to connect.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN)
    }

    /// Accepts the handshake, and closes the connection with `frame` at once.
    ///
    /// A page in a browser sees the code and the reason of a Close, but nothing of an HTTP response. Codes
    /// from 4000 on are free for applications. 4401 and 4403 are usual in place of 401 and 403.
    /// [`handle`](crate::Handler::handle) is not called.
    ///
    /// The client sees a successful handshake. A client that reconnects after every end, such as
    /// `client::Reconnect` in a loop that only receives, connects again and again unless it checks the
    /// code. For clients that are programs, refuse with a status instead.
    ///
    /// A browser that offered subprotocols fails the connection before it reads the Close if the response
    /// names none of them. So the response names one: the layer's choice, or else the first offered.
    ///
    /// Until the client has answered the Close, at most
    /// [`Config::close_timeout`](crate::Config::close_timeout), the connection counts towards
    /// [`max_connections`](crate::Connections::max_connections) and
    /// [`max_per_peer`](crate::WebSocketLayer::max_per_peer). It does not count towards
    /// [`max_per_key`](crate::WebSocketLayer::max_per_key), because a refused client has no key yet. The
    /// counters show it as accepted and as closed with its code, not as refused.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Accept, BoxError, CloseCode, CloseFrame, Refusal, WebSocket, decide};
    ///
    /// let handler = decide(
    ///     async |request| {
    ///         if request.uri.query() != Some("token=sesame") {
    ///             let frame = CloseFrame::truncated(CloseCode::of::<4401>(), "token expired");
    ///             return Err(Refusal::close(frame));
    ///         }
    ///         Ok((Accept::new(), ()))
    ///     },
    ///     async |_socket: WebSocket, ()| Ok::<_, BoxError>(()),
    /// );
    /// ```
    ///
    /// Source: [RFC 6455 §7.4.2](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.2).
    #[must_use]
    pub fn close(frame: CloseFrame) -> Self {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        Self::of(response, Some(frame))
    }

    /// Adds a header to the response, or to the 101 of a [`close`](Self::close).
    ///
    /// `Connection`, `Content-Length` and `Transfer-Encoding` are ignored: the crate and the server set
    /// them.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.parts.response.headers_mut().append(name, value);
        self
    }

    /// Sets the text of the body. It is sent as `text/plain; charset=utf-8`, unless you add a
    /// `Content-Type`.
    ///
    /// A [`close`](Self::close) has no body. Its text is the reason in its frame.
    #[must_use]
    pub fn message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        *self.parts.response.body_mut() = match text.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        self
    }

    /// Sets a body of serialized JSON, sent as `application/json`.
    ///
    /// `serde_json::to_vec(&value)?` and `serde_json::json!({ .. }).to_string()` make such a body.
    #[must_use]
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        let response = &mut self.parts.response;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        *response.body_mut() = body.into();
        self
    }

    /// Returns the status. For a [`close`](Self::close) it is 101, which is sent as 200 over HTTP/2.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts.response.status()
    }

    /// Returns the added headers. The headers of the connection and the `Content-Type` of a text are set
    /// later, when the response is sent.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.parts.response.headers()
    }

    /// Returns the body: a text, JSON, or the bytes of a response.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        self.parts.response.body()
    }

    /// Returns the frame of a [`close`](Self::close), or `None` for a response.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.parts.close.as_ref()
    }
}

impl Refusal {
    fn of(response: Response<Bytes>, close: Option<CloseFrame>) -> Self {
        Self {
            parts: Box::new(RefusalParts { response, close }),
        }
    }

    pub(crate) fn into_parts(self) -> RefusalParts {
        *self.parts
    }
}

/// Replaces a status that does not report a failure by 500.
fn failure_status(status: StatusCode) -> StatusCode {
    match status.is_redirection() || status.is_client_error() || status.is_server_error() {
        true => status,
        false => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self::new(status)
    }
}

/// Refuses with 500. So `?` works where the code and reason of a [`Refusal::close`] are made.
impl From<InvalidClose> for Refusal {
    fn from(_: InvalidClose) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Refuses with an HTTP response: its status, headers, extensions and body.
///
/// The body must convert into [`Bytes`]. For other bodies, such as those of axum, use [`Refusal::collect`].
/// A status below 300 is replaced by 500. The headers of the connection and of the body's framing are
/// dropped, and so are the version and the body of a 304.
impl<B: Into<Bytes>> From<Response<B>> for Refusal {
    fn from(response: Response<B>) -> Self {
        let mut response = response.map(Into::into);
        *response.status_mut() = failure_status(response.status());
        Self::of(response, None)
    }
}

/// Shows no header value and no byte of the body, because they may hold secrets.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("status", &self.status())
            .field("headers", &self.headers().len())
            .field("body_bytes", &self.body().len())
            .field("close_frame", &self.close_frame())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_success_status_by_500() {
        for status in [100, 101, 200, 204] {
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = Response::new("a page");
            *response.status_mut() = status;
            for refusal in [Refusal::new(status), Refusal::from(response)] {
                let sent = refusal.status();
                assert_eq!(sent, StatusCode::INTERNAL_SERVER_ERROR, "status {status}");
            }
        }
        assert_eq!(Refusal::new(StatusCode::FOUND).status(), StatusCode::FOUND);
    }
}
