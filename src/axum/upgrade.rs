//! The extractor, and the sources of its settings.

use std::{
    any::{Any, type_name},
    borrow::Cow,
    fmt,
    future::Future,
    marker::PhantomData,
    sync::LazyLock,
};

use axum_core::{
    body::Body,
    extract::{FromRef, FromRequestParts, OptionalFromRequestParts},
    response::Response,
};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, request::Parts};

use super::{Outcome, UpgradeRejection, UpgradeSettings, outcome::sealed};
use crate::{
    config::Config,
    handler::Accept,
    handshake::{Refusal, offered_subprotocols},
    layer::{Extracted, ResponseBody, Serve},
    socket::WebSocket,
    words::BoxError,
};

/// The settings of requests without settings.
static DEFAULT: LazyLock<UpgradeSettings> = LazyLock::new(UpgradeSettings::without_handler);

/// Returns the settings of all [`Upgrade`]s of this process whose request has no settings.
///
/// Their [`connections`](crate::WebSocketLayer::connections) is the registry of these connections.
///
/// # Examples
///
/// ```no_run
/// # async fn example() {
/// use std::time::Duration;
/// use tower_websocket::axum::default_settings;
///
/// let report = default_settings().connections().shutdown(Duration::from_secs(10)).await;
/// println!("{} closed, {} aborted", report.clean, report.aborted);
/// # }
/// ```
#[must_use]
pub fn default_settings() -> UpgradeSettings {
    DEFAULT.clone()
}

/// Marks an [`Upgrade`] that takes its settings from the request's extensions.
///
/// axum's `Extension` layer puts them there. Without such an extension, [`default_settings`] applies.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FromExtension;

/// Marks an [`Upgrade`] that takes its settings from the router's state.
///
/// A state without settings does not compile, so no route uses the defaults by mistake.
///
/// # Examples
///
/// ```
/// use axum::{Router, extract::FromRef, response::Response, routing::any};
/// use tower_websocket::axum::{FromState, Upgrade, UpgradeSettings};
///
/// #[derive(Clone)]
/// struct App {
///     sockets: UpgradeSettings,
/// }
///
/// // axum's `#[derive(FromRef)]` writes this.
/// impl FromRef<App> for UpgradeSettings {
///     fn from_ref(app: &App) -> Self {
///         app.sockets.clone()
///     }
/// }
///
/// async fn echo(upgrade: Upgrade<FromState>) -> Response {
///     upgrade.on_upgrade(async |mut socket| {
///         while let Ok(Some(message)) = socket.recv().await {
///             let _ = socket.send(message).await;
///         }
///     })
/// }
///
/// let sockets = UpgradeSettings::without_handler().max_head_size(8 * 1024);
/// let app: Router = Router::new().route("/ws", any(echo)).with_state(App { sockets });
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FromState;

/// The extractor of a valid opening handshake, which has a place among the connections.
///
/// It may be any argument of the function. Extractors before it run for every request, extractors after it only for
/// valid handshakes. All of them see the same request.
///
/// [`on_upgrade`](Self::on_upgrade) answers the handshake and serves the connection. Without that call, the client
/// gets the function's response, and the place is freed when this value is dropped. The function's time is not
/// limited.
///
/// `F` is the source of the settings: [`FromExtension`] (the default) or [`FromState`]. See
/// [the module](self::super) for examples.
///
/// # Errors
///
/// [`UpgradeRejection`], the response that a [`WebSocketLayer`](crate::WebSocketLayer) of the same settings gives
/// to the same request.
///
/// # Cancel safety
///
/// Extraction does not wait. Dropping the value frees the place.
#[must_use = "a handshake is answered by `on_upgrade`"]
pub struct Upgrade<F = FromExtension> {
    extracted: Extracted,
    accept: Accept,
    from: PhantomData<fn() -> F>,
}

impl<F> Upgrade<F> {
    fn extract(
        settings: &UpgradeSettings,
        parts: &mut Parts,
    ) -> Result<Option<Self>, UpgradeRejection> {
        let extracted = settings.extract(parts).transpose();
        let extracted =
            extracted.map_err(|(error, version)| UpgradeRejection::refused(error, version))?;
        Ok(extracted.map(|extracted| Self {
            extracted,
            accept: Accept::new(),
            from: PhantomData,
        }))
    }

    /// Extracts a handshake. A request that is not a handshake is rejected.
    fn require(settings: &UpgradeSettings, parts: &mut Parts) -> Result<Self, UpgradeRejection> {
        match Self::extract(settings, parts)? {
            Some(upgrade) => Ok(upgrade),
            None => Err(UpgradeRejection::other(settings.answer_other(parts))),
        }
    }

    /// Adds a subprotocol that this connection can speak, like [`Accept::subprotocol`]. Default: none.
    ///
    /// Add the preferred one first.
    pub fn subprotocol(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.accept = self.accept.subprotocol(name);
        self
    }

    /// Refuses the handshake with 400 if the client offered none of the subprotocols, like
    /// [`Accept::require_subprotocol`]. Default: accepts it without one.
    pub fn require_subprotocol(mut self) -> Self {
        self.accept = self.accept.require_subprotocol();
        self
    }

    /// Adds a header to the 101 response, such as `Set-Cookie`, like [`Accept::header`]. Default: none.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.accept = self.accept.header(name, value);
        self
    }

    /// Drops the request once the handshake is answered, like [`Accept::without_request`]. Default: the socket keeps
    /// it.
    pub fn without_request(mut self) -> Self {
        self.accept = self.accept.without_request();
        self
    }

    /// Gives the connection a value by which the application finds it, like [`Accept::identify`]. Default: none.
    pub fn identify(mut self, value: impl Any + Send + Sync) -> Self {
        self.accept = self.accept.identify(value);
        self
    }

    /// Changes the settings of this connection, like [`Accept::configure`]. Default: those of [`UpgradeSettings`].
    pub fn configure(
        mut self,
        configure: impl FnOnce(Config) -> Config + Send + Sync + 'static,
    ) -> Self {
        self.accept = self.accept.configure(configure);
        self
    }

    /// Returns the subprotocols that the client offered, in the client's order.
    pub fn offered_subprotocols(&self) -> impl Iterator<Item = &str> {
        offered_subprotocols(&self.extracted.request().headers)
    }

    /// Accepts the handshake, and serves the connection with `serve` in its own task.
    ///
    /// The function must return the response. If an outer layer replaces it, `serve` does not run: see
    /// [`WebSocketLayer`](crate::WebSocketLayer).
    ///
    /// The future of `serve` returns `()` or `Result<(), E>`. The connection ends as it does for
    /// [`Handler::handle`](crate::Handler::handle).
    ///
    /// Instead of the 101, the response is a refusal if the limit of a key or peer is reached (429), if the
    /// connections are being closed (503), or if a required subprotocol was not offered (400).
    #[must_use = "the connection begins when the response is sent"]
    pub fn on_upgrade<S, R>(self, serve: S) -> Response
    where
        S: FnOnce(WebSocket) -> R + Send + 'static,
        R: Future + Send + 'static,
        R::Output: Outcome,
    {
        let name = type_name::<S>();
        response(self.extracted.accept(self.accept, Once(Some(serve)), name))
    }

    /// Refuses the handshake like a [`Refusal`] of [`Handler::accept`](crate::Handler::accept).
    ///
    /// The refusal is counted and logged. [`Refusal::close`] closes with a code that browsers show to their page.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::response::Response;
    /// use tower_websocket::{CloseCode, CloseFrame, Refusal, axum::Upgrade};
    ///
    /// async fn members_only(upgrade: Upgrade) -> Response {
    ///     let frame = CloseFrame::truncated(CloseCode::of::<4401>(), "log in first");
    ///     upgrade.refuse(Refusal::close(frame))
    /// }
    /// ```
    #[must_use = "the response is the refusal"]
    pub fn refuse(self, refusal: impl Into<Refusal>) -> Response {
        response(self.extracted.refuse(refusal.into()))
    }
}

fn response(response: http::Response<ResponseBody<String>>) -> Response {
    response.map(Body::new)
}

impl<F> fmt::Debug for Upgrade<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}

/// A function that serves one connection.
struct Once<S>(Option<S>);

impl<S, R> Serve for Once<S>
where
    S: FnOnce(WebSocket) -> R + Send + 'static,
    R: Future + Send + 'static,
    R::Output: Outcome,
{
    fn serve(&mut self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        let serve = self.0.take().expect("a connection is served once");
        serve(socket).map(sealed::Sealed::into_result)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade<FromExtension> {
    type Rejection = UpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, UpgradeRejection> {
        Self::require(&of_extension(parts), parts)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Upgrade<FromExtension> {
    type Rejection = UpgradeRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> Result<Option<Self>, UpgradeRejection> {
        Self::extract(&of_extension(parts), parts)
    }
}

impl<S> FromRequestParts<S> for Upgrade<FromState>
where
    UpgradeSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = UpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, UpgradeRejection> {
        Self::require(&UpgradeSettings::from_ref(state), parts)
    }
}

impl<S> OptionalFromRequestParts<S> for Upgrade<FromState>
where
    UpgradeSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = UpgradeRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, UpgradeRejection> {
        Self::extract(&UpgradeSettings::from_ref(state), parts)
    }
}

fn of_extension(parts: &Parts) -> UpgradeSettings {
    let settings = parts.extensions.get::<UpgradeSettings>();
    settings.unwrap_or(&DEFAULT).clone()
}
