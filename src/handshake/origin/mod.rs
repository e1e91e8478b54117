//! Origins: which web pages may open a connection.
//!
//! Decides from `Origin` and the host that the client has asked for whether the page that asks is one
//! of ours. Who the user is, and what the user may do, is left to the handler.

mod allowed;
mod forwarded;
mod syntax;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_lists;

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use http::{HeaderValue, header::ORIGIN, request::Parts};

pub use self::forwarded::TrustedProxies;
use self::{
    allowed::{Allowed, Hosts},
    forwarded::{Field, Forwarding, Said},
    syntax::{Origin, Reason, Site},
};
use crate::words::header::single;

/// Decides which web pages may open a WebSocket.
///
/// Browsers let any page connect to any server and send the server's cookies along; the `Origin`
/// field is the only thing that tells our own pages from others. A request
///
/// - without `Origin` is allowed: it does not come from a browser, and other clients can send any
///   origin,
/// - with the origin of the server itself is allowed: host and port are those of the request's `Host`
///   (`:authority` in HTTP/2), and the scheme is `http` or `https`, or that of a WebSocket, which some
///   clients on iOS send,
/// - with an origin that was added is allowed: by [`allow`](Self::allow),
///   [`allow_loopback`](Self::allow_loopback) or [`allow_if`](Self::allow_if),
/// - with anything else is refused with 403: other origins, `null`, and two `Origin` lines.
///
/// The refusal names origin and host in its text, and in the log at info level, once a minute for each
/// origin.
///
/// # How origins are compared
///
/// Hosts and schemes are compared without case, IPv6 literals as addresses. A missing port is the
/// default of the origin's scheme, 80 for `http` and 443 for `https`; this holds for `Host` too,
/// so that it does not matter whether TLS ends here or in a proxy. A path behind an origin, which some
/// clients that are no browsers send, is left out.
///
/// A trailing dot makes another host, as it does in browsers: `example.com.` is not `example.com`.
///
/// # Proxies
///
/// A proxy that rewrites `Host` makes the server's own pages look foreign. Have it pass `Host` on
/// (nginx: `proxy_set_header Host $http_host;`). Where that is not possible, have it send the host in
/// a field of its own, and name the proxies whose word counts by
/// [`x_forwarded_host`](Self::x_forwarded_host) or [`forwarded`](Self::forwarded). Or add the public
/// origin with [`allow`](Self::allow).
///
/// # DNS rebinding
///
/// The owner of a domain can let its name resolve to the address of *your* server, such as one on
/// `127.0.0.1` or in an office's network. For a browser there the attacker's page then is of the same
/// host: `Host` and `Origin` agree. It sends none of your cookies, since these belong to another name,
/// but it passes this policy. A server that needs no cookie to trust its clients names its hosts by
/// [`hosts`](Self::hosts).
///
/// # Examples
///
/// ```
/// use tower_websocket::OriginPolicy;
///
/// // Pages of the same host, if that is one of two names; those of a front end on another one; a
/// // desktop application; a browser extension, whose host differs with each installation.
/// let policy = OriginPolicy::same_host()
///     .hosts(["example.com", "*.example.com"])?
///     .allow("https://app.example.org")?
///     .allow("tauri://localhost")?
///     .allow("moz-extension://*")?;
/// # let _ = policy;
/// # Ok::<(), tower_websocket::InvalidOrigin>(())
/// ```
///
/// Source: [RFC 6455 §10.2](https://www.rfc-editor.org/rfc/rfc6455#section-10.2), with origins
/// written as in [RFC 6454 §6.2](https://www.rfc-editor.org/rfc/rfc6454#section-6.2).
#[derive(Clone)]
pub struct OriginPolicy {
    any: bool,
    null: bool,
    loopback: bool,
    allowed: Vec<Allowed>,
    function: Option<Arc<Function>>,
    hosts: Option<Vec<Hosts>>,
    forwarding: Option<Forwarding>,
}

type Function = dyn Fn(&str, &Parts) -> bool + Send + Sync;

/// Why a page may not connect.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Denied {
    /// All lines of the field, joined by commas.
    pub(crate) origin: HeaderValue,
    /// The host that the origin was compared with.
    pub(crate) host: Box<str>,
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
            null: false,
            loopback: false,
            allowed: Vec::new(),
            function: None,
            hosts: None,
            forwarding: None,
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
        let mut policy = Self::same_host();
        policy.any = true;
        policy
    }

    /// Allows pages whose origin is `null`, and so the pages of any site.
    ///
    /// Browsers send `null` for pages without an origin of their own: a file that was opened from a
    /// disk, and every frame with `sandbox`. Any site can have such a frame, so this is as open as
    /// [`insecure_any`](Self::insecure_any).
    #[must_use]
    pub const fn insecure_null(mut self) -> Self {
        self.null = true;
        self
    }

    /// Allows the pages of one more origin, of all hosts below a domain, or of a whole scheme.
    ///
    /// | `origin` | Allows |
    /// | --- | --- |
    /// | `https://example.com` | this origin |
    /// | `https://*.example.com` | hosts below this domain, any number of labels, and not the domain itself |
    /// | `file://`, `moz-extension://*` | all origins of this scheme |
    ///
    /// It is written as browsers send it: `scheme://host` or `scheme://host:port`, without
    /// a path and without a trailing slash, names outside ASCII in their `xn--` form. The scheme
    /// can be any, such as `tauri` or `chrome-extension`. Only those of the web, `http`, `https`, `ws`
    /// and `wss`, have a default port; any other scheme matches the port as written.
    ///
    /// `https://*.example.com` allows `https://a.example.com` and `https://a.b.example.com`, but neither
    /// `https://example.com` nor `https://badexample.com`; scheme and port have to match as for an exact
    /// origin. At least two labels follow the `*`. Whether strangers can register names below them, as
    /// with `https://*.co.uk` or `https://*.github.io`, is not checked.
    ///
    /// A whole scheme is for applications: `file://` is what ESP8266 boards, Cordova and Electron send,
    /// and the hosts of `moz-extension` and `vscode-webview` are random. The schemes of the web cannot be
    /// listed whole.
    ///
    /// On [`insecure_any`](Self::insecure_any) this changes nothing: any origin stays allowed.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if `origin` is not of this form. `null` is not: it has a method of its own,
    /// [`insecure_null`](Self::insecure_null).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::OriginPolicy;
    ///
    /// let policy = OriginPolicy::same_host()
    ///     .allow("http://localhost:5173")?
    ///     .allow("https://*.example.com")?
    ///     .allow("vscode-webview://*")?;
    ///
    /// // A page's address is not an origin, and a whole top-level domain is not one owner's.
    /// assert!(policy.clone().allow("https://example.com/chat").is_err());
    /// assert!(policy.clone().allow("https://*.com").is_err());
    /// # Ok::<(), tower_websocket::InvalidOrigin>(())
    /// ```
    pub fn allow(mut self, origin: &str) -> Result<Self, InvalidOrigin> {
        let allowed = Allowed::parse(origin);
        let allowed = allowed.map_err(|reason| InvalidOrigin::new("origin", origin, reason))?;
        self.allowed.push(allowed);
        Ok(self)
    }

    /// Allows the pages of this very machine on any port, for development: `http` and `https` on
    /// `localhost`, names below it, `127.0.0.0/8` and `[::1]`.
    ///
    /// A front end's development server is one of them, and moves on to the next port if its own is
    /// taken. Leave it off in production, by `cfg!(debug_assertions)` or a setting: programs on a user's
    /// machine are not all the user's friends.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::OriginPolicy;
    ///
    /// let mut policy = OriginPolicy::same_host();
    /// if cfg!(debug_assertions) {
    ///     policy = policy.allow_loopback();
    /// }
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub const fn allow_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Allows the origins for which `is_allowed` returns `true`; a second call replaces the first one's
    /// function.
    ///
    /// It sees the field as it was sent, which need not be an origin, and the request. It is asked last,
    /// when nothing else allows the page, and not if there are two `Origin` lines or one that is not
    /// visible ASCII. A panic in it is answered 500. What takes time, such as a database, belongs into
    /// [`Handler::accept`](crate::Handler::accept) on top of [`insecure_any`](Self::insecure_any).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{collections::HashSet, sync::{Arc, RwLock}};
    /// use tower_websocket::OriginPolicy;
    ///
    /// let customers: Arc<RwLock<HashSet<String>>> = Arc::default();
    /// let policy = OriginPolicy::same_host().allow_if(move |origin, _request| {
    ///     customers.read().is_ok_and(|customers| customers.contains(origin))
    /// });
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn allow_if(
        mut self,
        is_allowed: impl Fn(&str, &Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.function = Some(Arc::new(is_allowed));
        self
    }

    /// Names the hosts of this server: pages of the same host are allowed only if it is one of these. It
    /// is the protection against [DNS rebinding](#dns-rebinding).
    ///
    /// A host is a name or an address, IPv6 in brackets. With a port it is that port alone, without one
    /// any. `*.example.com` stands for the hosts below a domain, as in [`allow`](Self::allow). Another
    /// call adds more. Default: `Host` is believed.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if one of them is not a host.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::OriginPolicy;
    ///
    /// let policy = OriginPolicy::same_host().hosts(["localhost", "127.0.0.1", "[::1]"])?;
    /// # let _ = policy;
    /// # Ok::<(), tower_websocket::InvalidOrigin>(())
    /// ```
    pub fn hosts<T: AsRef<str>>(
        mut self,
        hosts: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidOrigin> {
        let pinned = self.hosts.get_or_insert_default();
        for host in hosts {
            let host = host.as_ref();
            let parsed = Hosts::parse(host);
            pinned.push(parsed.map_err(|reason| InvalidOrigin::new("host", host, reason))?);
        }
        Ok(self)
    }

    /// Takes the host that a client has asked for from `X-Forwarded-Host`, where `proxies` have written
    /// it, in the place of `Host`.
    ///
    /// The field has to have the port as well, unless it is the default one (nginx: `$http_host`). Of
    /// this and [`forwarded`](Self::forwarded) the last call counts: name the field that your proxies
    /// write, because they pass the other one on as the client has sent it. Default: `Host` counts.
    #[must_use]
    pub fn x_forwarded_host(mut self, proxies: TrustedProxies) -> Self {
        let field = Field::XForwardedHost;
        self.forwarding = Some(Forwarding { field, proxies });
        self
    }

    /// Takes the host that a client has asked for from the `host` of `Forwarded`, where `proxies` have
    /// written it, in the place of `Host`.
    ///
    /// If one of the elements that `proxies` have written is malformed, no page is of the same host. Of this
    /// and [`x_forwarded_host`](Self::x_forwarded_host) the last call counts. Default: `Host` counts.
    ///
    /// Source: [RFC 7239 §5.3](https://www.rfc-editor.org/rfc/rfc7239#section-5.3).
    #[must_use]
    pub fn forwarded(mut self, proxies: TrustedProxies) -> Self {
        let field = Field::Forwarded;
        self.forwarding = Some(Forwarding { field, proxies });
        self
    }

    /// Checks whether a request may become a WebSocket.
    ///
    /// `authority` is the host the request was sent to, with its port if it has one: the value
    /// of `Host` or `:authority`. If it is malformed, no origin is the server's own.
    pub(crate) fn check(&self, request: &Parts, authority: &str) -> Result<(), Denied> {
        if self.any {
            return Ok(());
        }
        let field = match single(&request.headers, &ORIGIN) {
            Ok(Some(field)) => field,
            Ok(None) => return Ok(()),
            Err(_) => return Err(Self::denied(request, authority)),
        };
        let host = match self
            .forwarding
            .as_ref()
            .map(|forwarding| forwarding.host(request))
        {
            None | Some(Said::Nothing) => Cow::Borrowed(authority),
            Some(Said::Host(host)) => host,
            // No host is equal to this one.
            Some(Said::Malformed) => Cow::Borrowed(""),
        };
        let is_allowed = field
            .to_str()
            .is_ok_and(|origin| self.allows(origin, request, &host));
        match is_allowed {
            true => Ok(()),
            false => Err(Self::denied(request, &host)),
        }
    }

    fn allows(&self, text: &str, request: &Parts, host: &str) -> bool {
        self.lists(text, host)
            || self
                .function
                .as_ref()
                .is_some_and(|is_allowed| is_allowed(text, request))
    }

    fn lists(&self, text: &str, host: &str) -> bool {
        if text == "null" {
            return self.null;
        }
        let Ok(origin) = Origin::parse(text) else {
            return false;
        };
        let is_own = |host: &Site<'_>| {
            let pinned = self.hosts.as_ref();
            origin.is_at(host)
                && pinned.is_none_or(|hosts| hosts.iter().any(|one| one.pins(&origin)))
        };
        Site::of_authority(host).as_ref().is_some_and(is_own)
            || (self.loopback && origin.is_loopback())
            || self.allowed.iter().any(|allowed| allowed.matches(&origin))
    }

    fn denied(request: &Parts, host: &str) -> Denied {
        let lines: Vec<_> = request.headers.get_all(ORIGIN).iter().collect();
        let origin = match lines.as_slice() {
            [line] => (*line).clone(),
            lines => {
                let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
                HeaderValue::from_bytes(&lines.join(&b", "[..])).unwrap_or(EMPTY)
            }
        };
        Denied {
            origin,
            host: host.into(),
        }
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

impl fmt::Debug for OriginPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginPolicy")
            .field("any", &self.any)
            .field("null", &self.null)
            .field("loopback", &self.loopback)
            .field("allowed", &self.allowed)
            .field("function", &self.function.is_some())
            .field("hosts", &self.hosts)
            .field("forwarding", &self.forwarding)
            .finish()
    }
}

impl Default for OriginPolicy {
    /// Returns [`OriginPolicy::same_host`].
    fn default() -> Self {
        Self::same_host()
    }
}

/// Why an origin or a host cannot be added to an [`OriginPolicy`].
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
    /// What was to be added.
    kind: &'static str,
    text: Box<str>,
    reason: Reason,
}

impl InvalidOrigin {
    fn new(kind: &'static str, text: &str, reason: Reason) -> Self {
        let text = text.into();
        Self { kind, text, reason }
    }
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Scheme => "it does not start with a scheme and `://`",
            Reason::Null => "it is what a frame of any site can send; see `insecure_null`",
            Reason::Host if self.kind == "host" => {
                "it is not a host name or address, with nothing but a port after it"
            }
            Reason::Host => {
                "what follows `://` is not a host name or address, with nothing but a port after it"
            }
            Reason::HasScheme => "a host is written without a scheme",
            Reason::HasPath => {
                "it ends with the host or its port, without a slash or a path behind it"
            }
            Reason::Port => "its port is not a number up to 65535",
            Reason::AnyPort => "`:*` is no port; for development see `allow_loopback`",
            Reason::Wildcard => {
                "a `*` has to be the whole first label, two or more names after it, or the whole host \
                 of a scheme that is not one of the web"
            }
        };
        write!(f, "invalid {} {:?}: {reason}", self.kind, self.text)
    }
}

impl Error for InvalidOrigin {}
