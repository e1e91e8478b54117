//! The entries of an origin policy: origins, schemes and hosts.

use std::net::Ipv6Addr;

use super::syntax::{Host, Origin, Reason, default_port, is_domain, split_authority, split_scheme};

/// An allowed origin, or an allowed scheme.
#[derive(Clone, Debug)]
pub(super) enum Allowed {
    /// Every origin of this scheme.
    Scheme(Box<str>),
    Site {
        scheme: Box<str>,
        site: Hosts,
    },
}

impl Allowed {
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        if text.eq_ignore_ascii_case("null") {
            return Err(Reason::Null);
        }
        let (scheme, authority) = split_scheme(text)?;
        match (authority, default_port(scheme)) {
            ("" | "*", None) => Ok(Self::Scheme(scheme.into())),
            (_, port) => {
                let mut site = Hosts::parse(authority)?;
                site.port = site.port.or(port);
                let scheme = scheme.into();
                Ok(Self::Site { scheme, site })
            }
        }
    }

    pub(super) fn matches(&self, origin: &Origin<'_>) -> bool {
        let (Self::Scheme(scheme) | Self::Site { scheme, .. }) = self;
        scheme.eq_ignore_ascii_case(origin.scheme)
            && match (self, &origin.site) {
                (Self::Scheme(_), _) => true,
                (Self::Site { site, .. }, Some(other)) => {
                    site.port == other.port && site.includes(&other.host)
                }
                (Self::Site { .. }, None) => false,
            }
    }
}

/// A host, or all hosts below a domain, with an optional port.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    host: AllowedHost,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum AllowedHost {
    Name(Box<str>),
    /// The hosts with a label before this suffix. The suffix starts with a dot.
    Below(Box<str>),
    V6(Ipv6Addr),
}

impl Hosts {
    pub(super) fn parse(authority: &str) -> Result<Self, Reason> {
        let domain = authority.strip_prefix("*.");
        let authority = domain.unwrap_or(authority);
        if authority.contains("://") {
            return Err(Reason::HasScheme);
        }
        if authority.contains(['/', '?', '#']) {
            return Err(Reason::HasPath);
        }
        if authority.ends_with(":*") {
            return Err(Reason::AnyPort);
        }
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
        Ok(Self { host, port })
    }

    /// Returns whether the host of an origin is one of these. The port has to match if there is one here.
    pub(super) fn contains(&self, origin: &Origin<'_>) -> bool {
        let site = origin.site.as_ref();
        site.is_some_and(|site| {
            self.includes(&site.host) && (self.port.is_none() || self.port == site.port)
        })
    }

    fn includes(&self, host: &Host<'_>) -> bool {
        match (&self.host, host) {
            (AllowedHost::Name(name), Host::Name(other)) => name.eq_ignore_ascii_case(other),
            // A parsed name has no empty labels. So one or more whole labels come before the suffix.
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
