//! The request of an opening handshake, made from a URL or a [`Request`].
//!
//! Source: [RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3) and
//! [§4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1).

use std::{any::Any, borrow::Cow, fmt, mem, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::{ConnectError, exchange::HeadLimits, url};
use crate::{
    config::Config,
    connections::Connections,
    handshake::{Identity, subprotocol},
    time::limit::clamp,
    words::header::is_token,
};

/// The minimum of [`Handshake::timeout`].
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// The maximum of [`Handshake::max_response_fields`]. hyper allocates space for all of them, and `HeaderMap`
/// panics beyond some 24,000.
const MAX_FIELDS: usize = 10_000;

/// An opening handshake: the URL, the offered subprotocols, and the settings of the connection.
///
/// It is made from a URL or a [`Request`]. The fields of the handshake (`Connection`, `Upgrade`, the key and
/// the version) are added when it is sent, and replace those of a request. `Host` is taken from the URL, unless
/// the field is given.
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, header};
/// use tower_websocket::{Config, client::{self, ConnectError, Handshake}};
///
/// # async fn example() -> Result<(), ConnectError> {
/// let handshake = Handshake::new("ws://127.0.0.1:3000/desk")?
///     .header(header::AUTHORIZATION, HeaderValue::from_static("Bearer of-the-desk"))
///     .subprotocol("desk.v2")
///     .subprotocol("desk.v1")
///     .config(Config::new().max_message_size(64 * 1024));
/// let (socket, _response) = client::connect(handshake).await?;
/// println!("subprotocol: {:?}", socket.subprotocol());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handshake {
    request: Request<()>,
    subprotocols: Vec<Cow<'static, str>>,
    pub(super) config: Config,
    pub(super) timeout: Duration,
    pub(super) limits: HeadLimits,
    pub(super) connections: Option<Connections>,
    pub(super) identity: Identity,
}

impl Handshake {
    /// Makes a handshake for a URL such as `ws://127.0.0.1:3000/desk?number=3`.
    ///
    /// The scheme is `ws` or `wss`. `http` and `https` mean the same. The default port is 80 or 443. A
    /// link-local IPv6 address may have a zone: `[fe80::1%25eth0]`
    /// ([RFC 6874](https://www.rfc-editor.org/rfc/rfc6874)) or `[fe80::1%eth0]`. The zone is not sent to the
    /// server.
    ///
    /// Characters of the path and the query that are not allowed in a URL, such as spaces and characters outside
    /// of ASCII, are percent-encoded as UTF-8. A `%` is not changed.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidRequest`] if `url`
    ///
    /// - is not such a URL,
    /// - has a fragment or a control character,
    /// - has a host that is not ASCII (use its `xn--` form), or
    /// - has a user name. Send credentials in a [`header`](Self::header) instead.
    pub fn new(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        let mut request = Request::new(());
        *request.uri_mut() = url::parse(url.as_ref())?;
        Ok(Self::from(request))
    }

    /// Adds a header field to the request.
    ///
    /// If the value is not ASCII, connecting fails with [`ConnectError::InvalidRequest`].
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.request.headers_mut().append(name, value);
        self
    }

    /// Offers a subprotocol. Call it several times, in order of preference.
    ///
    /// [`WebSocket::subprotocol`](crate::WebSocket::subprotocol) returns the server's choice, if there is one.
    /// Connecting fails with [`ConnectError::InvalidRequest`] if a name is not a token or is offered twice, or if
    /// there are more than 32 names.
    #[must_use]
    pub fn subprotocol(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Sets the limits and timeouts of the connection. Default: [`Config::new`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds the connection to a registry, which counts, lists and closes it, and limits the number of
    /// connections. Default: none.
    ///
    /// The registry is asked before anything is dialled. If it has no place, connecting fails with
    /// [`ConnectError::NotAdmitted`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Connections, client::{self, ConnectError, Handshake}};
    ///
    /// # async fn example(all: Connections) -> Result<(), ConnectError> {
    /// let handshake = Handshake::new("ws://127.0.0.1:3000/feed")?.connections_in(&all);
    /// let (socket, _response) = client::connect(handshake).await?;
    /// assert!(all.get(socket.id()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn connections_in(mut self, connections: &Connections) -> Self {
        self.connections = Some(connections.clone());
        self
    }

    /// Gives the connection a value by which the application finds it, like
    /// [`Accept::identify`](crate::Accept::identify) on the server side.
    ///
    /// Clones of the handshake share the value.
    #[must_use]
    pub fn identify(mut self, value: impl Any + Send + Sync) -> Self {
        self.identity = Identity::new(value);
        self
    }

    /// Bounds the time from the lookup of the host to the end of the server's answer, including TLS.
    ///
    /// Minimum: 200 ms, because a handshake needs several round trips. Default: 10 s.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = clamp(MIN_TIMEOUT, limit);
        self
    }

    /// Caps the head of the server's answer, in bytes: its first line, its fields and the empty line.
    ///
    /// With a larger head connecting fails with [`ConnectError::InvalidResponse`]. Default: 16 KiB.
    #[must_use]
    pub const fn max_response_head(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Caps the number of fields in the server's answer. A 101 has at least three.
    ///
    /// With more fields connecting fails with [`ConnectError::InvalidResponse`]. Maximum: 10,000. Default: 100.
    #[must_use]
    pub const fn max_response_fields(mut self, count: usize) -> Self {
        self.limits.fields = if count < MAX_FIELDS {
            count
        } else {
            MAX_FIELDS
        };
        self
    }

    /// Returns whether the URL requires TLS.
    pub(super) fn is_encrypted(&self) -> Result<bool, ConnectError> {
        url::is_encrypted(self.request.uri())
    }

    /// Returns the host and the port to connect to.
    pub(super) fn address(&self) -> Result<(String, u16), ConnectError> {
        url::address(self.request.uri())
    }

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

impl From<Request<()>> for Handshake {
    fn from(request: Request<()>) -> Self {
        Self {
            request,
            subprotocols: Vec::new(),
            config: Config::new(),
            timeout: Duration::from_secs(10),
            limits: HeadLimits {
                bytes: 16 * 1024,
                fields: 100,
            },
            connections: None,
            identity: Identity::default(),
        }
    }
}

impl TryFrom<&str> for Handshake {
    type Error = ConnectError;

    fn try_from(url: &str) -> Result<Self, ConnectError> {
        Self::new(url)
    }
}

impl TryFrom<&String> for Handshake {
    type Error = ConnectError;

    fn try_from(url: &String) -> Result<Self, ConnectError> {
        Self::new(url)
    }
}

impl TryFrom<String> for Handshake {
    type Error = ConnectError;

    fn try_from(url: String) -> Result<Self, ConnectError> {
        Self::new(url)
    }
}

// Not derived: the URL and the fields may contain secrets.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

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

    #[test]
    fn shows_no_secrets() {
        let handshake = Handshake::new("ws://h/?token=secret").unwrap();
        assert!(!format!("{handshake:?}").contains("secret"));
    }
}
