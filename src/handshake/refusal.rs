//! What a handler says to a request it does not take.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A handler's no to a handshake: a status, headers and a short text.
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
/// use tower_websocket::Refusal;
///
/// let busy = Refusal::new(StatusCode::TOO_MANY_REQUESTS)
///     .header(RETRY_AFTER, HeaderValue::from_static("30"))
///     .message("one connection per user");
/// ```
///
/// Source: [RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2), items 2 to 4.
#[derive(Clone, Debug)]
pub struct Refusal {
    // Boxed, because it travels as the error of results whose other half is small.
    parts: Box<RefusalParts>,
}

/// What a refusal is made of.
#[derive(Clone, Debug)]
pub(crate) struct RefusalParts {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) message: Option<Cow<'static, str>>,
}

impl Refusal {
    /// Refuses with a status; its standard phrase is the text, until [`message`](Self::message)
    /// gives another.
    ///
    /// A status below 300 would tell the client that the handshake went well, so it is answered as
    /// 500.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        let failed =
            status.is_redirection() || status.is_client_error() || status.is_server_error();
        let parts = RefusalParts {
            status: if failed {
                status
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            },
            headers: HeaderMap::new(),
            message: None,
        };
        Self {
            parts: Box::new(parts),
        }
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

    /// Adds a header to the response.
    ///
    /// `Connection`, `Content-Length` and `Transfer-Encoding` are the crate's and the server's.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.parts.headers.append(name, value);
        self
    }

    /// Sets the text of the body, sent as `text/plain` unless a `Content-Type` is added.
    #[must_use]
    pub fn message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.parts.message = Some(text.into());
        self
    }
}

impl Refusal {
    pub(crate) fn into_parts(self) -> RefusalParts {
        *self.parts
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self::new(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_refuses_with_a_success() {
        for status in [100, 101, 200, 204] {
            let refusal = Refusal::new(StatusCode::from_u16(status).unwrap());
            assert_eq!(
                refusal.parts.status,
                StatusCode::INTERNAL_SERVER_ERROR,
                "status {status}"
            );
        }
        assert_eq!(
            Refusal::new(StatusCode::FOUND).parts.status,
            StatusCode::FOUND
        );
    }
}
