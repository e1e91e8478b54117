//! The heads of the two answers: the 101, or the 200 of HTTP/2, and a complete refusal.

use std::mem;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};

use super::HandshakeError;

/// Headers about the connection and the framing of the body, which are decided here and by the
/// HTTP server.
const RESERVED: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Browsers take a body for what its `Content-Type` says, and for nothing else: a text may quote what
/// the client sent.
pub(super) const X_CONTENT_TYPE_OPTIONS: HeaderName = header::X_CONTENT_TYPE_OPTIONS;
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Headers of the opening handshake (RFC 6455 §11.3).
const HANDSHAKE: [HeaderName; 6] = [
    header::UPGRADE,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
];

/// Writes the head of the 101 (RFC 6455 §4.2.2 item 5), or without a key that of the 200 (RFC 8441
/// §5).
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

/// Writes the whole answer to a handshake that failed, its reason left in the extensions.
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
    let mut response = closing(response);
    response.extensions_mut().insert(error);
    response
}

/// Writes the whole answer to a handshake that the handler refused.
pub(crate) fn refused(mut response: Response<Bytes>) -> Response<Bytes> {
    let status = response.status();
    let error = HandshakeError::Refused { status };
    // The handler may relay a response of another connection. hyper panics at versions it cannot write.
    *response.version_mut() = Version::HTTP_11;
    if status == StatusCode::NOT_MODIFIED {
        // The only status of a refusal that has no content (RFC 9110 §15.4.5).
        *response.body_mut() = Bytes::new();
    }
    let mut response = closing(response);
    response.extensions_mut().insert(error);
    response
}

/// Takes the fields about the connection out of a refusal over HTTP/2, where they are malformed
/// (RFC 9113 §8.2.2): what was meant as frames ends with the stream.
pub(crate) fn adapted<T>(mut response: Response<T>, version: Version) -> Response<T> {
    if version == Version::HTTP_2 {
        let headers = response.headers_mut();
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
    response
}

/// Writes a text.
pub(crate) fn text<B>(status: StatusCode, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PLAIN);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// Makes a response the last one on its connection: what follows was meant as frames, so it must not
/// be read as requests. A body without a type is a text.
fn closing(mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    *headers = without(&RESERVED, mem::take(headers));
    // A sender of `Upgrade` names it in `Connection` as well (RFC 9110 §7.8).
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
    fn keeps_the_headers_of_the_handshake_to_itself() {
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
    fn says_nothing_about_the_connection_over_http2() {
        let failed = |version| adapted(failed(HandshakeError::UnsupportedVersion), version);
        let names = |version| {
            let mut names: Vec<_> = failed(version)
                .headers()
                .keys()
                .map(ToString::to_string)
                .collect();
            names.sort_unstable();
            names
        };
        let everywhere = [
            "content-type",
            "sec-websocket-version",
            "x-content-type-options",
        ];
        assert_eq!(names(Version::HTTP_2), everywhere);
        let more = [
            "connection",
            "content-type",
            "sec-websocket-version",
            "upgrade",
            "x-content-type-options",
        ];
        assert_eq!(names(Version::HTTP_11), more);
    }

    #[test]
    fn names_the_version_it_speaks() {
        let response = failed(HandshakeError::UnsupportedVersion);
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(response.headers()[header::UPGRADE], "websocket");
    }

    #[test]
    fn refuses_with_what_the_handler_said() {
        let refusal = Refusal::unauthorized().message("who are you?");
        let response = refused(refusal.into_parts().response);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.body(), "who are you?");
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }
}
