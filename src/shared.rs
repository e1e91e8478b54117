//! The handler and its settings, which a layer shares with its services and connections.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::{request::Parts, uri::PathAndQuery};

use crate::{
    admission::KeyLimit,
    config::{Config, Shown},
    connections::Connections,
    origin::OriginPolicy,
};

/// The handler of a layer, and the layer's settings.
///
/// All of it stands behind one pointer, because routers clone their services with every request.
/// A layer that is changed after it was cloned, or has made services, gets a copy of its own.
pub(crate) struct Shared<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) connections: Connections,
    pub(crate) settings: Settings,
}

impl<H> Shared<H> {
    /// Takes a handler and the default settings.
    pub(crate) fn new(handler: H) -> Self {
        let settings = Settings {
            enabled: true,
            target: Target::default(),
            origins: OriginPolicy::same_host(),
            subprotocols: Arc::new([]),
            requires_subprotocol: false,
            key_limits: Vec::new(),
            max_head_size: 16 * 1024,
            accept_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(10),
            drops_request: false,
            unguarded: false,
            config: Arc::new(Config::new()),
        };
        Self {
            handler: Arc::new(handler),
            connections: Connections::new(),
            settings,
        }
    }
}

impl<H> Clone for Shared<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            connections: self.connections.clone(),
            settings: self.settings.clone(),
        }
    }
}

/// The settings of a layer.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) enabled: bool,
    pub(crate) target: Target,
    pub(crate) origins: OriginPolicy,
    pub(crate) subprotocols: Arc<[Cow<'static, str>]>,
    pub(crate) requires_subprotocol: bool,
    pub(crate) key_limits: Vec<KeyLimit>,
    pub(crate) max_head_size: usize,
    pub(crate) accept_timeout: Duration,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) drops_request: bool,
    /// Handlers run whatever became of the 101.
    pub(crate) unguarded: bool,
    pub(crate) config: Arc<Config>,
}

/// The requests that a layer answers: those on one of the paths, if there are any, for which the
/// predicate, if there is one, is true.
#[derive(Clone, Default)]
pub(crate) struct Target {
    pub(crate) paths: Vec<Cow<'static, str>>,
    pub(crate) predicate: Option<Arc<Predicate>>,
}

type Predicate = dyn Fn(&Parts) -> bool + Send + Sync;

impl Target {
    /// Returns whether the layer answers handshakes on a path.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|one| one == path)
    }

    /// Returns whether the layer answers a request. The predicate is the user's, and may panic.
    pub(crate) fn includes(&self, request: &Parts) -> bool {
        self.has_path(request.uri.path())
            && self
                .predicate
                .as_ref()
                .is_none_or(|includes| includes(request))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("enabled", &self.enabled)
            .field("target", &self.target)
            .field("origins", &self.origins)
            .field("subprotocols", &self.subprotocols)
            .field("requires_subprotocol", &self.requires_subprotocol)
            .field("key_limits", &self.key_limits)
            .field("max_head_size", &self.max_head_size)
            .field("accept_timeout", &Shown(self.accept_timeout))
            .field("upgrade_timeout", &Shown(self.upgrade_timeout))
            .field("drops_request", &self.drops_request)
            .field("unguarded", &self.unguarded)
            .field("config", &self.config)
            .finish()
    }
}

/// Says which handshakes are the layer's.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.paths.join(", ");
        match (paths.as_str(), self.predicate.is_some()) {
            ("", false) => f.write_str("all"),
            ("", true) => f.write_str("what `matching` takes"),
            (paths, false) => f.write_str(paths),
            (paths, true) => write!(f, "what `matching` takes of {paths}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("paths", &self.paths)
            .field("predicate", &self.predicate.is_some())
            .finish()
    }
}

/// Checks that a path can be that of a request.
///
/// # Errors
///
/// Says why it cannot, and what to write in its place.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("does not start with /");
    }
    if path.contains(['{', '}', '*']) || path.contains("/:") {
        return Err(
            "has a parameter or a wildcard, and paths are compared whole: use axum's \
             `route_service(path, layer.into_service())`, or `WebSocketLayer::matching`",
        );
    }
    if path.contains(['?', '#']) {
        return Err("has a query or a fragment: leave it out, any query is answered");
    }
    let is_blank = |letter: char| letter.is_whitespace() || letter.is_control();
    if path.contains(is_blank) {
        return Err("has a blank, which requests write as %20");
    }
    match PathAndQuery::try_from(path) {
        Ok(parsed) if parsed.path() == path => Ok(()),
        _ => Err("has a character that no path of a request has: write it percent-encoded"),
    }
}
