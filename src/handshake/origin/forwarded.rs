//! Which host a client has asked for, when proxies in front of the server say so.

use std::{borrow::Cow, fmt, str, sync::Arc};

use http::{HeaderMap, HeaderName, header::FORWARDED, request::Parts};

use crate::words::header::{as_token, elements, is_token, split};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Proxies whose word about the host of a request is believed.
///
/// Anybody can send `Forwarded` and `X-Forwarded-Host`, and each proxy adds an element to the right of
/// what it received, or replaces it. So an element counts only if it was added by a proxy that is
/// trusted ([RFC 7239 §8.1](https://www.rfc-editor.org/rfc/rfc7239#section-8.1)).
///
/// # Examples
///
/// Behind nginx with `proxy_set_header X-Forwarded-Host $http_host;`, on a port that nobody else reaches:
///
/// ```
/// use tower_websocket::{OriginPolicy, TrustedProxies};
///
/// let policy = OriginPolicy::same_host().x_forwarded_host(TrustedProxies::number(1));
/// # let _ = policy;
/// ```
///
/// Only from peers in a list, on a port that others reach as well:
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
    /// Trusts the last `number` elements, which are those of this many proxies in front of the server.
    ///
    /// The host is taken from the first of these, which is the one of the proxy that the client has
    /// asked. Count the proxies that add an element, and not those that leave the field as it is. A
    /// field with fewer elements is not believed, and 0 trusts nobody.
    ///
    /// Every request has to come through these proxies: somebody who reaches the server directly can
    /// write all elements. Have the outermost proxy replace the field, and not add to what the client has
    /// sent. An element that it adds as a line of its own can get lost: nginx before 1.23 passes on only the
    /// first line.
    #[must_use]
    pub const fn number(number: usize) -> Self {
        Self {
            trust: Trust::Number(number),
        }
    }

    /// Trusts the last element of requests for which `is_trusted` returns `true`: those whose peer is a
    /// proxy of yours, according to what the server has put into their extensions.
    ///
    /// A panic in the function is answered 500.
    #[must_use]
    pub fn peers(is_trusted: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self {
            trust: Trust::Peers(Arc::new(is_trusted)),
        }
    }

    /// Returns which element counts, from the right, starting with 1.
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

/// The field that the proxies write, and which of its elements count.
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

/// What the proxies say about the host.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Said<'a> {
    Nothing,
    Host(Cow<'a, str>),
    /// Something that is not written as RFC 7239 asks.
    Malformed,
}

impl Forwarding {
    pub(super) fn host<'a>(&self, request: &'a Parts) -> Said<'a> {
        let Some(number) = self.proxies.element(request) else {
            return Said::Nothing;
        };
        let headers = &request.headers;
        match self.field {
            Field::XForwardedHost => {
                let elements: Vec<_> = hosts(headers).collect();
                from_right(&elements, number).map_or(Said::Nothing, |element| {
                    str::from_utf8(element).map_or(Said::Malformed, |host| Said::Host(host.into()))
                })
            }
            Field::Forwarded => {
                let elements: Vec<_> = elements(headers, &FORWARDED).collect();
                // An open string may have swallowed elements, and then the count is wrong.
                let trusted = &elements[elements.len().saturating_sub(number)..];
                let is_malformed = |element: &&[u8]| host_parameter(element) == Said::Malformed;
                if trusted.iter().any(is_malformed) {
                    return Said::Malformed;
                }
                from_right(&elements, number).map_or(Said::Nothing, host_parameter)
            }
        }
    }
}

/// Iterates over the elements of `X-Forwarded-Host`, in which a quotation mark is a character like others.
fn hosts(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(X_FORWARDED_HOST).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Returns an element; the last one is number 1.
fn from_right<'a>(elements: &[&'a [u8]], number: usize) -> Option<&'a [u8]> {
    let index = elements.len().checked_sub(number)?;
    elements.get(index).copied()
}

/// Returns the `host` of one element of `Forwarded` (RFC 7239 §4).
///
/// Anything that is out of order makes the element malformed. Otherwise a quoted string that a client
/// leaves open would swallow the element that a proxy adds behind it.
fn host_parameter(element: &[u8]) -> Said<'_> {
    let mut said = Said::Nothing;
    for pair in split(element, b';') {
        if pair.is_empty() {
            continue;
        }
        let Some((name, value)) = split_pair(pair) else {
            return Said::Malformed;
        };
        if name.eq_ignore_ascii_case("host") {
            if said != Said::Nothing {
                return Said::Malformed;
            }
            said = Said::Host(value);
        }
    }
    said
}

/// Splits `token=token` or `token="quoted string"`. Ports and IPv6 addresses are taken without quotes,
/// too, as many proxies are set up to write them.
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
            Said::Nothing => "nothing".into(),
            Said::Malformed => "malformed".into(),
            Said::Host(host) => host.into(),
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
            // Too few: one of the proxies has not written it.
            (2, &["evil"], "nothing"),
            (1, &[], "nothing"),
            (0, &["evil"], "nothing"),
            (usize::MAX, &["evil"], "nothing"),
        ] {
            assert_eq!(behind(number, lines), [expected; 2], "{number}, {lines:?}");
        }
    }

    #[test]
    fn asks_for_each_request_whether_its_peer_is_trusted() {
        for (is_trusted, expected) in [(true, "a"), (false, "nothing")] {
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
            ("for=_x", "nothing"),
            ("host=a;", "a"),
            ("xhost=evil", "nothing"),
        ] {
            let proxies = TrustedProxies::number(1);
            let read = host(Field::Forwarded, proxies, &[line]);
            assert_eq!(read, expected, "line {line:?}");
        }
    }

    #[test]
    fn takes_nothing_out_of_an_element_that_is_malformed() {
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
            // A client's open string in front of what a proxy adds.
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
    fn an_open_string_hides_no_element_of_a_proxy_from_the_count() {
        for line in [
            r#"host=evil, x=", for=_x;host=a, for=_y;host=b"#,
            r#"host=evil, x=", for="[::1]";host=a, for="[::2]";host=b"#,
            r#"host=evil;x=", for=_x;host=a, for=_y;host=b"#,
        ] {
            let read = host(Field::Forwarded, TrustedProxies::number(2), &[line]);
            assert_eq!(read, "malformed", "line {line:?}");
        }
        // What is left of the trusted elements is the client's own affair.
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
    fn an_open_string_ends_with_its_line() {
        let lines = [r#"host=evil;x=""#, "host=a"];
        let proxies = TrustedProxies::number(1);
        assert_eq!(host(Field::Forwarded, proxies, &lines), "a");
    }
}
