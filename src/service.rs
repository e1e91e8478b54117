//! The service: passes requests on, or answers them.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use tower::Service;

use crate::{
    future::{Handshake, ResponseFuture},
    handler::{Echo, Handler},
    handshake::{
        HandshakeError, answer,
        request::{may_open, opening},
    },
    report,
    response::ResponseBody,
    shared::Shared,
    upgrade,
};

/// A service that answers WebSocket handshakes and passes everything else to `S`, untouched.
///
/// Made by a [`WebSocketLayer`](crate::WebSocketLayer), or by [`new`](WebSocketService::new) without an inner service.
/// It asks nothing of the bodies: `S` may be any service from `Request<A>` to `Response<B>`.
pub struct WebSocketService<S, H = Echo> {
    inner: S,
    shared: Arc<Shared<H>>,
}

impl<H: Handler> WebSocketService<UpgradeRequired, H> {
    /// Makes a complete service without an inner one, for a route of its own.
    ///
    /// Settings are those of a [`WebSocketLayer`](crate::WebSocketLayer), whose
    /// [`into_service`](crate::WebSocketLayer::into_service) makes such a service, too.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::Router;
    /// use tower_websocket::{Echo, WebSocketService};
    ///
    /// let app: Router = Router::new().route_service("/ws", WebSocketService::new(Echo::new()));
    /// ```
    #[must_use]
    pub fn new(handler: H) -> Self {
        Self::with(UpgradeRequired::new(), Arc::new(Shared::new(handler)))
    }
}

impl<S, H> WebSocketService<S, H> {
    pub(crate) const fn with(inner: S, shared: Arc<Shared<H>>) -> Self {
        Self { inner, shared }
    }
}

impl<S, H, A, B> Service<Request<A>> for WebSocketService<S, H>
where
    S: Service<Request<A>, Response = Response<B>>,
    H: Handler,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<A>) -> Self::Future {
        match may_open(&request) {
            true => self.answer(request),
            false => ResponseFuture::inner(self.inner.call(request)),
        }
    }
}

impl<S, H: Handler> WebSocketService<S, H> {
    /// Answers a request that may be a handshake, or passes it on if it is none of ours.
    // Apart from `call`, where the request would be copied once more, because it is taken apart here.
    #[cold]
    #[inline(never)]
    fn answer<A>(&mut self, request: Request<A>) -> ResponseFuture<S::Future>
    where
        S: Service<Request<A>>,
    {
        let settings = &self.shared.settings;
        let opening = match settings.enabled {
            true => opening(&request, upgrade::protocol(&request)),
            false => None,
        };
        let Some(opening) = opening else {
            return ResponseFuture::inner(self.inner.call(request));
        };
        let (request, body) = request.into_parts();
        let version = request.version;
        let included = AssertUnwindSafe(|| settings.target.includes(&request));
        let handshake = match catch_unwind(included) {
            Ok(true) => Handshake::begin(&self.shared, request, opening),
            Ok(false) => {
                return ResponseFuture::inner(self.inner.call(Request::from_parts(request, body)));
            }
            Err(_) => {
                report::accept_panicked();
                let error = HandshakeError::AcceptPanicked;
                let path = request.uri.path();
                self.shared.connections.refused(&error, path);
                Err(error)
            }
        };
        match handshake {
            Ok(handshake) => ResponseFuture::handshake(handshake),
            Err(error) => ResponseFuture::refused(error, version),
        }
    }
}

impl<S: Clone, H> Clone for WebSocketService<S, H> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: fmt::Debug, H> fmt::Debug for WebSocketService<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketService")
            .field("inner", &self.inner)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// The inner service of a [`WebSocketService`] that has none: answers 426 to everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpgradeRequired(());

impl UpgradeRequired {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl<A> Service<Request<A>> for UpgradeRequired {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        // 426 rather than 404: someone who opens the address in a browser learns that the resource
        // exists and speaks another protocol (RFC 9110 §15.5.22).
        let text = String::from("this address speaks websocket");
        let mut response = answer::text(StatusCode::UPGRADE_REQUIRED, text);
        let headers = response.headers_mut();
        if request.version() == Version::HTTP_2 {
            // There neither of the two fields below exists.
            return ready(Ok(response));
        }
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        // After a handshake for another path the client may send frames, which must not be read as
        // requests.
        let connection = match request.headers().contains_key(header::UPGRADE) {
            true => HeaderValue::from_static("close, upgrade"),
            false => HeaderValue::from_static("upgrade"),
        };
        headers.insert(header::CONNECTION, connection);
        ready(Ok(response))
    }
}
