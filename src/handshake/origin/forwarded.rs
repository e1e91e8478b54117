//! The host of a request as reported by the proxies in front of the server.

use std::{borrow::Cow, fmt, str, sync::Arc};

use http::{HeaderMap, HeaderName, header::FORWARDED, request::Parts};

use crate::words::header::{as_token, elements, is_token, split};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The proxies that are trusted to report the host of a request.
///
/// Every client can send `Forwarded` and `X-Forwarded-Host`. A proxy replaces the field, or adds an element on
/// the right. So an element is used only if a trusted proxy added it
/// ([RFC 7239 §8.1](https://www.rfc-editor.org/rfc/rfc7239#section-8.1)).
///
/// # Examples
///
/// Behind nginx with `proxy_set_header X-Forwarded-Host $http_host;`, on a port that only nginx can reach:
///
/// ```
/// use tower_websocket::{OriginPolicy, TrustedProxies};
///
/// let policy = OriginPolicy::same_host().x_forwarded_host(TrustedProxies::number(1));
/// # let _ = policy;
/// ```
///
/// Only from peers in a list, on a port that others can reach as well:
///
/// ```
/// use std::net::{IpAddr, SocketAddr};
/// use axum::extract::ConnectInfo;
/// use tower_websocket::{OriginPolicy, TrustedProxies};
///
/// let proxies: [IpAddr; 2] = ["10.0.0.2".parse()?, "10.0.0.3".parse()?];
/// let trusted = TrustedProxies::peers(move |request| {
///     let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
///     peer.is_some_and(|peer| proxies.contains(&peer.ip()))
/// });
/// let policy = OriginPolicy::same_host().forwarded(trusted);
/// # let _ = policy;
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone)]
pub struct TrustedProxies {
    trust: Trust,
}

#[derive(Clone)]
enum Trust {
    Number(usize),
    Peers(Arc<dyn Fn(&Parts) -> bool + Send + Sync>),
}

impl TrustedProxies {
    /// Trusts the last `number` elements: one for each of `number` proxies in front of the server.
    ///
    /// The host is taken from the first of these elements. The outermost proxy added it. Count only the
    /// proxies that add an element, not those that leave the field unchanged. If the field has fewer elements,
    /// it is ignored. With 0 it is always ignored.
    ///
    /// Every request has to come through these proxies: a client that reaches the server directly can write
    /// all elements itself. Let the outermost proxy replace the field instead of adding to it. If it adds a
    /// second line, that line can get lost: nginx before 1.23 passes on only the first line.
    #[must_use]
    pub const fn number(number: usize) -> Self {
        Self {
            trust: Trust::Number(number),
        }
    }

    /// Trusts the last element of a request if `is_trusted` returns `true`.
    ///
    /// The function should check that the peer is one of your proxies. The server puts the peer's address into
    /// the extensions of the request. A panic in the function is answered 500.
    #[must_use]
    pub fn peers(is_trusted: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self {
            trust: Trust::Peers(Arc::new(is_trusted)),
        }
    }

    /// Returns the number of the element to use, counted from the right, starting with 1.
    fn element(&self, request: &Parts) -> Option<usize> {
        match &self.trust {
            Trust::Number(0) => None,
            Trust::Number(number) => Some(*number),
            Trust::Peers(is_trusted) => is_trusted(request).then_some(1),
        }
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trust {
            Trust::Number(number) => write!(f, "TrustedProxies::number({number})"),
            Trust::Peers(_) => f.write_str("TrustedProxies::peers(..)"),
        }
    }
}

/// The field that the proxies write, and the proxies to trust.
#[derive(Clone, Debug)]
pub(super) struct Forwarding {
    pub(super) field: Field,
    pub(super) proxies: TrustedProxies,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Field {
    Forwarded,
    XForwardedHost,
}

/// The host that the proxies report.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ForwardedHost<'a> {
    Missing,
    Host(Cow<'a, str>),
    /// The field breaks the syntax of RFC 7239.
    Malformed,
}

impl Forwarding {
    pub(super) fn host<'a>(&self, request: &'a Parts) -> ForwardedHost<'a> {
        let Some(number) = self.proxies.element(request) else {
            return ForwardedHost::Missing;
        };
        let headers = &request.headers;
        match self.field {
            Field::XForwardedHost => {
                let elements: Vec<_> = hosts(headers).collect();
                from_right(&elements, number).map_or(ForwardedHost::Missing, |element| {
                    str::from_utf8(element).map_or(ForwardedHost::Malformed, |host| {
                        ForwardedHost::Host(host.into())
                    })
                })
            }
            Field::Forwarded => {
                let elements: Vec<_> = elements(headers, &FORWARDED).collect();
                // An unclosed quoted string may contain further elements. Then the count is wrong.
                let trusted = &elements[elements.len().saturating_sub(number)..];
                let is_malformed =
                    |element: &&[u8]| host_parameter(element) == ForwardedHost::Malformed;
                if trusted.iter().any(is_malformed) {
                    return ForwardedHost::Malformed;
                }
                from_right(&elements, number).map_or(ForwardedHost::Missing, host_parameter)
            }
        }
    }
}

/// Iterates over the elements of `X-Forwarded-Host`. Quotation marks have no meaning in it.
fn hosts(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(X_FORWARDED_HOST).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Returns an element by its number from the right. The last one is number 1.
fn from_right<'a>(elements: &[&'a [u8]], number: usize) -> Option<&'a [u8]> {
    let index = elements.len().checked_sub(number)?;
    elements.get(index).copied()
}

/// Returns the `host` of one element of `Forwarded` (RFC 7239 §4).
///
/// Every syntax error makes the element malformed. Otherwise a client could hide the element that a proxy
/// adds, by an unclosed quoted string before it.
fn host_parameter(element: &[u8]) -> ForwardedHost<'_> {
    let mut found = ForwardedHost::Missing;
    for pair in split(element, b';') {
        if pair.is_empty() {
            continue;
        }
        let Some((name, value)) = split_pair(pair) else {
            return ForwardedHost::Malformed;
        };
        if name.eq_ignore_ascii_case("host") {
            if found != ForwardedHost::Missing {
                return ForwardedHost::Malformed;
            }
            found = ForwardedHost::Host(value);
        }
    }
    found
}

/// Splits `token=token` or `token="quoted string"`. Ports and IPv6 addresses are also accepted without
/// quotes, because many proxies write them that way.
fn split_pair(pair: &[u8]) -> Option<(&str, Cow<'_, str>)> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let name = as_token(&pair[..equals])?;
    let value = &pair[equals + 1..];
    let value = str::from_utf8(value).ok()?;
    let Some(quoted) = value.strip_prefix('"') else {
        let is_bare = value
            .split([':', '[', ']'])
            .all(|part| part.is_empty() || is_token(part.as_bytes()));
        return (is_bare && !value.is_empty()).then_some((name, value.into()));
    };
    let mut text = String::new();
    let mut rest = quoted.chars();
    loop {
        match rest.next()? {
            '"' => break,
            '\\' => text.push(rest.next()?),
            other => text.push(other),
        }
    }
    rest.as_str().is_empty().then_some((name, text.into()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn host(field: Field, proxies: TrustedProxies, lines: &[&str]) -> String {
        let name = match field {
            Field::Forwarded => FORWARDED,
            Field::XForwardedHost => X_FORWARDED_HOST,
        };
        let request = lines.iter().fold(Request::get("/"), |request, line| {
            request.header(&name, *line)
        });
        let (request, ()) = request.body(()).unwrap().into_parts();
        let forwarding = Forwarding { field, proxies };
        match forwarding.host(&request) {
            ForwardedHost::Missing => "missing".into(),
            ForwardedHost::Malformed => "malformed".into(),
            ForwardedHost::Host(host) => host.into(),
        }
    }

    fn behind(number: usize, lines: &[&str]) -> [String; 2] {
        let proxies = TrustedProxies::number(number);
        let pairs: Vec<_> = lines
            .iter()
            .map(|line| {
                let elements = line.split(',').map(str::trim);
                let elements: Vec<_> = elements.map(|host| format!("for=_x;host={host}")).collect();
                elements.join(", ")
            })
            .collect();
        let pairs: Vec<_> = pairs.iter().map(String::as_str).collect();
        [
            host(Field::XForwardedHost, proxies.clone(), lines),
            host(Field::Forwarded, proxies, &pairs),
        ]
    }

    #[test]
    fn takes_the_element_of_the_outermost_trusted_proxy() {
        for (number, lines, expected) in [
            (1, &["a"][..], "a"),
            (1, &["evil, a"], "a"),
            (1, &["evil", "a"], "a"),
            (1, &["evil,evil2,a"], "a"),
            (2, &["evil, a, b"], "a"),
            (2, &["evil, a", "b"], "a"),
            (2, &["a, b"], "a"),
            (3, &["evil", "a", "b, c"], "a"),
            // Fewer elements than proxies.
            (2, &["evil"], "missing"),
            (1, &[], "missing"),
            (0, &["evil"], "missing"),
            (usize::MAX, &["evil"], "missing"),
        ] {
            assert_eq!(behind(number, lines), [expected; 2], "{number}, {lines:?}");
        }
    }

    #[test]
    fn checks_the_peer_of_each_request() {
        for (is_trusted, expected) in [(true, "a"), (false, "missing")] {
            let proxies = || TrustedProxies::peers(move |_| is_trusted);
            let lines = ["evil, a"];
            assert_eq!(host(Field::XForwardedHost, proxies(), &lines), expected);
            let lines = ["host=evil, host=a"];
            assert_eq!(host(Field::Forwarded, proxies(), &lines), expected);
        }
    }

    #[test]
    fn reads_the_host_of_an_element_of_forwarded() {
        for (line, expected) in [
            ("host=example.com", "example.com"),
            ("HOST=example.com", "example.com"),
            ("for=192.0.2.43;proto=https;host=example.com", "example.com"),
            ("host=example.com;by=_x", "example.com"),
            (" host=example.com ; by=_x ", "example.com"),
            (r#"host="example.com:8080""#, "example.com:8080"),
            (r#"host="[2001:db8::1]:80";for="[::1]""#, "[2001:db8::1]:80"),
            ("host=example.com:8080", "example.com:8080"),
            ("host=[2001:db8::1]:80", "[2001:db8::1]:80"),
            (r#"host="ex\ample.com""#, "example.com"),
            (r#"for="a,b;host=evil";host=a"#, "a"),
            ("for=_x", "missing"),
            ("host=a;", "a"),
            ("xhost=evil", "missing"),
        ] {
            let proxies = TrustedProxies::number(1);
            let read = host(Field::Forwarded, proxies, &[line]);
            assert_eq!(read, expected, "line {line:?}");
        }
    }

    #[test]
    fn takes_no_host_from_a_malformed_element() {
        for line in [
            "host=a;host=b",
            "host=a; host=a",
            "host",
            "host=",
            "host=a b",
            "host=a/b",
            "=a",
            r#"host="a"#,
            r#"host="a"b"#,
            r#"host=a""#,
            // The client's unclosed string, before the element that a proxy adds.
            r#"host=evil;x=", for=_x;host=a"#,
            r#"host=evil;x=", for="[::1]";host=a"#,
            r#"host="evil, for=_x;host=a"#,
            r#"host="evil, for=_x;host="a""#,
        ] {
            let proxies = TrustedProxies::number(1);
            let read = host(Field::Forwarded, proxies, &[line]);
            assert_eq!(read, "malformed", "line {line:?}");
        }
    }

    #[test]
    fn an_unclosed_string_hides_no_element_of_a_proxy() {
        for line in [
            r#"host=evil, x=", for=_x;host=a, for=_y;host=b"#,
            r#"host=evil, x=", for="[::1]";host=a, for="[::2]";host=b"#,
            r#"host=evil;x=", for=_x;host=a, for=_y;host=b"#,
        ] {
            let read = host(Field::Forwarded, TrustedProxies::number(2), &[line]);
            assert_eq!(read, "malformed", "line {line:?}");
        }
        // Elements to the left of the trusted ones may be malformed.
        for line in ["evil=, for=_x;host=a", r#"x="a"b, for=_x;host=a"#] {
            let read = host(Field::Forwarded, TrustedProxies::number(1), &[line]);
            assert_eq!(read, "a", "line {line:?}");
        }
    }

    #[test]
    fn x_forwarded_host_has_no_quoted_strings() {
        for (number, lines, expected) in [
            (1, &[r#"evil, ", a"#][..], "a"),
            (2, &[r#"evil, ", a, b"#], "a"),
            (2, &[r#"evil, "x, a, b"#], "a"),
            (2, &[r#"evil, ", a"#, "b"], "a"),
            (1, &[r#""a, b""#], r#"b""#),
        ] {
            let proxies = TrustedProxies::number(number);
            let read = host(Field::XForwardedHost, proxies, lines);
            assert_eq!(read, expected, "{number}, {lines:?}");
        }
    }

    #[test]
    fn an_unclosed_string_ends_at_the_end_of_its_line() {
        let lines = [r#"host=evil;x=""#, "host=a"];
        let proxies = TrustedProxies::number(1);
        assert_eq!(host(Field::Forwarded, proxies, &lines), "a");
    }
}
