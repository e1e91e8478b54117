//! Responses to a handshake: the head of the 101 (200 over HTTP/2), and complete refusals.

use std::mem;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};

use super::HandshakeError;

/// Headers of the connection and of the body's framing. Only this module and the HTTP server set them.
const RESERVED: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Makes browsers trust the `Content-Type`. A text may quote the request, so it must not be treated as HTML.
pub(super) const X_CONTENT_TYPE_OPTIONS: HeaderName = header::X_CONTENT_TYPE_OPTIONS;
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Headers of the opening handshake (RFC 6455 §11.3). Only this module sets them.
const HANDSHAKE: [HeaderName; 6] = [
    header::UPGRADE,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
];

/// Makes the head of the 101 (RFC 6455 §4.2.2 item 5), or of the 200 (RFC 8441 §5) if there is no
/// `accept_key`.
pub(crate) fn switching(
    accept_key: Option<HeaderValue>,
    subprotocol: Option<HeaderValue>,
    extensions: Option<HeaderValue>,
    headers: HeaderMap,
) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = without(&RESERVED, without(&HANDSHAKE, headers));
    if let Some(accept_key) = accept_key {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    }
    let headers = response.headers_mut();
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    if let Some(extensions) = extensions {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    response
}

/// Makes the response to a handshake that failed. The error is put into its extensions.
pub(crate) fn failed(error: HandshakeError) -> Response<Bytes> {
    let mut response = text(error.status(), Bytes::from(error.to_string()));
    let headers = response.headers_mut();
    match error {
        HandshakeError::InvalidMethod => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        HandshakeError::UnsupportedVersion => {
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            );
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        HandshakeError::AcceptTimeout
        | HandshakeError::TooManyConnections
        | HandshakeError::TooManyOfKey
        | HandshakeError::ShuttingDown => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        _ => {}
    }
    let mut response = with_close(response);
    response.extensions_mut().insert(error);
    response
}

/// Makes the response to a handshake that the handler refused.
pub(crate) fn refused(mut response: Response<Bytes>) -> Response<Bytes> {
    let status = response.status();
    let error = HandshakeError::Refused { status };
    // The handler may relay a response of another connection. hyper panics if it cannot write the version.
    *response.version_mut() = Version::HTTP_11;
    if status == StatusCode::NOT_MODIFIED {
        // Of the statuses from 300 on, only 304 has no content (RFC 9110 §15.4.5).
        *response.body_mut() = Bytes::new();
    }
    let mut response = with_close(response);
    response.extensions_mut().insert(error);
    response
}

/// Removes the connection headers from a refusal over HTTP/2, where they are malformed (RFC 9113 §8.2.2).
///
/// They are not needed there: frames of the client belong to the stream, which ends.
pub(crate) fn without_connection_headers<T>(
    mut response: Response<T>,
    version: Version,
) -> Response<T> {
    if version == Version::HTTP_2 {
        let headers = response.headers_mut();
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
    response
}

/// Makes a plain text response.
pub(crate) fn text<B>(status: StatusCode, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PLAIN);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// Makes a response the last one on its connection: the client may already have sent frames, and they must
/// not be read as a request. A body without a `Content-Type` is sent as text.
fn with_close(mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    *headers = without(&RESERVED, mem::take(headers));
    // `Connection` has to name `Upgrade` as well (RFC 9110 §7.8).
    let connection = match headers.contains_key(header::UPGRADE) {
        true => HeaderValue::from_static("close, upgrade"),
        false => HeaderValue::from_static("close"),
    };
    headers.insert(header::CONNECTION, connection);
    if !headers.contains_key(header::CONTENT_TYPE) && response.status() != StatusCode::NOT_MODIFIED
    {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PLAIN);
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    }
    response
}

fn without(names: &[HeaderName], mut headers: HeaderMap) -> HeaderMap {
    if !headers.is_empty() {
        for name in names {
            headers.remove(name);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Accept, Refusal};

    #[test]
    fn drops_handshake_headers_of_the_handler() {
        let accept = Accept::new()
            .header(header::CONTENT_LENGTH, HeaderValue::from_static("7"))
            .header(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static("forged"),
            )
            .header(
                header::SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::from_static("forged"),
            )
            .header(header::UPGRADE, HeaderValue::from_static("forged"))
            .header(header::SERVER, HeaderValue::from_static("kept"));
        let over_http2 = switching(None, None, None, accept.headers.clone());
        let key = HeaderValue::from_static("key");
        let response = switching(Some(key), None, None, accept.headers);
        let mut names: Vec<_> = response
            .headers()
            .keys()
            .map(|name| name.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["connection", "sec-websocket-accept", "server", "upgrade"]
        );
        assert_eq!(response.headers()[header::UPGRADE], "websocket");

        assert_eq!(over_http2.status(), StatusCode::OK);
        let names: Vec<_> = over_http2.headers().keys().collect();
        assert_eq!(names, ["server"]);
    }

    #[test]
    fn sends_no_connection_headers_over_http2() {
        let failed = |version| {
            without_connection_headers(failed(HandshakeError::UnsupportedVersion), version)
        };
        let names = |version| {
            let mut names: Vec<_> = failed(version)
                .headers()
                .keys()
                .map(ToString::to_string)
                .collect();
            names.sort_unstable();
            names
        };
        let over_http2 = [
            "content-type",
            "sec-websocket-version",
            "x-content-type-options",
        ];
        assert_eq!(names(Version::HTTP_2), over_http2);
        let over_http11 = [
            "connection",
            "content-type",
            "sec-websocket-version",
            "upgrade",
            "x-content-type-options",
        ];
        assert_eq!(names(Version::HTTP_11), over_http11);
    }

    #[test]
    fn names_the_supported_version() {
        let response = failed(HandshakeError::UnsupportedVersion);
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(response.headers()[header::UPGRADE], "websocket");
    }

    #[test]
    fn sends_the_refusal_of_the_handler() {
        let refusal = Refusal::unauthorized().message("who are you?");
        let response = refused(refusal.into_parts().response);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.body(), "who are you?");
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }
}
