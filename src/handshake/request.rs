//! Decides whether a request is a WebSocket handshake, and whether the handshake is valid.
//!
//! Source: [RFC 6455 §4.2.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1), and
//! [RFC 8441 §5](https://www.rfc-editor.org/rfc/rfc8441#section-5) for HTTP/2.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request::Parts,
    uri::Authority,
};

use super::{HandshakeError, key::answer_to};
use crate::{
    handshake::{
        extension,
        origin::{Denied, OriginPolicy},
        subprotocol,
    },
    words::header::{contains_token, single},
};

/// The way in which a request asks for another protocol than HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Opening {
    /// WebSocket, by `Upgrade` over HTTP/1.1.
    Upgrade,
    /// WebSocket, by an extended CONNECT over HTTP/2.
    Connect,
    /// Another protocol, by an extended CONNECT.
    Unknown,
}

/// Returns whether a request may be a handshake, see [`opening`]. This is a fast check: almost no request is
/// a handshake.
#[inline]
pub(crate) fn may_be_handshake<A>(request: &Request<A>) -> bool {
    match request.version() {
        // Comparing the few names is faster than hashing one.
        Version::HTTP_11 => request.headers().keys().any(|name| name == header::UPGRADE),
        _ => request.method() == Method::CONNECT,
    }
}

/// Returns how a request opens another protocol, or `None` if it does not: the inner service answers it then.
///
/// `protocol` is the `:protocol` of an extended CONNECT, which is not a header field. `Upgrade` over HTTP/1.0
/// is ignored, as RFC 9110 §7.8 requires. HTTP/2 has no `Upgrade`.
pub(crate) fn opening<A>(request: &Request<A>, protocol: Option<&str>) -> Option<Opening> {
    match (request.version(), protocol) {
        (Version::HTTP_11, _) => contains_token(request.headers(), &header::UPGRADE, "websocket")
            .then_some(Opening::Upgrade),
        (_, Some(protocol)) if protocol.eq_ignore_ascii_case("websocket") => Some(Opening::Connect),
        (_, Some(_)) => Some(Opening::Unknown),
        (_, None) => None,
    }
}

/// Returns whether a request has handshake fields, even if a proxy dropped its `Upgrade`.
pub(crate) fn has_handshake_fields(headers: &HeaderMap) -> bool {
    headers.contains_key(header::SEC_WEBSOCKET_KEY)
        || headers.contains_key(header::SEC_WEBSOCKET_VERSION)
}

/// Returns whether a request that is not an [`opening`] is an extended CONNECT over HTTP/2. The crate cannot
/// answer it. Unlike a plain CONNECT, it has a scheme and a path (RFC 8441 §4).
pub(crate) fn is_extended_connect<A>(request: &Request<A>) -> bool {
    request.method() == Method::CONNECT
        && request.version() == Version::HTTP_2
        && request.uri().scheme().is_some()
}

/// Checks all rules of a handshake, and returns its `Sec-WebSocket-Accept`, or `None` over HTTP/2.
///
/// RFC 8441 §5 keeps version, origin, subprotocols and extensions, and replaces the key by `:protocol`.
pub(crate) fn check(
    parts: &Parts,
    opening: Opening,
    origins: &OriginPolicy,
    max_head_size: usize,
) -> Result<Option<HeaderValue>, HandshakeError> {
    let headers = &parts.headers;
    match opening {
        Opening::Upgrade if parts.method != Method::GET => {
            return Err(HandshakeError::InvalidMethod);
        }
        Opening::Upgrade if !contains_token(headers, &header::CONNECTION, "upgrade") => {
            return Err(HandshakeError::MissingConnectionUpgrade);
        }
        Opening::Unknown => return Err(HandshakeError::UnknownProtocol),
        Opening::Upgrade | Opening::Connect => {}
    }
    match single(headers, &header::SEC_WEBSOCKET_VERSION) {
        Ok(Some(version)) if version == "13" => {}
        _ => return Err(HandshakeError::UnsupportedVersion),
    }
    let accept = match opening {
        Opening::Upgrade => Some(accept_key(headers)?),
        Opening::Connect | Opening::Unknown => None,
    };
    let is_stream = matches!(opening, Opening::Connect);
    if announces_body(headers) || (is_stream && headers.contains_key(header::CONTENT_LENGTH)) {
        return Err(HandshakeError::UnexpectedBody);
    }
    let lens = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    let size = target_len(&parts.uri) + lens.sum::<usize>();
    if size > max_head_size {
        return Err(HandshakeError::HeadersTooLarge {
            size,
            max: max_head_size,
            largest: largest(parts),
        });
    }
    let authority = match opening {
        Opening::Upgrade => host_or_authority(parts),
        Opening::Connect | Opening::Unknown => authority_or_host(parts),
    }?;
    let denied = |Denied { origin, host }| HandshakeError::OriginDenied { origin, host };
    origins.check(parts, authority).map_err(denied)?;
    extension::validate(headers).map_err(|_| HandshakeError::InvalidExtensions)?;
    subprotocol::offered(headers).map_err(|_| HandshakeError::InvalidSubprotocols)?;
    Ok(accept)
}

/// Joins the lines of `Cookie`. HTTP/2 allows one line for each cookie (RFC 9113 §8.2.3), and code that reads
/// only the first line would miss the others.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if lines.nth(1).is_none() {
        return;
    }
    let lines: Vec<&HeaderValue> = headers.get_all(header::COOKIE).iter().collect();
    let is_sensitive = lines.iter().any(|line| line.is_sensitive());
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    // This cannot fail: valid values with "; " between them are a valid value.
    if let Ok(mut joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        joined.set_sensitive(is_sensitive);
        headers.insert(header::COOKIE, joined);
    }
}

/// Returns the largest field of a head, all its lines added up. Returns `None` if the target is larger.
#[cold]
fn largest(parts: &Parts) -> Option<HeaderName> {
    let mut largest = (None, target_len(&parts.uri));
    for name in parts.headers.keys() {
        let lines = parts.headers.get_all(name).iter();
        let size = lines.map(|line| name.as_str().len() + line.len()).sum();
        if size > largest.1 {
            largest = (Some(name), size);
        }
    }
    largest.0.cloned()
}

fn target_len(uri: &Uri) -> usize {
    let scheme = uri.scheme_str().map_or(0, str::len);
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let path_and_query = uri.path_and_query().map_or(0, |path| path.as_str().len());
    scheme + authority + path_and_query
}

/// Returns the `Sec-WebSocket-Accept` for the client's `Sec-WebSocket-Key` (RFC 6455 §4.2.2 item 5.4).
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, HandshakeError> {
    // A repeated key is refused: RFC 6455 §11.3.1 forbids it, and a proxy might use another one of them.
    let Ok(Some(key)) = single(headers, &header::SEC_WEBSOCKET_KEY) else {
        return Err(HandshakeError::InvalidKey);
    };
    let key = key.as_bytes();
    if !is_nonce(key) {
        return Err(HandshakeError::InvalidKey);
    }
    HeaderValue::try_from(answer_to(key)).map_err(|_| HandshakeError::InvalidKey)
}

/// Returns whether a key is the base64 of 16 bytes: 22 characters and the padding.
///
/// The last four bits of the last character are unused. They need not be zero: they are not zero in an
/// example of RFC 6455 §4.1, and RFC 4648 §3.5 lets decoders ignore them.
fn is_nonce(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = key.strip_suffix(b"==");
    digits.is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_base64))
}

/// Returns whether a request announces a body. It must be refused: a proxy would read the following bytes as
/// the body, and this server as frames. That allows request smuggling.
fn announces_body(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    let is_zero = |length: &HeaderValue| {
        let digits = length.as_bytes();
        !digits.is_empty() && digits.iter().all(|digit| *digit == b'0')
    };
    headers.contains_key(header::TRANSFER_ENCODING) || !lengths.iter().all(is_zero)
}

/// Returns the host and port that an HTTP/1.1 request is addressed to.
///
/// The authority of the target takes precedence over `Host` (RFC 9112 §3.2.2). `Host` must be valid in
/// either case.
fn host_or_authority(parts: &Parts) -> Result<&str, HandshakeError> {
    let host = host(&parts.headers)?;
    Ok(parts
        .uri
        .authority()
        .map_or(host, |authority| authority.as_str()))
}

/// Returns the host and port that an HTTP/2 request is addressed to: `:authority`, or `Host` if there is no
/// `:authority` (RFC 9113 §8.3.1).
fn authority_or_host(parts: &Parts) -> Result<&str, HandshakeError> {
    match parts.uri.authority() {
        Some(authority) if is_host(authority.as_str()) => Ok(authority.as_str()),
        Some(_) => Err(HandshakeError::InvalidHost),
        None => host(&parts.headers),
    }
}

fn host(headers: &HeaderMap) -> Result<&str, HandshakeError> {
    match single(headers, &header::HOST).map(|host| host?.to_str().ok()) {
        Ok(Some(host)) if is_host(host) => Ok(host),
        _ => Err(HandshakeError::InvalidHost),
    }
}

/// Returns whether a field is a host with or without a port. A user, which other authorities allow, is not
/// allowed (RFC 9112 §3.2).
fn is_host(field: &str) -> bool {
    is_simple_host(field) || is_any_host(field)
}

/// The fast path of [`is_host`]: accepts names and IPv4 addresses only.
fn is_simple_host(field: &str) -> bool {
    let (host, port) = match field.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (field, None),
    };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let is_digits = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let is_port = |port: &str| is_digits(port) && port.parse::<u16>().is_ok();
    !host.is_empty() && host.bytes().all(is_part) && port.is_none_or(is_port)
}

fn is_any_host(field: &str) -> bool {
    let Ok(authority) = Authority::try_from(field) else {
        return false;
    };
    match field.strip_prefix(authority.host()) {
        Some("" | ":") => true,
        Some(port) => authority.port_u16().is_some_and(|_| port.starts_with(':')),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> http::request::Builder {
        Request::get("/ws")
            .header(header::HOST, "example.com")
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "Upgrade")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
    }

    fn checked(request: http::request::Builder) -> Result<HeaderValue, HandshakeError> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(
            &parts,
            Opening::Upgrade,
            &OriginPolicy::same_host(),
            16 * 1024,
        )
        .map(Option::unwrap)
    }

    /// Makes an extended CONNECT as HTTP/2 servers present it.
    fn connect(uri: &str) -> http::request::Builder {
        Request::connect(uri)
            .version(Version::HTTP_2)
            .header(header::SEC_WEBSOCKET_VERSION, "13")
    }

    fn connected(request: http::request::Builder) -> Result<Option<HeaderValue>, HandshakeError> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(
            &parts,
            Opening::Connect,
            &OriginPolicy::same_host(),
            16 * 1024,
        )
    }

    #[test]
    fn answers_the_key_of_the_rfc() {
        assert_eq!(
            checked(handshake()).unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn ignores_the_unused_bits_of_a_key() {
        // The example of RFC 6455 §4.1, and all 16 endings of one nonce.
        let of_the_rfc = "AQIDBAUGBwgJCgsMDQ4PEC==".to_owned();
        let endings = "QRSTUVWXYZabcdef".chars();
        let keys = endings.map(|last| format!("dGhlIHNhbXBsZSBub25jZ{last}=="));
        for key in keys.chain([of_the_rfc, "++++++++++++++++++++//==".to_owned()]) {
            let mut request = handshake();
            let headers = request.headers_mut().unwrap();
            headers.insert(header::SEC_WEBSOCKET_KEY, key.parse().unwrap());
            assert_eq!(
                checked(request).unwrap(),
                answer_to(key.as_bytes()),
                "key {key}"
            );
        }
    }

    #[test]
    fn refuses_a_key_that_is_not_sixteen_bytes() {
        for key in [
            "",
            "AAA",
            "AAAA",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZSE=",
            "dGhlIHNhbXBsZSBub25jZSEh",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            let mut request = handshake();
            let headers = request.headers_mut().unwrap();
            headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static(key));
            assert_eq!(
                checked(request),
                Err(HandshakeError::InvalidKey),
                "key {key:?}"
            );
        }
    }

    #[test]
    fn accepts_an_upgrade_list_with_other_protocols() {
        let mut request = handshake();
        let headers = request.headers_mut().unwrap();
        headers.insert(header::UPGRADE, HeaderValue::from_static("h2c, WebSocket"));
        let opening = opening(&request.body(()).unwrap(), None);
        assert_eq!(opening, Some(Opening::Upgrade));
    }

    #[test]
    fn the_fast_check_passes_every_handshake_and_few_other_requests() {
        let h2c = Request::get("/").header("UPGRADE", "h2c");
        for request in [handshake(), connect("https://example.com/ws"), h2c] {
            assert!(may_be_handshake(&request.body(()).unwrap()));
        }
        let plain = Request::post("/ws").header(header::CONNECTION, "upgrade");
        let over_http10 = handshake().version(Version::HTTP_10);
        let over_http2 = handshake().version(Version::HTTP_2);
        for request in [plain, over_http10, over_http2] {
            assert!(!may_be_handshake(&request.body(()).unwrap()));
        }
    }

    #[test]
    fn ignores_other_upgrades_and_versions() {
        let h2c = Request::get("/")
            .header(header::UPGRADE, "h2c")
            .body(())
            .unwrap();
        assert_eq!(opening(&h2c, None), None);
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let request = handshake().version(version).body(()).unwrap();
            assert_eq!(opening(&request, None), None, "{version:?}");
        }
    }

    #[test]
    fn recognizes_the_protocol_of_an_extended_connect() {
        let request = connect("https://example.com/ws").body(()).unwrap();
        for (protocol, expected) in [
            (Some("websocket"), Some(Opening::Connect)),
            (Some("WebSocket"), Some(Opening::Connect)),
            (Some("connect-udp"), Some(Opening::Unknown)),
            (Some("websocket/2"), Some(Opening::Unknown)),
            (Some(""), Some(Opening::Unknown)),
            (None, None),
        ] {
            assert_eq!(opening(&request, protocol), expected, "{protocol:?}");
        }
    }

    #[test]
    fn an_extended_connect_needs_a_version_but_no_key() {
        assert_eq!(connected(connect("https://example.com/ws")), Ok(None));
        let mut without = connect("https://example.com/ws");
        let headers = without.headers_mut().unwrap();
        headers.remove(header::SEC_WEBSOCKET_VERSION);
        assert_eq!(connected(without), Err(HandshakeError::UnsupportedVersion));
    }

    #[test]
    fn compares_the_origin_of_an_extended_connect_with_its_authority() {
        let request = || connect("https://example.com/ws").header(header::HOST, "evil.example");
        let origin = |origin| connected(request().header(header::ORIGIN, origin));
        assert_eq!(origin("https://example.com"), Ok(None));
        let foreign = origin("https://evil.example");
        assert!(matches!(foreign, Err(HandshakeError::OriginDenied { .. })));
    }

    #[test]
    fn reads_the_host_of_an_extended_connect_without_authority() {
        assert_eq!(connected(connect("/ws")), Err(HandshakeError::InvalidHost));
        let request = connect("/ws").header(header::HOST, "example.com");
        let request = request.header(header::ORIGIN, "https://example.com");
        assert_eq!(connected(request), Ok(None));
        let with_user = connect("https://user@example.com/ws");
        assert_eq!(connected(with_user), Err(HandshakeError::InvalidHost));
    }

    #[test]
    fn allows_content_length_only_when_it_is_zero() {
        for length in ["0", "00"] {
            let empty = handshake().header(header::CONTENT_LENGTH, length);
            assert!(checked(empty).is_ok(), "length {length}");
        }
        for length in ["1", "", "-1", "0, 5"] {
            let request = handshake().header(header::CONTENT_LENGTH, length);
            assert_eq!(
                checked(request),
                Err(HandshakeError::UnexpectedBody),
                "length {length}"
            );
        }
    }

    #[test]
    fn the_fast_path_accepts_only_simple_valid_hosts() {
        for host in [
            "example.com",
            "EXAMPLE.com",
            "a-b.c1",
            "localhost:3000",
            "127.0.0.1:0",
            "a:65535",
            "a:00080",
            "-",
            ".",
            "a..b",
        ] {
            assert!(is_simple_host(host) && is_any_host(host), "host {host}");
        }
        for host in [
            "",
            ":",
            ":80",
            "a:",
            "a:65536",
            "a:+80",
            "a:80:80",
            "a:b",
            "[::1]:80",
            "user@a",
            "user:80@a",
            "a b",
            "a,b",
            "a%20b",
            "a/b",
            "a?b",
            "a#b",
            "ä",
        ] {
            assert!(!is_simple_host(host), "host {host}");
        }
    }

    #[test]
    fn limits_the_size_of_the_head_and_names_its_largest_part() {
        let refused = |request| match checked(request) {
            Err(HandshakeError::HeadersTooLarge { size, max, largest }) => {
                assert!(size > max && max == 16 * 1024, "{size} of {max}");
                largest.map_or_else(|| "the target".into(), |name| name.to_string())
            }
            other => panic!("{other:?}"),
        };
        let with_cookie = |len| handshake().header(header::COOKIE, "x".repeat(len));
        assert!(checked(with_cookie(15 * 1024)).is_ok());
        assert_eq!(refused(with_cookie(16 * 1024)), "cookie");
        let with_query = |len| handshake().uri(format!("/ws?{}", "x".repeat(len)));
        assert!(checked(with_query(15 * 1024)).is_ok());
        assert_eq!(refused(with_query(16 * 1024)), "the target");
        let both = |len| {
            let request = handshake().uri(format!("http://example.com/{}", "x".repeat(len)));
            request.header(header::COOKIE, "x".repeat(16 * 1024 - len))
        };
        assert_eq!(refused(both(9 * 1024)), "the target");
        assert_eq!(refused(both(7 * 1024)), "cookie");
        // Over HTTP/2 each cookie has its own line.
        let cookies = |number| {
            let request = handshake().header("x-large", "x".repeat(9 * 1024));
            (0..number).fold(request, |request, _| {
                request.header(header::COOKIE, "x".repeat(1024))
            })
        };
        assert!(checked(cookies(6)).is_ok());
        assert_eq!(refused(cookies(8)), "x-large");
        assert_eq!(refused(cookies(9)), "cookie");
    }

    #[test]
    fn counts_the_bytes_of_target_names_and_values() {
        let (parts, ()) = handshake().body(()).unwrap().into_parts();
        let fields = parts.headers.iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
        let whole = "/ws".len() + fields.sum::<usize>();
        let with = |max| check(&parts, Opening::Upgrade, &OriginPolicy::same_host(), max);
        assert!(with(whole).is_ok());
        let error = with(whole - 1).unwrap_err();
        assert!(matches!(error, HandshakeError::HeadersTooLarge { size, .. } if size == whole));
        assert!(with(0).is_err());
        assert!(with(usize::MAX).is_ok());
    }

    #[test]
    fn prefers_the_authority_of_the_target_over_host() {
        let request = handshake().uri("http://other.example/ws");
        let same = request.header(header::ORIGIN, "http://other.example");
        assert!(checked(same).is_ok());
        let request = handshake().uri("http://other.example/ws");
        let foreign = request.header(header::ORIGIN, "http://example.com");
        assert!(matches!(
            checked(foreign),
            Err(HandshakeError::OriginDenied { .. })
        ));
    }
}
