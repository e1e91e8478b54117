//! A handshake that a function of the application answers, which has it as an argument, in the place of a
//! layer's handler.

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

/// The place of a handler in a layer that has none, see [`WebSocketLayer::without_handler`].
///
/// It does not implement [`Handler`](crate::Handler), so that such a layer cannot be put around a service.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NoHandler;

impl WebSocketLayer<NoHandler> {
    /// Makes the settings of connections that functions of axum serve, by the extractor
    /// [`axum::Upgrade`](crate::axum::Upgrade).
    ///
    /// All methods of this type set them. [`path`](Self::path), [`matching`](Self::matching) and
    /// [`enabled`](Self::enabled) decide on what is a handshake, and axum's routes usually do that.
    /// [`accept_timeout`](Self::accept_timeout) changes nothing, because axum runs the functions.
    #[must_use]
    pub fn without_handler() -> Self {
        Self {
            shared: Arc::new(Shared::with(NoHandler)),
        }
    }

    /// Takes a handshake out of a request, of which other extractors see all but the connection.
    ///
    /// Returns nothing if the request asks for something else.
    ///
    /// # Errors
    ///
    /// Why the handshake is refused, and the version of its request.
    pub(crate) fn extract(
        &self,
        parts: &mut Parts,
    ) -> Option<Result<Extracted, (HandshakeError, Version)>> {
        let request = Request::from_parts(mem::replace(parts, nothing()), ());
        // Other extractors read the request as well, so the handshake gets a copy.
        let copy = may_be_ours(&self.shared, &request).then(|| request.clone());
        *parts = request.into_parts().0;
        let asked = copy.map(|request| asked(&self.shared, request));
        let Some(Asked::Ours(handshake, version)) = asked else {
            return None;
        };
        // The handshake has its own.
        drop(Handover::take(&mut parts.extensions));
        let extracted = handshake.map(|handshake| Extracted {
            handshake: Box::new(handshake),
        });
        Some(extracted.map_err(|error| (error, version)))
    }

    /// Answers a request that is no handshake of these settings.
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
    // Boxed, because it goes through the futures of extractors and of the function.
    handshake: Box<Handshake<NoHandler>>,
}

impl Extracted {
    /// Returns the request as the extractor met it.
    pub(crate) fn request(&self) -> &Parts {
        self.handshake.request()
    }

    /// Accepts the handshake; `serve` serves the connection.
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

/// Serves a connection that is closed at once.
struct Nobody;

impl Serve for Nobody {
    async fn serve(&mut self, _: WebSocket) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Stands in for a request that is looked at elsewhere.
fn nothing() -> Parts {
    Request::new(()).into_parts().0
}
