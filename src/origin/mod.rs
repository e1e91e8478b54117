//! Origins: which web pages may open a connection.
//!
//! Decides from `Origin` and the request's own authority whether the page that asks is one of
//! ours. Who the user is, and what the user may do, is left to the handler.

mod syntax;
#[cfg(test)]
mod tests;

use std::{error::Error, fmt, net::Ipv6Addr};

use http::{HeaderMap, header::ORIGIN};

use self::syntax::{Host, Origin, Reason, default_port, is_domain, split_authority, split_scheme};
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
