//! The service: answers handshakes, and passes other requests to the inner service.

use std::{
    borrow::Cow,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tower::Service;

use crate::{
    handler::{Echo, Handler, IntoHandler},
    handshake::{
        HandshakeError, answer,
        request::{has_handshake_fields, is_extended_connect, may_be_handshake, opening},
    },
    layer::{
        future::ResponseFuture, handshake::Handshake, report, response::ResponseBody,
        shared::Shared,
    },
    words::{catch_panic, header::Visible},
};

/// A service that answers WebSocket handshakes and passes all other requests unchanged to `S`.
///
/// A [`WebSocketLayer`](crate::WebSocketLayer) makes it, or [`new`](WebSocketService::new) without an inner
/// service. `S` may be any service from `Request<A>` to `Response<B>`, with any bodies.
pub struct WebSocketService<S, H = Echo> {
    inner: S,
    shared: Arc<Shared<H>>,
}

impl<H: Handler> WebSocketService<UpgradeRequired, H> {
    /// Makes a service without an inner service and with default settings, for a separate route.
    ///
    /// For other settings use a [`WebSocketLayer`](crate::WebSocketLayer) and its
    /// [`into_service`](crate::WebSocketLayer::into_service).
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
    pub fn new<M>(handler: impl IntoHandler<M, Handler = H>) -> Self {
        Self::with(UpgradeRequired::default(), Arc::new(Shared::new(handler)))
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
        match may_be_ours(&self.shared, &request) {
            true => self.answer(request),
            false => ResponseFuture::inner(self.inner.call(request)),
        }
    }
}

impl<S, H: Handler> WebSocketService<S, H> {
    /// Answers a request that may be a handshake, or passes it to the inner service.
    // Not a part of `call`: taking the request apart there would copy every request once more.
    #[cold]
    #[inline(never)]
    fn answer<A>(&mut self, request: Request<A>) -> ResponseFuture<S::Future>
    where
        S: Service<Request<A>>,
    {
        match asked(&self.shared, request) {
            Asked::NotOurs(request) => ResponseFuture::inner(self.inner.call(request)),
            Asked::Ours(Ok(handshake), _) => ResponseFuture::handshake(handshake),
            Asked::Ours(Err(error), version) => ResponseFuture::refused(error, version),
        }
    }
}

/// A request as seen by a layer: a handshake for it, or not.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made"
)]
pub(crate) enum Asked<A, H> {
    /// The layer passes the request on.
    NotOurs(Request<A>),
    /// The layer answers the handshake, which may be refused already. The version is that of HTTP.
    Ours(Result<Handshake<H>, HandshakeError>, Version),
}

/// Returns whether a request may be a handshake. For almost every request the answer is no.
#[inline]
pub(crate) fn may_be_ours<A, H>(shared: &Shared<H>, request: &Request<A>) -> bool {
    let may_be_handshake = may_be_handshake(request);
    if !may_be_handshake && report::is_info_enabled() {
        log_why_passed_on(shared, request);
    }
    may_be_handshake
}

/// Decides whether a possible handshake is one for this layer. If so, it is checked and gets a place among the
/// connections.
pub(crate) fn asked<A, H>(shared: &Arc<Shared<H>>, request: Request<A>) -> Asked<A, H> {
    let settings = &shared.settings;
    let opening = opening(&request, protocol(&request));
    let Some(opening) = opening.filter(|_| settings.enabled) else {
        if opening.is_some() {
            report::switched_off(request.uri().path());
        } else {
            log_why_passed_on(shared, &request);
        }
        return Asked::NotOurs(request);
    };
    let (request, body) = request.into_parts();
    let version = request.version;
    let handshake = match catch_panic(|| settings.target.includes(&request)) {
        Ok(true) => Handshake::begin(shared, request, opening),
        Ok(false) => {
            report::passed_by(request.uri.path(), &settings.target);
            return Asked::NotOurs(Request::from_parts(request, body));
        }
        Err(panicked) => {
            report::accept_panicked(&panicked);
            let error = HandshakeError::AcceptPanicked;
            shared.refused(&error, request.uri.path());
            Err(error)
        }
    };
    Asked::Ours(handshake, version)
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

/// Logs why a request goes to the inner service, if it may have been meant for the layer.
#[cold]
#[inline(never)]
fn log_why_passed_on<H, A>(shared: &Shared<H>, request: &Request<A>) {
    let settings = &shared.settings;
    let path = request.uri().path();
    if !settings.enabled || !settings.target.has_path(path) {
        return;
    }
    if is_extended_connect(request) {
        return report::connect_not_spoken(path);
    }
    if has_handshake_fields(request.headers()) {
        let is_news = shared.connections.is_news("no_upgrade");
        report::no_upgrade(path, request.version(), is_news);
    } else if !settings.target.paths.is_empty() && request.method() == Method::GET {
        // Only for layers with a path: other layers would log every GET request.
        report::plain(path);
    }
}

/// The inner service of a [`WebSocketService`] without a service of the user.
///
/// It answers 404 to handshakes that the layer does not answer, and to requests for a path that is not the
/// layer's. It answers 426 to all other requests. The text of the response gives the reason.
#[derive(Clone, Debug, Default)]
pub struct UpgradeRequired {
    /// The paths of the layer. If empty, it has every path.
    paths: Arc<[Cow<'static, str>]>,
}

impl UpgradeRequired {
    pub(crate) const fn at(paths: Arc<[Cow<'static, str>]>) -> Self {
        Self { paths }
    }

    /// Returns the status and the text for a request.
    fn answer<A>(&self, request: &Request<A>) -> (StatusCode, Cow<'static, str>) {
        let path = request.uri().path();
        let is_handshake = opening(request, protocol(request)).is_some();
        let is_here = self.paths.is_empty() || self.paths.iter().any(|one| one == path);
        if is_handshake || !is_here {
            let path = Visible(path.as_bytes());
            let text = format!("no websocket is served at {path}");
            return (StatusCode::NOT_FOUND, text.into());
        }
        // 426 instead of 404, to show someone who opens the address in a browser that the resource exists
        // and uses another protocol (RFC 9110 §15.5.22).
        let text = if is_extended_connect(request) {
            "websockets are not served over HTTP/2 here: connect over HTTP/1.1"
        } else if !has_handshake_fields(request.headers()) {
            "this address speaks websocket"
        } else if matches!(request.version(), Version::HTTP_09 | Version::HTTP_10) {
            "a websocket needs HTTP/1.1, and this handshake came over HTTP/1.0: does a proxy speak that?"
        } else {
            "this websocket handshake has no `Upgrade: websocket`: does a proxy drop it?"
        };
        (StatusCode::UPGRADE_REQUIRED, text.into())
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
        ready(Ok(self.respond(&request)))
    }
}

impl UpgradeRequired {
    /// Answers a request that is not a handshake for the layer.
    pub(crate) fn respond<A>(&self, request: &Request<A>) -> Response<String> {
        let (status, text) = self.answer(request);
        let mut response = answer::text(status, text.into_owned());
        let headers = response.headers_mut();
        if request.version() == Version::HTTP_2 {
            // HTTP/2 has neither `Upgrade` nor `Connection`.
            return response;
        }
        // After a handshake the client may send frames, and they must not be parsed as requests.
        let keeps_alive = !request.headers().contains_key(header::UPGRADE);
        let connection = match (status, keeps_alive) {
            (StatusCode::UPGRADE_REQUIRED, true) => Some("upgrade"),
            (StatusCode::UPGRADE_REQUIRED, false) => Some("close, upgrade"),
            (_, true) => None,
            (_, false) => Some("close"),
        };
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if let Some(connection) = connection {
            headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
        }
        response
    }
}

/// Returns the `:protocol` of an extended CONNECT over HTTP/2 (RFC 8441 §4).
#[cfg(feature = "http2")]
fn protocol<A>(request: &Request<A>) -> Option<&str> {
    if request.version() != http::Version::HTTP_2 || request.method() != http::Method::CONNECT {
        return None;
    }
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    protocol.map(hyper::ext::Protocol::as_str)
}

/// Returns `None`: without the feature `http2` an extended CONNECT goes to the inner service.
#[cfg(not(feature = "http2"))]
const fn protocol<A>(_: &Request<A>) -> Option<&str> {
    None
}
