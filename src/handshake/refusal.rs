//! What a handler says to a request it does not take.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::answer::{NOSNIFF, X_CONTENT_TYPE_OPTIONS};
use crate::words::{CloseFrame, InvalidClose};

/// A handler's no to a handshake: an HTTP response, or a Close that follows the handshake.
///
/// A text is sent as `text/plain; charset=utf-8`, and browsers are told not to take it for anything
/// else (`X-Content-Type-Options: nosniff`). Any [`http::Response`] whose body is in memory can be
/// sent as well, by `Refusal::from(response)` or `?`; [`collect`](Self::collect) reads a body first.
///
/// A page in a browser sees neither status nor body of a refusal: its socket fails with 1006. Where
/// the page has to know why, refuse with [`close`](Self::close).
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
/// let for_browsers = Refusal::close(CloseFrame::new(CloseCode::new(4401)?, "token expired")?);
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
    // Boxed, because it travels as the error of results whose other half is small.
    parts: Box<RefusalParts>,
}

/// What a refusal is made of.
#[derive(Clone)]
pub(crate) struct RefusalParts {
    pub(crate) response: Response<Bytes>,
    pub(crate) close: Option<CloseFrame>,
}

impl Refusal {
    /// Refuses with a status; its standard phrase is the text, until [`message`](Self::message)
    /// gives another.
    ///
    /// A status below 300 would tell the client that the handshake went well, so it is answered as
    /// 500.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        let status = failed(status);
        let text = status.canonical_reason().unwrap_or("refused");
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        Self::of(response, None)
    }

    /// Refuses with 401: it is not known who asks.
    ///
    /// RFC 9110 §15.5.2 asks for a `WWW-Authenticate` [`header`](Self::header) along with it.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED)
    }

    /// Refuses with 403: it is known who asks, and that they may not.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN)
    }

    /// Answers the handshake as if it was accepted, and closes the connection with `frame` at once.
    ///
    /// Browsers show a page the code and the reason of a Close, and nothing of an HTTP response.
    /// Codes from 4000 on are the application's; 4401 and 4403 are usual for what would be 401 and
    /// 403. [`handle`](crate::Handler::handle) is not called.
    ///
    /// For a client the handshake has succeeded. One that connects again behind every end, such as
    /// `client::Reconnect` in a loop that only receives, comes back again and again, unless it looks at the
    /// code. Programs are better refused with a status.
    ///
    /// Browsers give up a connection that names none of the subprotocols they offered, before they
    /// read its Close. So one is named: the layer's choice, or else the first one that was offered.
    ///
    /// The connection takes a place of
    /// [`max_connections`](crate::Connections::max_connections) and of
    /// [`max_per_peer`](crate::WebSocketLayer::max_per_peer) until the client has answered the Close,
    /// at most [`Config::close_timeout`](crate::Config::close_timeout). It is counted as accepted
    /// and as closed with its code, not as refused. [`max_per_key`](crate::WebSocketLayer::max_per_key)
    /// does not count it, because a client that is refused has no key yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Accept, BoxError, CloseCode, CloseFrame, Refusal, WebSocket, decide};
    ///
    /// let handler = decide(
    ///     async |request| {
    ///         if request.uri.query() != Some("token=sesame") {
    ///             let frame = CloseFrame::new(CloseCode::new(4401)?, "token expired")?;
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

    /// Adds a header to the response, also to the 101 of a [`close`](Self::close).
    ///
    /// `Connection`, `Content-Length` and `Transfer-Encoding` are the crate's and the server's.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.parts.response.headers_mut().append(name, value);
        self
    }

    /// Sets the text of the body, sent as `text/plain; charset=utf-8` unless a `Content-Type` is
    /// added. A [`close`](Self::close) has no body; its text is the reason in its frame.
    #[must_use]
    pub fn message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        *self.parts.response.body_mut() = match text.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        self
    }

    /// Sets a body of JSON that is already serialized, sent as `application/json`.
    ///
    /// `serde_json::to_vec(&value)?` and `serde_json::json!({ .. }).to_string()` are such bodies.
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

    /// Returns the status: 101 for a [`close`](Self::close), which over HTTP/2 is sent as a 200.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts.response.status()
    }

    /// Returns the headers that were added. Those about the connection and the type of a text come
    /// when it is sent.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.parts.response.headers()
    }

    /// Returns the body: a text, the JSON, or the bytes of a response.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        self.parts.response.body()
    }

    /// Returns the frame of a [`close`](Self::close).
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

/// Returns the status of a refusal: one that says that it failed.
fn failed(status: StatusCode) -> StatusCode {
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

/// Refuses with 500, so that `?` can be used where the code and reason of a [`Refusal::close`] are made.
impl From<InvalidClose> for Refusal {
    fn from(_: InvalidClose) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Refuses with a response as it is: status, headers, extensions and body.
///
/// Its body may be anything that turns into [`Bytes`]; for others, such as axum's, there is
/// [`Refusal::collect`]. A status below 300 is answered as 500. Headers about the connection and the
/// framing of the body are left out, and so are the version and the body of a 304.
impl<B: Into<Bytes>> From<Response<B>> for Refusal {
    fn from(response: Response<B>) -> Self {
        let mut response = response.map(Into::into);
        *response.status_mut() = failed(response.status());
        Self::of(response, None)
    }
}

/// Shows no field and no byte of the body, which may hold secrets.
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
    fn never_refuses_with_a_success() {
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
