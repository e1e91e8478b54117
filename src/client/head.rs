//! The head of the request that opens a connection.
//!
//! Source: [RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1).

use std::{borrow::Cow, mem};

use http::{
    HeaderMap, HeaderValue, Method, Request, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::{ConnectError, Handshake, url};
use crate::{config::Config, handshake::subprotocol, words::header::is_token};

impl Handshake {
    /// Returns the complete request.
    pub(super) fn into_request(self, key: HeaderValue) -> Result<Request<()>, ConnectError> {
        let mut request = self.request;
        if request.method() != Method::GET {
            return Err(ConnectError::request("the method is not GET"));
        }
        *request.version_mut() = Version::HTTP_11;
        let host = url::host_field(request.uri())?;
        *request.uri_mut() = url::target(request.uri())?;

        let headers = request.headers_mut();
        if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
            return Err(ConnectError::request("a handshake has no body"));
        }
        match host {
            Some(host) if !headers.contains_key(HOST) => drop(headers.insert(HOST, host)),
            None if !headers.contains_key(HOST) => return Err(url::no_host()),
            _ => {}
        }
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, key);
        offer_subprotocols(&self.subprotocols, headers)?;
        offer_extensions(&self.config, headers)?;
        check_values(headers)?;
        put_host_first(headers);
        Ok(request)
    }
}

/// Adds subprotocols to those of the request's own header.
fn offer_subprotocols(
    names: &[Cow<'static, str>],
    headers: &mut HeaderMap,
) -> Result<(), ConnectError> {
    for name in names {
        // Otherwise the server would read "a, b" as two names.
        if !is_token(name.as_bytes()) {
            let why = format!(
                "the subprotocol \"{}\" is not a token",
                name.escape_default()
            );
            return Err(ConnectError::request(why));
        }
        let name = HeaderValue::from_str(name).map_err(ConnectError::request)?;
        headers.append(SEC_WEBSOCKET_PROTOCOL, name);
    }
    subprotocol::offered(headers).map_err(|_| {
        ConnectError::request("the subprotocols have to be at most 32 different tokens")
    })?;
    Ok(())
}

/// Moves `Host` in front of all other fields, as RFC 9110 §7.2 recommends.
fn put_host_first(headers: &mut HeaderMap) {
    let fields = mem::take(headers);
    headers.reserve(fields.len());
    for host in fields.get_all(HOST) {
        headers.append(HOST, host.clone());
    }
    for (name, value) in fields.iter().filter(|(name, _)| **name != HOST) {
        headers.append(name, value.clone());
    }
}

/// Refuses values that are not ASCII, and a `Host` with spaces: servers interpret these differently.
fn check_values(headers: &HeaderMap) -> Result<(), ConnectError> {
    for (name, value) in headers {
        if !value.as_bytes().is_ascii() {
            let why = format!("the value of the field {name} is not ASCII");
            return Err(ConnectError::request(why));
        }
    }
    let is_name = |host: &HeaderValue| host.as_bytes().iter().all(u8::is_ascii_graphic);
    if headers.get_all(HOST).iter().all(is_name) {
        Ok(())
    } else {
        Err(ConnectError::request(
            "the value of the field host has a space",
        ))
    }
}

/// Adds the configured extensions.
fn offer_extensions(config: &Config, headers: &mut HeaderMap) -> Result<(), ConnectError> {
    // The server could accept an extension that this crate does not implement.
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(ConnectError::request(
            "the request has its own field for extensions",
        ));
    }
    if let Some(offer) = config.offer() {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, offer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use http::HeaderName;

    use super::*;

    const KEY: HeaderValue = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");

    #[track_caller]
    fn sent(handshake: Handshake) -> Request<()> {
        handshake.into_request(KEY).unwrap()
    }

    #[track_caller]
    fn why(error: &ConnectError) -> String {
        assert!(
            matches!(error, ConnectError::InvalidRequest(_)),
            "{error:?}"
        );
        error.source().unwrap().to_string()
    }

    fn to(uri: &str) -> http::request::Builder {
        Request::get(uri)
    }

    #[test]
    fn finds_host_port_and_target_in_a_url() {
        for (url, host, address, target) in [
            ("ws://example.com", "example.com", ("example.com", 80), "/"),
            (
                "ws://example.com:80/",
                "example.com",
                ("example.com", 80),
                "/",
            ),
            ("ws://h:443/x", "h:443", ("h", 443), "/x"),
            ("WS://h:/x?y=%20z", "h", ("h", 80), "/x?y=%20z"),
            ("ws://h?q", "h", ("h", 80), "/?q"),
            (
                "ws://127.0.0.1:9/a/b",
                "127.0.0.1:9",
                ("127.0.0.1", 9),
                "/a/b",
            ),
            ("ws://[::1]", "[::1]", ("::1", 80), "/"),
            ("ws://[::1]:81/", "[::1]:81", ("::1", 81), "/"),
            ("http://h/x", "h", ("h", 80), "/x"),
            ("HTTP://h:81/x", "h:81", ("h", 81), "/x"),
            (
                "ws://[fe80::1%eth0]/",
                "[fe80::1]",
                ("fe80::1%eth0", 80),
                "/",
            ),
            (
                "ws://[fe80::1%25eth0]/",
                "[fe80::1]",
                ("fe80::1%eth0", 80),
                "/",
            ),
            (
                "ws://[fe80::1%25eth0]:81",
                "[fe80::1]:81",
                ("fe80::1%eth0", 81),
                "/",
            ),
            (
                "ws://[fe80::1%2]:81",
                "[fe80::1]:81",
                ("fe80::1%2", 81),
                "/",
            ),
            ("ws://[fe80::1%25]", "[fe80::1]", ("fe80::1%25", 80), "/"),
            ("ws://[fe80::1%253]", "[fe80::1]", ("fe80::1%3", 80), "/"),
            (
                "ws://[fe80::1%25a%2Db]",
                "[fe80::1]",
                ("fe80::1%a-b", 80),
                "/",
            ),
            (
                "ws://h/caf\u{e9} 1?n=\u{2603}",
                "h",
                ("h", 80),
                "/caf%C3%A9%201?n=%E2%98%83",
            ),
            ("ws://h?q=a b", "h", ("h", 80), "/?q=a%20b"),
            ("ws://h/%C3%A9/%zz%", "h", ("h", 80), "/%C3%A9/%zz%"),
            (
                "ws://h/a\"<>\\^`{|}[]?a\"<>\\^`{|}[]?/",
                "h",
                ("h", 80),
                "/a%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D?a%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D?/",
            ),
            (
                "ws://h/-._~!$&'()*+,;=:@",
                "h",
                ("h", 80),
                "/-._~!$&'()*+,;=:@",
            ),
        ] {
            let handshake = Handshake::new(url).unwrap();
            let (name, port) = handshake.address().unwrap();
            assert_eq!((name.as_str(), port), address, "{url}");
            let request = sent(handshake);
            assert_eq!(request.headers()[HOST], host, "{url}");
            assert_eq!(request.uri(), target, "{url}");
        }
    }

    #[test]
    fn knows_which_urls_require_tls() {
        for (url, host, port) in [
            ("wss://h/", "h", 443),
            ("https://h:1/", "h:1", 1),
            ("wss://h:443/", "h", 443),
            ("wss://h:80/", "h:80", 80),
        ] {
            let handshake = Handshake::new(url).unwrap();
            assert!(handshake.is_encrypted().unwrap(), "{url}");
            assert_eq!(handshake.address().unwrap(), ("h".to_owned(), port));
            assert_eq!(sent(handshake).headers()[HOST], host, "{url}");
        }
        assert!(
            !Handshake::new("ws://h:443/")
                .unwrap()
                .is_encrypted()
                .unwrap()
        );
    }

    #[test]
    fn refuses_invalid_urls() {
        for (url, reason) in [
            ("ftp://h/", "does not begin with ws://"),
            ("/path", "does not begin with ws://"),
            ("h:80", "does not begin with ws://"),
            ("ws://user@h/", "names a user"),
            ("ws://user:secret@h/", "names a user"),
            ("ws://h/#part", "fragment"),
            ("ws://h#part", "fragment"),
            ("ws://h:0/", "port"),
            ("ws://h:65536/", "port"),
            ("ws://:80/", ""),
            ("ws://h:x/", ""),
            ("ws://", ""),
            ("", ""),
            ("ws://h/\r\nX: y", ""),
            ("ws://[::1/", ""),
            ("ws://[fe80::1%]/", "zone"),
            ("ws://[fe80::1%25%00]/", ""),
            ("ws://[fe80::1%25%4]/", ""),
            ("ws://[fe80::1%eth 0]/", ""),
            ("ws://[nonsense]/", ""),
            ("ws://[127.0.0.1]/", "IPv6"),
            ("ws://b\u{fc}cher.example/", "host is not ASCII"),
            ("b\u{fc}cher", "host is not ASCII"),
            ("ws://a host/", ""),
            ("ws://h/a\tb", "path has a control character, \\u{9}"),
            ("ws://h/?a\u{0}b", "query has a control character, \\u{0}"),
            ("ws://h/a\u{85}", "path has a control character, \\u{85}"),
        ] {
            let error = Handshake::new(url).map(drop).unwrap_err();
            assert!(why(&error).contains(reason), "{url:?}: {error:?}");
        }
    }

    #[test]
    fn completes_a_request() {
        let request = to("ws://h/ws")
            .header("x-user", "ada")
            .extension(42_u8)
            .body(())
            .unwrap();
        let handshake = Handshake::from(request).subprotocol("a").subprotocol("b");
        let request = sent(handshake.header(
            HeaderName::from_static("x-user"),
            HeaderValue::from_static("bob"),
        ));
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.version(), Version::HTTP_11);
        let headers = request.headers();
        for (name, value) in [
            (HOST, "h"),
            (UPGRADE, "websocket"),
            (CONNECTION, "Upgrade"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, KEY.to_str().unwrap()),
        ] {
            assert_eq!(headers[&name], value, "{name}");
        }
        assert_eq!(subprotocol::offered(headers), Ok(vec!["a", "b"]));
        let users: Vec<_> = headers.get_all("x-user").iter().collect();
        assert_eq!(users, ["ada", "bob"]);
        assert_eq!(request.extensions().get(), Some(&42_u8));
    }

    #[test]
    fn replaces_the_handshake_fields_of_a_request_but_not_its_host() {
        let request = to("ws://h/")
            .header(CONNECTION, "close")
            .header(UPGRADE, "h2c")
            .header(SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA==")
            .header(SEC_WEBSOCKET_VERSION, "8")
            .header(HOST, "behind.the.proxy")
            .header(SEC_WEBSOCKET_PROTOCOL, "z")
            .version(Version::HTTP_2)
            .body(())
            .unwrap();
        let request = sent(Handshake::from(request).subprotocol("a"));
        let headers = request.headers();
        for (name, value) in [
            (HOST, "behind.the.proxy"),
            (UPGRADE, "websocket"),
            (CONNECTION, "Upgrade"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, KEY.to_str().unwrap()),
        ] {
            let lines: Vec<_> = headers.get_all(&name).iter().collect();
            assert_eq!(lines, [value], "{name}");
        }
        assert_eq!(subprotocol::offered(headers), Ok(vec!["z", "a"]));
        assert_eq!(request.version(), Version::HTTP_11);
    }

    #[test]
    fn needs_a_host_in_the_url_or_the_headers() {
        let path = || to("/ws");
        let error = Handshake::from(path().body(()).unwrap()).into_request(KEY);
        assert_eq!(why(&error.unwrap_err()), "there is no host");
        let given = Handshake::from(path().header(HOST, "h").body(()).unwrap());
        assert_eq!(sent(given).uri(), "/ws");
    }

    #[test]
    fn refuses_requests_that_are_not_handshakes() {
        for (request, reason) in [
            (to("ws://h/").method("POST"), "GET"),
            (to("ws://h/").header(CONTENT_LENGTH, "0"), "body"),
            (to("ws://h/").header(TRANSFER_ENCODING, "chunked"), "body"),
            (
                to("ws://h/").header(SEC_WEBSOCKET_EXTENSIONS, "x"),
                "extensions",
            ),
            (
                to("ws://h/").header(SEC_WEBSOCKET_PROTOCOL, ""),
                "subprotocols",
            ),
            (to("ws://user@h/").header(HOST, "h"), "user"),
        ] {
            let handshake = Handshake::from(request.body(()).unwrap());
            let error = handshake.into_request(KEY).unwrap_err();
            assert!(why(&error).contains(reason), "{reason}: {error:?}");
        }
    }

    #[test]
    fn escapes_the_path_and_query_of_a_request() {
        let uri = "ws://h/caf\u{e9}?n=\u{2603}";
        let request = sent(Handshake::from(to(uri).body(()).unwrap()));
        assert_eq!(request.uri(), "/caf%C3%A9?n=%E2%98%83");
    }

    #[test]
    fn names_the_field_whose_value_cannot_be_sent() {
        let url = Handshake::new("ws://h/").unwrap();
        let latin = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        let field = HeaderName::from_static("x-place");
        let error = url.clone().header(field, latin).into_request(KEY);
        assert_eq!(
            why(&error.unwrap_err()),
            "the value of the field x-place is not ASCII"
        );
        let blanks = HeaderValue::from_static("a host");
        let error = url.clone().header(HOST, blanks).into_request(KEY);
        assert_eq!(
            why(&error.unwrap_err()),
            "the value of the field host has a space"
        );
        let blanks = HeaderValue::from_static("Bearer of the\tdesk");
        let field = HeaderName::from_static("authorization");
        assert!(url.header(field, blanks).into_request(KEY).is_ok());
    }

    #[test]
    fn refuses_subprotocols_that_cannot_be_offered() {
        let url = Handshake::new("ws://h/").unwrap();
        for name in ["", "two words", "a, b", "a,", "a\r\nX: y", "caf\u{e9}"] {
            let error = url.clone().subprotocol(name).into_request(KEY);
            let named = format!(
                "the subprotocol \"{}\" is not a token",
                name.escape_default()
            );
            assert_eq!(why(&error.unwrap_err()), named);
        }
        let twice = url.clone().subprotocol("a").subprotocol("a");
        assert!(twice.into_request(KEY).is_err());
        let many = (0..32).fold(url, |url, n| url.subprotocol(format!("p{n}")));
        assert!(many.clone().into_request(KEY).is_ok());
        assert!(many.subprotocol("last").into_request(KEY).is_err());
    }
}
