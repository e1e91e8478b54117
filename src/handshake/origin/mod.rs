//! Origins: decides which web pages may open a connection.
//!
//! The decision compares `Origin` with the host of the request. The handler authenticates the user.

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
    forwarded::{Field, ForwardedHost, Forwarding},
    syntax::{Origin, Reason, Site},
};
use crate::words::header::single;

/// Decides which web pages may open a WebSocket.
///
/// Browsers let any page connect to any server, and send the server's cookies with the request. Only the
/// `Origin` field distinguishes the server's own pages from others. A request
///
/// - without `Origin` is allowed: it does not come from a browser, and other clients can send any origin,
/// - with the server's own origin is allowed: host and port are those of `Host` (`:authority` in HTTP/2),
///   and the scheme is `http` or `https`, or `ws` or `wss`, which some clients on iOS send,
/// - with an added origin is allowed: [`allow`](Self::allow), [`allow_loopback`](Self::allow_loopback) and
///   [`allow_if`](Self::allow_if) add origins,
/// - with anything else is refused with 403: another origin, `null`, or two `Origin` lines.
///
/// The text of the refusal names origin and host. The log names them at info level, once a minute for each
/// origin.
///
/// # How origins are compared
///
/// Hosts and schemes are compared without case, IPv6 literals as addresses. A missing port is the default
/// port of the origin's scheme: 80 for `http`, 443 for `https`. This holds for `Host` too, so it does not
/// matter whether TLS ends here or in a proxy. Some clients that are not browsers send a path after the
/// origin. It is ignored.
///
/// A trailing dot makes a different host, as in browsers: `example.com.` is not `example.com`.
///
/// # Proxies
///
/// If a proxy rewrites `Host`, the server's own pages are refused. Configure the proxy to pass `Host` on
/// (nginx: `proxy_set_header Host $http_host;`). If that is not possible, let the proxy send the host in
/// another field, and trust it with [`x_forwarded_host`](Self::x_forwarded_host) or
/// [`forwarded`](Self::forwarded). Or add the public origin with [`allow`](Self::allow).
///
/// # DNS rebinding
///
/// The owner of a domain can let its name resolve to the address of *your* server, for example to
/// `127.0.0.1` or to an address in an office network. In a browser there, `Host` and `Origin` of the
/// attacker's page agree, so the page passes this policy. The browser does not send your cookies, because
/// they belong to another name. If your server trusts clients without a cookie, name its hosts with
/// [`hosts`](Self::hosts).
///
/// # Examples
///
/// ```
/// use tower_websocket::OriginPolicy;
///
/// // Allows pages of the same host, if the host is `example.com` or below it; a front end on another
/// // host; a desktop application; and a browser extension, whose host differs in each installation.
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

/// The reason why a page may not connect.
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

    /// Allows every page on the web. This removes the protection against cross-site WebSocket hijacking.
    ///
    /// Every site that a user visits can then connect with the user's cookies, send messages in the user's
    /// name, and read the answers (RFC 6455 §10.2). This is safe only if a connection does not depend on the
    /// identity or the location of the client: no cookies, no HTTP or client-certificate authentication, and
    /// a server that everyone can reach, not only a local network.
    ///
    /// `Origin` is ignored: `null`, repeated and malformed values pass as well.
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

    /// Allows pages whose origin is `null`. This lets the pages of every site connect.
    ///
    /// Browsers send `null` for pages without an origin: a file opened from disk, and every frame with
    /// `sandbox`. Every site can contain such a frame, so this is as open as
    /// [`insecure_any`](Self::insecure_any).
    #[must_use]
    pub const fn insecure_null(mut self) -> Self {
        self.null = true;
        self
    }

    /// Allows the pages of an origin, of all hosts below a domain, or of a whole scheme.
    ///
    /// | `origin` | Allows |
    /// | --- | --- |
    /// | `https://example.com` | this origin |
    /// | `https://*.example.com` | hosts below this domain with any number of labels, but not the domain itself |
    /// | `file://`, `moz-extension://*` | all origins of this scheme |
    ///
    /// Write an origin as browsers send it: `scheme://host` or `scheme://host:port`, without a path and
    /// without a trailing slash. Names outside ASCII are in their `xn--` form. Every scheme is allowed, such
    /// as `tauri` or `chrome-extension`. Only the schemes of the web, `http`, `https`, `ws` and `wss`, have a
    /// default port. With any other scheme the port must match as written.
    ///
    /// `https://*.example.com` allows `https://a.example.com` and `https://a.b.example.com`, but neither
    /// `https://example.com` nor `https://badexample.com`. Scheme and port have to match as for an exact
    /// origin. At least two labels must follow the `*`. The crate does not check whether strangers can
    /// register names below them, as with `https://*.co.uk` or `https://*.github.io`.
    ///
    /// A whole scheme is for applications: ESP8266 boards, Cordova and Electron send `file://`, and the hosts
    /// of `moz-extension` and `vscode-webview` are random. The schemes of the web cannot be allowed as a
    /// whole.
    ///
    /// With [`insecure_any`](Self::insecure_any) this has no effect: every origin is allowed already.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if `origin` does not have this form. `null` is not accepted: use
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
    /// // The address of a page is not an origin, and a top-level domain has many owners.
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

    /// Allows the pages of the local machine on any port, for development: `http` and `https` on
    /// `localhost`, names below it, `127.0.0.0/8` and `[::1]`.
    ///
    /// The development server of a front end is such a page. Any port is allowed because that server takes
    /// the next port if its own is in use. Do not allow loopback in production, because programs on a user's
    /// machine may be hostile: use `cfg!(debug_assertions)` or a setting.
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

    /// Allows the origins for which `is_allowed` returns `true`. Another call replaces the function.
    ///
    /// The function receives the field as sent, which may not be a valid origin, and the request. It is
    /// called last, if nothing else allows the page. It is not called if there are two `Origin` lines, or if
    /// the line is not visible ASCII. A panic in it is answered 500. Use
    /// [`Handler::accept`](crate::Handler::accept) with [`insecure_any`](Self::insecure_any) for a check that
    /// takes time, such as a database query.
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

    /// Names the hosts of this server: pages of the same host are allowed only if it is one of these. This
    /// protects against [DNS rebinding](#dns-rebinding).
    ///
    /// A host is a name or an address, with IPv6 in brackets. A host with a port matches that port only, a
    /// host without one matches every port. `*.example.com` stands for the hosts below a domain, as in
    /// [`allow`](Self::allow). Another call adds more hosts. Default: `Host` is trusted.
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
        let own = self.hosts.get_or_insert_default();
        for host in hosts {
            let host = host.as_ref();
            let parsed = Hosts::parse(host);
            own.push(parsed.map_err(|reason| InvalidOrigin::new("host", host, reason))?);
        }
        Ok(self)
    }

    /// Uses the host in `X-Forwarded-Host` instead of `Host`, if `proxies` have written it.
    ///
    /// The field must include the port, unless it is the default port (nginx: `$http_host`). This and
    /// [`forwarded`](Self::forwarded) replace each other, the last call counts: use the field that your
    /// proxies write, because they pass the other field on as the client sent it. Default: `Host`.
    #[must_use]
    pub fn x_forwarded_host(mut self, proxies: TrustedProxies) -> Self {
        let field = Field::XForwardedHost;
        self.forwarding = Some(Forwarding { field, proxies });
        self
    }

    /// Uses the `host` of `Forwarded` instead of `Host`, if `proxies` have written it.
    ///
    /// If an element that `proxies` wrote is malformed, no page counts as a page of the same host. This and
    /// [`x_forwarded_host`](Self::x_forwarded_host) replace each other, the last call counts. Default:
    /// `Host`.
    ///
    /// Source: [RFC 7239 §5.3](https://www.rfc-editor.org/rfc/rfc7239#section-5.3).
    #[must_use]
    pub fn forwarded(mut self, proxies: TrustedProxies) -> Self {
        let field = Field::Forwarded;
        self.forwarding = Some(Forwarding { field, proxies });
        self
    }

    /// Checks whether the policy allows a request.
    ///
    /// `authority` is the value of `Host` or `:authority`: a host, with a port if there is one. If it is
    /// malformed, no page counts as the server's own.
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
            None | Some(ForwardedHost::Missing) => Cow::Borrowed(authority),
            Some(ForwardedHost::Host(host)) => host,
            // No host equals the empty one.
            Some(ForwardedHost::Malformed) => Cow::Borrowed(""),
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
            let own = self.hosts.as_ref();
            origin.is_at(host)
                && own.is_none_or(|hosts| hosts.iter().any(|one| one.contains(&origin)))
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

/// The reason why an origin or a host cannot be added to an [`OriginPolicy`].
///
/// The message quotes the text and names the wrong part.
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
    /// "origin" or "host".
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
            Reason::Null => "a frame of any site can send it; see `insecure_null`",
            Reason::Host if self.kind == "host" => {
                "it is not a host name or address, with nothing but a port after it"
            }
            Reason::Host => {
                "what follows `://` is not a host name or address, with nothing but a port after it"
            }
            Reason::HasScheme => "a host is written without a scheme",
            Reason::HasPath => "a slash or a path follows the host or port",
            Reason::Port => "its port is not a number up to 65535",
            Reason::AnyPort => "`:*` is not a port; for development see `allow_loopback`",
            Reason::Wildcard => {
                "a `*` has to be the whole first label, with two or more labels after it, or the whole \
                 host of a scheme other than those of the web"
            }
        };
        write!(f, "invalid {} {:?}: {reason}", self.kind, self.text)
    }
}

impl Error for InvalidOrigin {}
