//! How origins and authorities are written, and when two of them are the same.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reason {
    Scheme,
    Null,
    Host,
    HasScheme,
    HasPath,
    Port,
    AnyPort,
    Wildcard,
}

/// An `Origin` field, its port filled in where the scheme has a default.
///
/// Some libraries that are not browsers send the address of a page or of the server: what follows the
/// authority is left out.
pub(super) struct Origin<'a> {
    pub(super) scheme: &'a str,
    /// `None` if what follows `://` is no host, as in `file://`.
    pub(super) site: Option<Site<'a>>,
}

/// A host and its port.
pub(super) struct Site<'a> {
    pub(super) host: Host<'a>,
    pub(super) port: Option<u16>,
}

impl<'a> Origin<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Reason> {
        let (scheme, rest) = split_scheme(text)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let site = split_authority(&rest[..end]).map(|(host, port)| Site {
            host,
            port: port.or(default_port(scheme)),
        });
        Ok(Self {
            scheme,
            site: site.ok(),
        })
    }

    /// Returns whether this is an origin of the server that `authority` names.
    pub(super) fn is_at(&self, authority: &Site<'_>) -> bool {
        // An application's own scheme, such as `tauri://`, does not name a server's host. That of a
        // WebSocket does: clients on iOS send the address that they connect to, which no page has.
        let (Some(default), Some(site)) = (default_port(self.scheme), &self.site) else {
            return false;
        };
        site.host.is(&authority.host) && site.port == Some(authority.port.unwrap_or(default))
    }

    /// Returns whether this is a page of this very machine, whatever its port.
    pub(super) fn is_loopback(&self) -> bool {
        let is_web = ["http", "https"]
            .iter()
            .any(|web| self.scheme.eq_ignore_ascii_case(web));
        let site = self.site.as_ref().filter(|_| is_web);
        site.is_some_and(|site| site.host.is_loopback())
    }
}

impl<'a> Site<'a> {
    /// Reads the value of `Host`, or of a field that speaks of it.
    pub(super) fn of_authority(authority: &'a str) -> Option<Self> {
        // An empty port is the default one (RFC 3986 §3.2.3).
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        let (host, port) = split_authority(authority).ok()?;
        Some(Self { host, port })
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

    fn is_loopback(&self) -> bool {
        match self {
            Self::V6(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                // RFC 6761 §6.3: names below it are this machine's as well.
                let label = name.rsplit('.').next().unwrap_or(name);
                let is_v4 = |name: &str| name.parse().is_ok_and(|one: Ipv4Addr| one.is_loopback());
                label.eq_ignore_ascii_case("localhost") || is_v4(name)
            }
        }
    }
}

/// Returns the port of a scheme by which servers of the web are addressed.
pub(super) fn default_port(scheme: &str) -> Option<u16> {
    let is = |other: &str| scheme.eq_ignore_ascii_case(other);
    if is("http") || is("ws") {
        Some(80)
    } else if is("https") || is("wss") {
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

/// Returns whether `name` is a host name or an IPv4 address as browsers write them, which is
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

/// Returns whether `name` can have hosts below it that belong to one owner.
pub(super) fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // A last label of digits is the end of an IPv4 address: what precedes it is no subdomain.
    name.rsplit_once('.')
        .is_some_and(|(_, last)| !last.bytes().all(|byte| byte.is_ascii_digit()))
}
