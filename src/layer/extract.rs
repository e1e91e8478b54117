//! Extracts a handshake from a request. A function of the application answers it instead of a layer's handler.

use std::{mem, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Version, request::Parts};

use crate::{
    handler::Accept,
    handshake::{HandshakeError, Refusal},
    layer::{
        WebSocketLayer,
        handshake::Handshake,
        response::ResponseBody,
        service::{Asked, UpgradeRequired, asked, may_be_ours},
        shared::Shared,
        task::Serve,
        upgrade::Handover,
    },
    socket::WebSocket,
    words::BoxError,
};

/// The handler type of a layer without a handler, see [`WebSocketLayer::without_handler`].
///
/// It does not implement [`Handler`](crate::Handler), so such a layer cannot wrap a service.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NoHandler;

impl WebSocketLayer<NoHandler> {
    /// Makes the default settings for the extractor [`axum::Upgrade`](crate::axum::Upgrade).
    ///
    /// All methods of this type change them. [`path`](Self::path), [`matching`](Self::matching) and
    /// [`enabled`](Self::enabled) choose the requests that are handshakes; usually axum's routes do that.
    /// [`accept_timeout`](Self::accept_timeout) has no effect, because axum runs the functions.
    #[must_use]
    pub fn without_handler() -> Self {
        Self {
            shared: Arc::new(Shared::with(NoHandler)),
        }
    }

    /// Extracts a handshake from a request, or returns `None` if the request is not a handshake.
    ///
    /// `parts` keeps everything but the connection, for other extractors.
    ///
    /// # Errors
    ///
    /// The reason of the refusal, and the HTTP version of the request.
    pub(crate) fn extract(
        &self,
        parts: &mut Parts,
    ) -> Option<Result<Extracted, (HandshakeError, Version)>> {
        let request = Request::from_parts(mem::replace(parts, nothing()), ());
        // Other extractors also read the request, so the handshake gets a copy.
        let copy = may_be_ours(&self.shared, &request).then(|| request.clone());
        *parts = request.into_parts().0;
        let asked = copy.map(|request| asked(&self.shared, request));
        let Some(Asked::Ours(handshake, version)) = asked else {
            return None;
        };
        // The copy has the handover.
        drop(Handover::take(&mut parts.extensions));
        let extracted = handshake.map(|handshake| Extracted {
            handshake: Box::new(handshake),
        });
        Some(extracted.map_err(|error| (error, version)))
    }

    /// Answers a request that is not a handshake for these settings.
    pub(crate) fn answer_other(&self, parts: &mut Parts) -> Response<Bytes> {
        let paths = self.shared.settings.target.paths.as_slice().into();
        let request = Request::from_parts(mem::replace(parts, nothing()), ());
        let response = UpgradeRequired::at(paths).respond(&request);
        *parts = request.into_parts().0;
        response.map(Bytes::from)
    }
}

/// A valid handshake, with a place among the connections.
pub(crate) struct Extracted {
    // Boxed, because the futures of the extractors and of the function move it.
    handshake: Box<Handshake<NoHandler>>,
}

impl Extracted {
    /// Returns the request as it was when it was extracted.
    pub(crate) fn request(&self) -> &Parts {
        self.handshake.request()
    }

    /// Accepts the handshake. `serve` serves the connection, and `name` is its name in the log.
    pub(crate) fn accept(
        self,
        accept: Accept,
        serve: impl Serve,
        name: &'static str,
    ) -> Response<ResponseBody<String>> {
        self.handshake.finish(Ok(Ok(accept)), serve, name).into()
    }

    pub(crate) fn refuse(self, refusal: Refusal) -> Response<ResponseBody<String>> {
        self.handshake.finish(Ok(Err(refusal)), Nobody, "").into()
    }
}

/// Serves a refused connection, which is closed at once.
struct Nobody;

impl Serve for Nobody {
    async fn serve(&mut self, _: WebSocket) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Returns a placeholder for a request that is moved out.
fn nothing() -> Parts {
    Request::new(()).into_parts().0
}
