//! Origins: which web pages may open a connection.
//!
//! Decides from `Origin` and the request's own authority whether the page that asks is one of
//! ours. Who the user is, and what the user may do, is left to the handler.

use std::error::Error;
use std::fmt;
use std::net::Ipv6Addr;

use http::HeaderMap;
use http::header::ORIGIN;

use crate::header::single;

/// Decides which web pages may open a WebSocket.
///
/// Browsers let any page connect to any server and send the server's cookies along; the `Origin`
/// field is the only thing that tells our own pages from others. A request
///
/// - without `Origin` is allowed: it does not come from a browser, and whoever writes such a
///   client can send any origin,
/// - with the origin of the server itself is allowed: scheme `http` or `https`, and the host and
///   port of the request's `Host` (`:authority` in HTTP/2),
/// - with an origin added by [`allow`](Self::allow) is allowed,
/// - with anything else is refused: other origins, `null`, two `Origin` lines, and values that
///   are not exactly `scheme://host` or `scheme://host:port`.
///
/// Hosts and schemes are compared without case, IPv6 literals as addresses. A missing port is the
/// default of the origin's scheme, 80 for `http` and 443 for `https`; this holds for `Host` too,
/// so that it does not matter whether TLS ends here or in a proxy. A proxy that rewrites `Host`
/// makes the server's own pages look foreign: add their public origin with [`allow`](Self::allow).
///
/// A trailing dot makes another host, as it does in browsers: `example.com.` is not `example.com`.
///
/// # Examples
///
/// ```
/// use tower_websocket::OriginPolicy;
///
/// // Pages of the same host, those of a front end on another one, and a desktop application.
/// let policy = OriginPolicy::same_host()
///     .allow("https://app.example.com")?
///     .allow("tauri://localhost")?;
/// # let _ = policy;
/// # Ok::<(), tower_websocket::InvalidOrigin>(())
/// ```
///
/// Source: [RFC 6455 §10.2](https://www.rfc-editor.org/rfc/rfc6455#section-10.2), with origins
/// written as in [RFC 6454 §6.2](https://www.rfc-editor.org/rfc/rfc6454#section-6.2).
#[derive(Clone, Debug)]
pub struct OriginPolicy {
    any: bool,
    allowed: Vec<Allowed>,
}

impl OriginPolicy {
    /// Allows the server's own pages and clients that are not browsers. This is the default.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::OriginPolicy;
    ///
    /// let policy = OriginPolicy::same_host();
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub const fn same_host() -> Self {
        Self {
            any: false,
            allowed: Vec::new(),
        }
    }

    /// Allows every page on the web, and so gives up the protection against cross-site WebSocket
    /// hijacking.
    ///
    /// Any site a user visits can then connect with that user's cookies, send in the user's name
    /// and read the answers (RFC 6455 §10.2). It is safe only where nothing about the connection
    /// depends on who or where the client is: no cookies, no HTTP or client-certificate
    /// authentication, and no server that only a local network can reach.
    ///
    /// `Origin` is not looked at any more: `null`, repeated and malformed values pass as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::OriginPolicy;
    ///
    /// // A public ticker: the same data for everyone, and no cookie is read.
    /// let policy = OriginPolicy::insecure_any();
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub const fn insecure_any() -> Self {
        Self {
            any: true,
            allowed: Vec::new(),
        }
    }

    /// Allows the pages of one more origin, or of all hosts below a domain.
    ///
    /// `origin` is written as browsers send it: `scheme://host` or `scheme://host:port`, without
    /// a path and without a trailing slash, names outside ASCII in their `xn--` form. The scheme
    /// can be any, such as `tauri` or `chrome-extension`; only `http` and `https` have a default
    /// port, any other scheme matches the port as written.
    ///
    /// A first label `*` stands for one or more whole labels. `https://*.example.com` allows
    /// `https://a.example.com` and `https://a.b.example.com`, but neither `https://example.com`
    /// nor `https://badexample.com`; scheme and port have to match as for an exact origin. At
    /// least two labels follow the `*`. Whether strangers can register names below them, as with
    /// `https://*.co.uk` or `https://*.github.io`, is not checked.
    ///
    /// On [`insecure_any`](Self::insecure_any) this changes nothing: any origin stays allowed.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if `origin` is not of this form. `null` is not: it is what every
    /// sandboxed frame sends, so allowing it would allow everyone.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::OriginPolicy;
    ///
    /// let policy = OriginPolicy::same_host()
    ///     .allow("http://localhost:5173")?
    ///     .allow("https://*.example.com")?;
    ///
    /// // A page's address is not an origin, and a whole top-level domain is not one owner's.
    /// assert!(policy.clone().allow("https://example.com/chat").is_err());
    /// assert!(policy.clone().allow("https://*.com").is_err());
    /// # Ok::<(), tower_websocket::InvalidOrigin>(())
    /// ```
    pub fn allow(mut self, origin: &str) -> Result<Self, InvalidOrigin> {
        let allowed = Allowed::parse(origin).map_err(|reason| InvalidOrigin {
            origin: origin.into(),
            reason,
        })?;
        self.allowed.push(allowed);
        Ok(self)
    }

    /// Tells whether the request with these fields may become a WebSocket.
    ///
    /// `authority` is the host the request was sent to, with its port if it has one: the value
    /// of `Host` or `:authority`. Without it, or if it is malformed, no origin is the server's own.
    pub(crate) fn permits(&self, headers: &HeaderMap, authority: Option<&str>) -> bool {
        if self.any {
            return true;
        }
        let field = match single(headers, &ORIGIN) {
            Ok(Some(field)) => field,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let Some(origin) = field
            .to_str()
            .ok()
            .and_then(|text| Origin::parse(text).ok())
        else {
            return false;
        };
        authority.is_some_and(|authority| origin.is_at(authority))
            || self.allowed.iter().any(|allowed| allowed.matches(&origin))
    }
}

impl Default for OriginPolicy {
    /// Returns [`OriginPolicy::same_host`].
    fn default() -> Self {
        Self::same_host()
    }
}

/// Why a text cannot be added to an [`OriginPolicy`].
///
/// The message quotes the text and says which part of it is wrong.
///
/// # Examples
///
/// ```
/// use tower_websocket::OriginPolicy;
///
/// let error = OriginPolicy::same_host().allow("example.com").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"invalid origin "example.com": it does not start with a scheme and `://`"#
/// );
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidOrigin {
    origin: Box<str>,
    reason: Reason,
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Scheme => "it does not start with a scheme and `://`",
            Reason::Host => {
                "what follows `://` is not a host name or address, with nothing but a port after it"
            }
            Reason::Port => "its port is not a number up to 65535",
            Reason::Wildcard => "a `*` has to be the whole first label, two or more names after it",
        };
        write!(f, "invalid origin {:?}: {reason}", self.origin)
    }
}

impl Error for InvalidOrigin {}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reason {
    Scheme,
    Host,
    Port,
    Wildcard,
}

/// One entry of the allow-list.
#[derive(Clone, Debug)]
struct Allowed {
    scheme: Box<str>,
    host: AllowedHost,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum AllowedHost {
    Name(Box<str>),
    /// The hosts that end in this suffix, which starts with a dot, and have a label before it.
    Below(Box<str>),
    V6(Ipv6Addr),
}

impl Allowed {
    fn parse(text: &str) -> Result<Self, Reason> {
        let (scheme, authority) = split_scheme(text)?;
        let domain = authority.strip_prefix("*.");
        let authority = domain.unwrap_or(authority);
        if authority.contains('*') {
            return Err(Reason::Wildcard);
        }
        let (host, port) = split_authority(authority)?;
        let host = match host {
            Host::Name(name) if domain.is_none() => AllowedHost::Name(name.into()),
            Host::V6(address) if domain.is_none() => AllowedHost::V6(address),
            Host::Name(name) if is_domain(name) => AllowedHost::Below(format!(".{name}").into()),
            _ => return Err(Reason::Wildcard),
        };
        Ok(Self {
            scheme: scheme.into(),
            host,
            port: port.or(default_port(scheme)),
        })
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(origin.scheme)
            && self.port == origin.port
            && match (&self.host, &origin.host) {
                (AllowedHost::Name(name), Host::Name(other)) => name.eq_ignore_ascii_case(other),
                // A parsed name has no empty label and does not start with a dot, so what is left
                // before the suffix is one or more whole labels.
                (AllowedHost::Below(suffix), Host::Name(other)) => other
                    .len()
                    .checked_sub(suffix.len())
                    .and_then(|labels| other.get(labels..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
                (AllowedHost::V6(address), Host::V6(other)) => address == other,
                _ => false,
            }
    }
}

/// An `Origin` field, its port filled in where the scheme has a default.
struct Origin<'a> {
    scheme: &'a str,
    host: Host<'a>,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Result<Self, Reason> {
        let (scheme, authority) = split_scheme(text)?;
        let (host, port) = split_authority(authority)?;
        Ok(Self {
            scheme,
            host,
            port: port.or(default_port(scheme)),
        })
    }

    /// Tells whether this is an origin of the server that `authority` names.
    fn is_at(&self, authority: &str) -> bool {
        // An application's own scheme, such as `tauri://`, does not name a server's host.
        let Some(default) = default_port(self.scheme) else {
            return false;
        };
        // An empty port is the default one (RFC 3986 §3.2.3).
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        split_authority(authority).is_ok_and(|(host, port)| {
            self.host.is(&host) && self.port == Some(port.unwrap_or(default))
        })
    }
}

enum Host<'a> {
    Name(&'a str),
    V6(Ipv6Addr),
}

impl Host<'_> {
    fn is(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Self::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
            (Self::V6(one), Host::V6(two)) => one == two,
            _ => false,
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), Reason> {
    let (scheme, authority) = text.split_once("://").ok_or(Reason::Scheme)?;
    let valid = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if valid {
        Ok((scheme, authority))
    } else {
        Err(Reason::Scheme)
    }
}

fn split_authority(authority: &str) -> Result<(Host<'_>, Option<u16>), Reason> {
    let (host, port) = if let Some(literal) = authority.strip_prefix('[') {
        let (address, port) = literal.split_once(']').ok_or(Reason::Host)?;
        let address = address.parse().map_err(|_| Reason::Host)?;
        (Host::V6(address), port)
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        let (name, port) = authority.split_at(end);
        if !is_name(name) {
            return Err(Reason::Host);
        }
        (Host::Name(name), port)
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.strip_prefix(':').ok_or(Reason::Host)?;
    // Checked apart from the parsing, which takes a `+` as well.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::Port);
    }
    let port = digits.parse().map_err(|_| Reason::Port)?;
    Ok((host, Some(port)))
}

/// Tells whether `name` is a host name or an IPv4 address as browsers write them, which is
/// narrower than what a URI may hold.
fn is_name(name: &str) -> bool {
    name.strip_suffix('.')
        .unwrap_or(name)
        .split('.')
        .all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

/// Tells whether `name` can have hosts below it that belong to one owner.
fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // A last label of digits is the end of an IPv4 address: what precedes it is no subdomain.
    name.rsplit_once('.')
        .is_some_and(|(_, last)| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (ORIGIN, HeaderValue::from_bytes(line.as_bytes()).unwrap()))
            .collect()
    }

    fn same_host(origin: &str, authority: &str) -> bool {
        OriginPolicy::same_host().permits(&request(&[origin]), Some(authority))
    }

    /// Whether `origin` passes once `entry` is allowed, on a server with another name.
    fn allowed(entry: &str, origin: &str) -> bool {
        OriginPolicy::same_host()
            .allow(entry)
            .unwrap()
            .permits(&request(&[origin]), Some("server.test"))
    }

    const MALFORMED: [&str; 43] = [
        "",
        "null",
        "NULL",
        "example.com",
        "example.com:80",
        "//example.com",
        "://example.com",
        "http:example.com",
        "http:/example.com",
        "http:///example.com",
        " http://example.com",
        "http://example.com ",
        "1http://example.com",
        "ht_tp://example.com",
        "http://",
        "http://:80",
        "http://.",
        "http://.example.com",
        "http://example..com",
        "http://example.com..",
        "http://example.com/",
        "http://example.com/chat",
        "http://example.com:80/",
        "http://example.com?a",
        "http://example.com#a",
        "http://example.com\\a",
        "http://user@example.com",
        "http://user:secret@example.com",
        "http://example.com@",
        "http://example.com:",
        "http://example.com:+80",
        "http://example.com:-80",
        "http://example.com:http",
        "http://example.com:65536",
        "http://example.com:80:80",
        "http://example.com http://example.com",
        "http://example.com,http://example.com",
        "http://ex%61mple.com",
        "http://b\u{fc}cher.example",
        "http://[::1",
        "http://[::1]a",
        "http://[::1%25eth0]",
        "http://::1",
    ];

    #[test]
    fn allows_a_request_without_origin() {
        for authority in [None, Some("example.com"), Some("not an authority")] {
            assert!(
                OriginPolicy::same_host().permits(&request(&[]), authority),
                "authority {authority:?}"
            );
        }
    }

    #[test]
    fn allows_the_host_and_port_of_the_request() {
        for (origin, authority) in [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com"),
            ("http://localhost:3000", "localhost:3000"),
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("http://my_host", "my_host"),
            ("http://xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("http://example.com.", "example.com."),
        ] {
            assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
        }
    }

    #[test]
    fn compares_schemes_and_hosts_without_case() {
        for (origin, authority) in [
            ("http://EXAMPLE.com", "example.COM"),
            ("HTTP://example.com", "example.com:80"),
            ("hTTps://example.com", "example.com:443"),
            ("http://[FE80::A]", "[fe80::a]"),
        ] {
            assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
        }
    }

    #[test]
    fn takes_a_missing_port_for_the_default_of_the_scheme_of_the_origin() {
        for (origin, authority) in [
            ("http://example.com", "example.com:80"),
            ("http://example.com:80", "example.com"),
            ("http://example.com:80", "example.com:80"),
            ("https://example.com", "example.com:443"),
            ("https://example.com:443", "example.com"),
            ("http://[::1]:80", "[::1]"),
        ] {
            assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
        }
        for (origin, authority) in [
            ("http://example.com", "example.com:443"),
            ("http://example.com:443", "example.com"),
            ("https://example.com", "example.com:80"),
            ("https://example.com:80", "example.com"),
        ] {
            assert!(!same_host(origin, authority), "{origin:?} at {authority:?}");
        }
    }

    #[test]
    fn compares_ipv6_literals_as_addresses() {
        for (origin, authority) in [
            ("http://[::1]:3000", "[::1]:3000"),
            ("http://[::1]", "[0:0:0:0:0:0:0:1]:80"),
            ("https://[2001:db8::1]", "[2001:DB8:0::1]"),
        ] {
            assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
        }
        for (origin, authority) in [
            ("http://[::1]:3000", "[::1]:3001"),
            ("http://[::1]", "[::2]"),
            ("http://[::1]", "localhost"),
            ("http://[::1]", "::1"),
            ("http://[::ffff:127.0.0.1]", "127.0.0.1"),
        ] {
            assert!(!same_host(origin, authority), "{origin:?} at {authority:?}");
        }
    }

    #[test]
    fn refuses_another_host_or_port() {
        for (origin, authority) in [
            ("http://evil.test", "example.com"),
            ("http://www.example.com", "example.com"),
            ("http://example.com", "www.example.com"),
            ("http://example.com.evil.test", "example.com"),
            ("http://badexample.com", "example.com"),
            ("http://example.com.", "example.com"),
            ("http://example.com:3001", "example.com:3000"),
            ("http://example.com", "example.com:3000"),
            ("http://127.0.0.1", "localhost"),
        ] {
            assert!(!same_host(origin, authority), "{origin:?} at {authority:?}");
        }
    }

    #[test]
    fn refuses_another_scheme_at_the_same_host() {
        for scheme in ["ws", "wss", "tauri", "file", "httpx"] {
            let origin = format!("{scheme}://example.com");
            assert!(!same_host(&origin, "example.com"), "origin {origin:?}");
            let origin = format!("{scheme}://example.com:80");
            assert!(!same_host(&origin, "example.com:80"), "origin {origin:?}");
        }
    }

    #[test]
    fn takes_an_empty_port_of_the_authority_for_the_default() {
        assert!(same_host("http://example.com", "example.com:"));
        assert!(same_host("https://[::1]", "[::1]:"));
        assert!(!same_host("http://example.com:8080", "example.com:"));
    }

    #[test]
    fn refuses_every_origin_when_the_authority_is_absent_or_malformed() {
        let headers = request(&["http://example.com"]);
        for authority in [
            None,
            Some(""),
            Some(":80"),
            Some("example.com/"),
            Some("example.com:x"),
            Some("user@example.com"),
            Some("http://example.com"),
            Some("[::1"),
        ] {
            let policy = OriginPolicy::same_host();
            assert!(!policy.permits(&headers, authority), "{authority:?}");
            let policy = policy.allow("http://example.com").unwrap();
            assert!(policy.permits(&headers, authority), "listed, {authority:?}");
        }
    }

    #[test]
    fn refuses_a_malformed_origin_whatever_the_host_and_the_allow_list_say() {
        let policy = OriginPolicy::same_host()
            .allow("http://example.com")
            .unwrap()
            .allow("http://*.example.com")
            .unwrap();
        for origin in MALFORMED.into_iter().chain(["http://*.example.com"]) {
            let authority = origin.split_once("://").map_or(origin, |(_, host)| host);
            for authority in ["example.com", "[::1]", authority] {
                assert!(
                    !policy.permits(&request(&[origin]), Some(authority)),
                    "{origin:?} at {authority:?}"
                );
            }
        }
    }

    #[test]
    fn refuses_two_origins() {
        let policy = OriginPolicy::same_host();
        for lines in [
            &["http://example.com", "http://example.com"][..],
            &["http://example.com", "http://evil.test"],
            &["http://evil.test", "http://example.com"],
            &["http://example.com", ""],
        ] {
            assert!(
                !policy.permits(&request(lines), Some("example.com")),
                "lines {lines:?}"
            );
        }
    }

    #[test]
    fn allows_a_listed_origin_in_any_equal_spelling() {
        for (entry, origin) in [
            ("https://example.com", "https://example.com"),
            ("https://example.com", "https://example.com:443"),
            ("https://example.com:443", "https://example.com"),
            ("HTTPS://Example.COM", "https://example.com"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:3000", "http://[0::1]:3000"),
            ("tauri://localhost", "tauri://localhost"),
            ("app://localhost:1", "app://localhost:1"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert!(allowed(entry, origin), "{origin:?} under {entry:?}");
        }
    }

    #[test]
    fn refuses_an_origin_that_differs_from_the_listed_one() {
        for (entry, origin) in [
            ("https://example.com", "http://example.com"),
            ("https://example.com", "https://example.com:8443"),
            ("https://example.com:8443", "https://example.com"),
            ("https://example.com", "https://www.example.com"),
            ("https://example.com", "https://badexample.com"),
            ("https://example.com", "https://example.com.evil.test"),
            ("https://example.com", "https://example.com."),
            ("http://[::1]", "http://[::2]"),
            ("tauri://localhost", "http://localhost"),
            ("tauri://localhost", "tauri://localhost:80"),
            ("app://localhost:80", "app://localhost"),
        ] {
            assert!(!allowed(entry, origin), "{origin:?} under {entry:?}");
        }
    }

    #[test]
    fn keeps_the_same_host_and_every_earlier_entry_when_one_is_added() {
        let policy = OriginPolicy::same_host()
            .allow("https://a.test")
            .unwrap()
            .allow("https://*.b.test")
            .unwrap();
        for origin in ["http://example.com", "https://a.test", "https://x.b.test"] {
            assert!(
                policy.permits(&request(&[origin]), Some("example.com")),
                "origin {origin:?}"
            );
        }
        assert!(!policy.permits(&request(&["https://c.test"]), Some("example.com")));
    }

    #[test]
    fn allows_one_or_more_whole_labels_for_a_wildcard() {
        for (entry, origin) in [
            ("https://*.example.com", "https://a.example.com"),
            ("https://*.example.com", "https://a.b.example.com"),
            ("https://*.example.com", "https://A.EXAMPLE.com:443"),
            ("https://*.EXAMPLE.com:443", "https://a.example.com"),
            ("http://*.example.com:81", "http://a.example.com:81"),
            ("https://*.1.example", "https://2.1.example"),
            ("app://*.example.com", "app://a.example.com"),
        ] {
            assert!(allowed(entry, origin), "{origin:?} under {entry:?}");
        }
    }

    #[test]
    fn refuses_the_apex_and_anything_else_outside_a_wildcard() {
        for (entry, origin) in [
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://.example.com"),
            ("https://*.example.com", "https://badexample.com"),
            ("https://*.example.com", "https://com"),
            ("https://*.example.com", "https://a.example.com.evil.test"),
            ("https://*.example.com", "https://a.example.com."),
            ("https://*.example.com", "https://a.example.org"),
            ("https://*.example.com", "http://a.example.com"),
            ("https://*.example.com", "https://a.example.com:8443"),
            ("https://*.example.com:8443", "https://a.example.com"),
            ("https://*.example.com", "https://evil.test/.example.com"),
            ("https://*.example.com", "https://evil.test#.example.com"),
            ("https://*.example.com", "https://[::1]"),
        ] {
            assert!(!allowed(entry, origin), "{origin:?} under {entry:?}");
        }
    }

    #[test]
    fn refuses_to_list_a_malformed_origin() {
        for entry in MALFORMED {
            assert!(
                OriginPolicy::same_host().allow(entry).is_err(),
                "entry {entry:?}"
            );
        }
    }

    #[test]
    fn refuses_to_list_a_wildcard_in_any_other_place() {
        for entry in [
            "https://*",
            "https://*:443",
            "https://*.com",
            "https://*.com.",
            "https://*.localhost",
            "https://*example.com",
            "https://a*.example.com",
            "https://a.*.example.com",
            "https://*.*.example.com",
            "https://example.*",
            "https://example.com:*",
            "https://*.example.com:*",
            "https://*.0.0.1",
            "https://*.[::1]",
        ] {
            let error = OriginPolicy::same_host().allow(entry).unwrap_err();
            assert_eq!(error.reason, Reason::Wildcard, "entry {entry:?}");
        }
        for entry in [
            "*",
            "*://example.com",
            "https://*.",
            "https://*..example.com",
        ] {
            assert!(
                OriginPolicy::same_host().allow(entry).is_err(),
                "entry {entry:?}"
            );
        }
    }

    #[test]
    fn says_which_part_of_an_origin_is_wrong() {
        for (entry, reason) in [
            ("null", Reason::Scheme),
            ("example.com", Reason::Scheme),
            ("https://", Reason::Host),
            ("https://example.com/", Reason::Host),
            ("https://user@example.com", Reason::Host),
            ("https://example.com:", Reason::Port),
            ("https://example.com:99999", Reason::Port),
            ("https://example.com:80/", Reason::Port),
            ("https://*.com", Reason::Wildcard),
            ("https://*.*.example.com", Reason::Wildcard),
        ] {
            let error = OriginPolicy::same_host().allow(entry).unwrap_err();
            assert_eq!(error.reason, reason, "entry {entry:?}");
            let message = error.to_string();
            assert!(message.contains(entry), "message {message:?}");
            assert!(!message.ends_with('.'), "message {message:?}");
        }
    }

    #[test]
    fn permits_everything_under_insecure_any() {
        let policy = OriginPolicy::insecure_any();
        let listing = policy.clone().allow("https://example.com").unwrap();
        for policy in [policy, listing] {
            for lines in [
                &[][..],
                &["http://evil.test"],
                &["null"],
                &["nonsense"],
                &["http://a.test", "http://b.test"],
            ] {
                assert!(policy.permits(&request(lines), None), "lines {lines:?}");
            }
        }
    }

    #[test]
    fn refuses_a_malformed_entry_under_insecure_any_too() {
        assert!(OriginPolicy::insecure_any().allow("null").is_err());
    }

    #[test]
    fn allows_the_same_host_by_default() {
        let policy = OriginPolicy::default();
        assert!(policy.permits(&request(&["http://a.test"]), Some("a.test")));
        assert!(!policy.permits(&request(&["http://b.test"]), Some("a.test")));
    }
}
