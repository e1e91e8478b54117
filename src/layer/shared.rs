//! The handler and the settings that a layer shares with its services and connections.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::{
    config::Config,
    connections::Connections,
    handler::IntoHandler,
    handshake::{HandshakeError, OriginPolicy},
    layer::{admission::KeyLimit, report, span::Spans, target::Target},
    time::limit::Shown,
};

/// The handler of a layer, and the layer's settings.
///
/// All of it is behind one `Arc`, because routers clone their services for every request. A change to a layer
/// copies it if clones or services share it.
pub(crate) struct Shared<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) connections: Connections,
    pub(crate) settings: Settings,
}

impl<H> Shared<H> {
    pub(crate) fn new<M>(handler: impl IntoHandler<M, Handler = H>) -> Self {
        Self::with(handler.into_handler())
    }

    /// Takes a handler and the default settings.
    pub(crate) fn with(handler: H) -> Self {
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
            spans: Spans::default(),
            config: Arc::new(Config::new()),
        };
        Self {
            handler: Arc::new(handler),
            connections: Connections::new(),
            settings,
        }
    }

    /// Counts a refused handshake, and reports it.
    pub(crate) fn refused(&self, error: &HandshakeError, path: &str) {
        let is_news = self.connections.refused(error, path);
        report::refused(error, path, is_news);
    }

    /// Reports that the server is set up so that no handshake can be served.
    pub(crate) fn upgrade_unsupported(&self) {
        report::upgrade_unsupported(self.connections.is_news("upgrade_unsupported_here"));
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
    /// Whether handlers run even if an outer layer replaced the 101.
    pub(crate) unguarded: bool,
    pub(crate) spans: Spans,
    pub(crate) config: Arc<Config>,
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
