//! The syntax of origins and authorities, and their comparison.

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

/// An `Origin` field. A missing port is the default port of the scheme, if there is one.
///
/// Some libraries send the address of a page or of the server. The part after the authority is ignored.
pub(super) struct Origin<'a> {
    pub(super) scheme: &'a str,
    /// `None` if there is no valid host after `://`, as in `file://`.
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

    /// Returns whether this is an origin of the server with this authority.
    pub(super) fn is_at(&self, authority: &Site<'_>) -> bool {
        // The host of an application's scheme, such as `tauri://`, is not a server. `ws` and `wss` are
        // accepted: clients on iOS send the address that they connect to, and no page has such an origin.
        let (Some(default), Some(site)) = (default_port(self.scheme), &self.site) else {
            return false;
        };
        site.host.is(&authority.host) && site.port == Some(authority.port.unwrap_or(default))
    }

    /// Returns whether this is a page of the local machine, on any port.
    pub(super) fn is_loopback(&self) -> bool {
        let is_web = ["http", "https"]
            .iter()
            .any(|web| self.scheme.eq_ignore_ascii_case(web));
        let site = self.site.as_ref().filter(|_| is_web);
        site.is_some_and(|site| site.host.is_loopback())
    }
}

impl<'a> Site<'a> {
    /// Reads the value of `Host`, or the host in a proxy's field.
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
                // RFC 6761 §6.3: names below `localhost` are loopback as well.
                let label = name.rsplit('.').next().unwrap_or(name);
                let is_v4 = |name: &str| name.parse().is_ok_and(|one: Ipv4Addr| one.is_loopback());
                label.eq_ignore_ascii_case("localhost") || is_v4(name)
            }
        }
    }
}

/// Returns the default port of a scheme of the web, or `None` for another scheme.
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
    // Checked first, because `parse` also accepts a `+`.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::Port);
    }
    let port = digits.parse().map_err(|_| Reason::Port)?;
    Ok((host, Some(port)))
}

/// Returns whether `name` is a host name or an IPv4 address, as browsers write them. A URI allows more.
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

/// Returns whether `name` has two or more labels and is not an IPv4 address: it may be a domain with
/// hosts below it.
pub(super) fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // If the last label has only digits, this is an IPv4 address, which has no subdomains.
    name.rsplit_once('.')
        .is_some_and(|(_, last)| !last.bytes().all(|byte| byte.is_ascii_digit()))
}
