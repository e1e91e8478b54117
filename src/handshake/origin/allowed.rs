//! The entries of the lists: origins, schemes and hosts.

use std::net::Ipv6Addr;

use super::syntax::{Host, Origin, Reason, default_port, is_domain, split_authority, split_scheme};

/// One entry of the list of origins.
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

/// A host, or all hosts below a domain, with a port if one was named.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
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

    /// Returns whether an origin has one of these hosts; its port matters if one was named here.
    pub(super) fn pins(&self, origin: &Origin<'_>) -> bool {
        let site = origin.site.as_ref();
        site.is_some_and(|site| {
            self.includes(&site.host) && (self.port.is_none() || self.port == site.port)
        })
    }

    fn includes(&self, host: &Host<'_>) -> bool {
        match (&self.host, host) {
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
