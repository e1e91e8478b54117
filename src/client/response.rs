//! Checks that a server's 101 answers the request.
//!
//! Source: [RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1), the list that
//! begins with "Once the client's opening handshake has been sent".

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, Version,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};

use super::ConnectError;
use crate::{
    codec::Deflation,
    config::Config,
    handshake::subprotocol,
    words::header::{contains_token, single},
};

/// The server's choices among the offers.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) subprotocol: Option<HeaderValue>,
    pub(super) deflation: Option<Deflation>,
}

/// Checks a 101 against the fields of its request and the configuration of the request.
///
/// `accept` is the expected `Sec-WebSocket-Accept`.
pub(super) fn check<B>(
    response: &Response<B>,
    request: &HeaderMap,
    accept: &str,
    config: &Config,
) -> Result<Agreed, ConnectError> {
    if response.version() != Version::HTTP_11 {
        return Err(ConnectError::response("the answer is not of HTTP/1.1"));
    }
    let headers = response.headers();
    let upgrade = once(headers, &UPGRADE)?;
    if !upgrade.is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(ConnectError::response("upgrade is not websocket"));
    }
    if !contains_token(headers, &CONNECTION, "upgrade") {
        return Err(ConnectError::response("connection does not name upgrade"));
    }
    if once(headers, &SEC_WEBSOCKET_ACCEPT)?.is_none_or(|answer| answer != accept) {
        return Err(ConnectError::response(
            "sec-websocket-accept does not answer the key",
        ));
    }
    let deflation = config.confirm(headers).map_err(|_| {
        ConnectError::response("the server chose an extension or parameters that were not offered")
    })?;
    let subprotocol = agree_on_subprotocol(headers, request)?;
    Ok(Agreed {
        subprotocol,
        deflation,
    })
}

fn agree_on_subprotocol(
    headers: &HeaderMap,
    request: &HeaderMap,
) -> Result<Option<HeaderValue>, ConnectError> {
    let Some(chosen) = once(headers, &SEC_WEBSOCKET_PROTOCOL)? else {
        return Ok(None);
    };
    let offered = subprotocol::offered(request).unwrap_or_default();
    if offered.iter().any(|name| chosen == name) {
        // A copy, because the value shares the buffer that holds the whole head.
        Ok(HeaderValue::from_bytes(chosen.as_bytes()).ok())
    } else {
        Err(ConnectError::response(
            "the server chose a subprotocol that was not offered",
        ))
    }
}

fn once<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, ConnectError> {
    single(headers, name).map_err(|_| ConnectError::response(format!("{name} is repeated")))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use http::{header::SEC_WEBSOCKET_EXTENSIONS, response::Builder};

    use super::*;

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn answer() -> Builder {
        Response::builder()
            .status(101)
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "Upgrade")
            .header(SEC_WEBSOCKET_ACCEPT, ACCEPT)
    }

    fn without(name: HeaderName) -> Builder {
        let mut answer = answer();
        answer.headers_mut().unwrap().remove(name);
        answer
    }

    /// Checks an answer to a request that offers the subprotocols `a` and `b`.
    fn checked(answer: Builder) -> Result<Option<HeaderValue>, ConnectError> {
        let offer = (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("a, b"));
        let request = HeaderMap::from_iter([offer]);
        let response = answer.body(()).unwrap();
        let agreed = check(&response, &request, ACCEPT, &Config::new())?;
        assert!(agreed.deflation.is_none());
        Ok(agreed.subprotocol)
    }

    #[test]
    fn accepts_fields_in_any_case_and_in_lists() {
        let lists = without(CONNECTION).header(CONNECTION, "keep-alive, upgrade");
        let capitals = without(UPGRADE).header(UPGRADE, "WebSocket");
        for answer in [answer(), lists, capitals] {
            assert!(matches!(checked(answer), Ok(None)));
        }
    }

    #[test]
    fn accepts_an_offered_subprotocol() {
        let answer = answer().header(SEC_WEBSOCKET_PROTOCOL, "b");
        assert_eq!(checked(answer).unwrap().unwrap(), "b");
    }

    #[test]
    fn refuses_answers_that_break_the_rfc() {
        let wrong = "s3pPLMBiTxaQ9kYGzzhZRbK+xOp=";
        for (answer, reason) in [
            (answer().version(Version::HTTP_10), "HTTP/1.1"),
            (without(UPGRADE), "upgrade is not"),
            (without(UPGRADE).header(UPGRADE, "h2c"), "upgrade is not"),
            (answer().header(UPGRADE, "websocket"), "repeated"),
            (without(CONNECTION), "connection"),
            (
                without(CONNECTION).header(CONNECTION, "close"),
                "connection",
            ),
            (without(SEC_WEBSOCKET_ACCEPT), "accept"),
            (
                without(SEC_WEBSOCKET_ACCEPT).header(SEC_WEBSOCKET_ACCEPT, wrong),
                "accept",
            ),
            (answer().header(SEC_WEBSOCKET_ACCEPT, ACCEPT), "repeated"),
            (answer().header(SEC_WEBSOCKET_PROTOCOL, "c"), "subprotocol"),
            (answer().header(SEC_WEBSOCKET_PROTOCOL, "A"), "subprotocol"),
            (answer().header(SEC_WEBSOCKET_PROTOCOL, ""), "subprotocol"),
            (
                answer().header(SEC_WEBSOCKET_PROTOCOL, "a, b"),
                "subprotocol",
            ),
            (
                answer()
                    .header(SEC_WEBSOCKET_PROTOCOL, "a")
                    .header(SEC_WEBSOCKET_PROTOCOL, "b"),
                "repeated",
            ),
            (
                answer().header(SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate"),
                "extension",
            ),
            (answer().header(SEC_WEBSOCKET_EXTENSIONS, ""), "extension"),
        ] {
            let error = checked(answer).unwrap_err();
            let source = error.source().unwrap().to_string();
            assert!(
                matches!(error, ConnectError::InvalidResponse(_)) && source.contains(reason),
                "{reason}: {error:?}"
            );
        }
    }
}
