//! The spans of a layer's connections.

use std::{net::IpAddr, sync::Arc};

use http::request::Parts;

use crate::{
    socket::report::{self, Span},
    words::{ConnectionId, Panicked, catch_panic},
};

/// Returns the address of a request's peer.
pub(crate) type Peer = Arc<dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync>;

#[cfg(feature = "tracing")]
type Make = Arc<dyn Fn(ConnectionId, &Parts) -> tracing::Span + Send + Sync>;

/// Makes the spans of a layer's connections.
#[derive(Clone, Default)]
pub(crate) struct Spans {
    /// The function of [`WebSocketLayer::peer`](crate::WebSocketLayer::peer), or else of the first limit by peer.
    pub(super) peer: Option<Peer>,
    #[cfg(feature = "tracing")]
    pub(super) make: Option<Make>,
}

impl Spans {
    /// Makes the span of a connection.
    pub(crate) fn span(&self, id: ConnectionId, request: &Parts) -> Result<Span, Panicked> {
        // The functions are user code and may panic.
        catch_panic(|| {
            #[cfg(feature = "tracing")]
            if let Some(make) = &self.make {
                return make(id, request).into();
            }
            let peer = || self.peer.as_ref().and_then(|peer| peer(request));
            report::connection(id, peer, request.uri.path())
        })
    }
}
