//! Parses the URL of a handshake. Returns the address, the `Host` field and the request target.
//!
//! Source: [RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3),
//! [RFC 6874](https://www.rfc-editor.org/rfc/rfc6874) for zones.

use std::net::Ipv6Addr;

use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery},
};

use super::ConnectError;

/// Parses a URL with a host and a supported scheme.
pub(super) fn parse(url: &str) -> Result<Uri, ConnectError> {
    // RFC 6455 §3 forbids fragments, but `Uri` silently drops them.
    if url.contains('#') {
        return Err(ConnectError::request("the url has a fragment"));
    }
    let begin = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[begin..]
        .find(['/', '?'])
        .map_or(url.len(), |at| begin + at);
    let (origin, target) = url.split_at(end);
    if !origin.is_ascii() {
        return Err(ConnectError::request(
            "the url's host is not ASCII: write it in its xn-- form",
        ));
    }
    // Checked here for a better error: `Uri` only reports an invalid format.
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let _ = requires_tls(scheme)?;
    let target = escape(target)?;
    let uri: Uri = format!("{origin}{target}")
        .parse()
        .map_err(ConnectError::request)?;
    let _ = host_field(&uri)?;
    Ok(uri)
}

/// Returns the host and the port to connect to.
///
/// The host has the form for the system's resolver: an IPv6 address without brackets, with its zone after a `%`.
pub(super) fn address(uri: &Uri) -> Result<(String, u16), ConnectError> {
    let authority = uri.authority().ok_or_else(no_host)?;
    let host = match Literal::of(authority)? {
        Some(Literal {
            address,
            zone: None,
        }) => address.to_string(),
        Some(Literal {
            address,
            zone: Some(zone),
        }) => format!("{address}%{zone}"),
        None => authority.host().to_owned(),
    };
    let port = match authority.port_u16() {
        Some(port) => port,
        None => default_port(uri)?,
    };
    Ok((host, port))
}

/// Returns the `Host` field: the host without a zone (RFC 6874 §4), and the port if it is not the default.
/// Returns `None` for a URI without a host.
pub(super) fn host_field(uri: &Uri) -> Result<Option<HeaderValue>, ConnectError> {
    let Some(authority) = uri.authority() else {
        return Ok(None);
    };
    if authority.as_str().contains('@') {
        return Err(ConnectError::request("the url names a user"));
    }
    let host = authority.host();
    if host.is_empty() {
        return Err(no_host());
    }
    let host = match Literal::of(authority)? {
        Some(Literal {
            address,
            zone: Some(_),
        }) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    let field = match port(authority)? {
        Some(port) if uri.scheme().is_none() || port != default_port(uri)? => {
            format!("{host}:{port}")
        }
        _ => host,
    };
    HeaderValue::try_from(field)
        .map(Some)
        .map_err(ConnectError::request)
}

/// Returns the request target: the path and the query, or `/`.
pub(super) fn target(uri: &Uri) -> Result<Uri, ConnectError> {
    let Some(target) = uri.path_and_query() else {
        return Ok(Uri::from_static("/"));
    };
    // `Uri` has already added the `/` to `ws://host?q`.
    let escaped = escape(target.as_str())?;
    let target = PathAndQuery::try_from(escaped).map_err(ConnectError::request)?;
    Ok(Uri::from(target))
}

pub(super) fn no_host() -> ConnectError {
    ConnectError::request("there is no host")
}

/// Percent-encodes the characters that RFC 3986 does not allow in a path or query, as UTF-8.
///
/// A `%` is not encoded, because the input may already be encoded. Control characters are refused, because they
/// are always a mistake.
fn escape(target: &str) -> Result<String, ConnectError> {
    let mut escaped = String::with_capacity(target.len());
    let mut part = "path";
    for character in target.chars() {
        if character.is_control() {
            return Err(ConnectError::request(format!(
                "the url's {part} has a control character, {}",
                character.escape_unicode()
            )));
        }
        if character == '?' {
            part = "query";
        }
        if is_allowed(character) {
            escaped.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    Ok(escaped)
}

/// Returns whether a character is allowed in a path or a query (RFC 3986 §3.3 and §3.4).
fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?%".contains(character)
}

/// An IPv6 address in brackets.
struct Literal {
    address: Ipv6Addr,
    /// The interface, by name or number, over which a link-local address is reached.
    zone: Option<String>,
}

impl Literal {
    /// Parses a host in brackets. Returns `None` for a host without brackets.
    fn of(authority: &Authority) -> Result<Option<Self>, ConnectError> {
        let Some(literal) = authority.host().strip_prefix('[') else {
            return Ok(None);
        };
        let literal = literal.strip_suffix(']').unwrap_or(literal);
        let (address, zone) = match literal.split_once('%') {
            Some((address, zone)) => (address, Some(parse_zone(zone)?)),
            None => (literal, None),
        };
        let address = address
            .parse()
            .map_err(|_| ConnectError::request("the url's host is not an IPv6 address"))?;
        Ok(Some(Self { address, zone }))
    }
}

/// Parses the text after the `%`: `eth0`, or `25eth0`, where the `%` is escaped (RFC 6874 §2).
fn parse_zone(zone: &str) -> Result<String, ConnectError> {
    // `%25` alone is the zone with the number 25.
    let name = match zone.strip_prefix("25") {
        Some(escaped) if !escaped.is_empty() => unescape(escaped),
        _ => Some(zone.to_owned()),
    };
    let is_name =
        |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    name.filter(is_name)
        .ok_or_else(|| ConnectError::request("the zone of the url's host is invalid"))
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Returns whether a URL requires TLS. `http` and `https` mean the same as `ws` and `wss` (RFC 6455 §3).
pub(super) fn is_encrypted(uri: &Uri) -> Result<bool, ConnectError> {
    requires_tls(uri.scheme_str().unwrap_or_default())
}

fn requires_tls(scheme: &str) -> Result<bool, ConnectError> {
    let is_one_of = |names: [&str; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if is_one_of(["ws", "http"]) {
        Ok(false)
    } else if is_one_of(["wss", "https"]) {
        Ok(true)
    } else {
        Err(ConnectError::request(
            "the url does not begin with ws://, wss://, http:// or https://",
        ))
    }
}

fn default_port(uri: &Uri) -> Result<u16, ConnectError> {
    Ok(if is_encrypted(uri)? { 443 } else { 80 })
}

/// Returns the port of a URL, if it has one.
fn port(authority: &Authority) -> Result<Option<u16>, ConnectError> {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("" | ":") => Ok(None),
        _ => match authority.port_u16() {
            Some(port) if port != 0 => Ok(Some(port)),
            _ => Err(ConnectError::request("the url's port is invalid")),
        },
    }
}
