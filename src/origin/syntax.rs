//! How origins and authorities are written, and when two of them are the same.

use std::net::Ipv6Addr;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reason {
    Scheme,
    Host,
    Port,
    Wildcard,
}

/// An `Origin` field, its port filled in where the scheme has a default.
pub(super) struct Origin<'a> {
    pub(super) scheme: &'a str,
    pub(super) host: Host<'a>,
    pub(super) port: Option<u16>,
}

impl<'a> Origin<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Reason> {
        let (scheme, authority) = split_scheme(text)?;
        let (host, port) = split_authority(authority)?;
        Ok(Self {
            scheme,
            host,
            port: port.or(default_port(scheme)),
        })
    }

    /// Tells whether this is an origin of the server that `authority` names.
    pub(super) fn is_at(&self, authority: &str) -> bool {
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

pub(super) enum Host<'a> {
    Name(&'a str),
    V6(Ipv6Addr),
}

impl Host<'_> {
    pub(super) fn is(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Self::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
            (Self::V6(one), Host::V6(two)) => one == two,
            _ => false,
        }
    }
}

pub(super) fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

pub(super) fn split_scheme(text: &str) -> Result<(&str, &str), Reason> {
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

pub(super) fn split_authority(authority: &str) -> Result<(Host<'_>, Option<u16>), Reason> {
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
pub(super) fn is_name(name: &str) -> bool {
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
pub(super) fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // A last label of digits is the end of an IPv4 address: what precedes it is no subdomain.
    name.rsplit_once('.')
        .is_some_and(|(_, last)| !last.bytes().all(|byte| byte.is_ascii_digit()))
}
