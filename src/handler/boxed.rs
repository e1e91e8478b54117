//! A handler with an erased type.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use http::request::Parts;

use super::{Accept, Handler, IntoHandler};
use crate::{handshake::Refusal, socket::WebSocket, words::BoxError};

/// A handler with an erased type, so that one list, map or field can hold handlers of different types.
///
/// A clone is cheap and shares the handler. Each call boxes a future: one allocation for a handshake, and one for
/// its connection.
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use tower_websocket::{BoxHandler, Echo, Error, WebSocket, WebSocketLayer};
///
/// let greet = async |mut socket: WebSocket| {
///     socket.send("Hello").await?;
///     Ok::<_, Error>(())
/// };
/// let handlers = HashMap::from([
///     ("echo", BoxHandler::new(Echo::new())),
///     ("greet", BoxHandler::new(greet)),
/// ]);
/// let layer: WebSocketLayer<BoxHandler> = WebSocketLayer::new(handlers["greet"].clone());
/// ```
#[derive(Clone)]
pub struct BoxHandler {
    handler: Arc<dyn Erased>,
}

impl BoxHandler {
    /// Erases the type of a handler. A closure or `async fn` can be a handler, too: see [`IntoHandler`].
    #[must_use]
    pub fn new<M, H: Handler>(handler: impl IntoHandler<M, Handler = H>) -> Self {
        Self {
            handler: Arc::new(handler.into_handler()),
        }
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Handler`] with boxed futures.
trait Erased: Send + Sync {
    fn accept<'a>(&'a self, request: &'a mut Parts) -> Boxed<'a, Result<Accept, Refusal>>;

    fn handle(&self, socket: WebSocket) -> Boxed<'_, Result<(), BoxError>>;

    fn name(&self) -> &'static str;
}

impl<H: Handler> Erased for H {
    fn accept<'a>(&'a self, request: &'a mut Parts) -> Boxed<'a, Result<Accept, Refusal>> {
        Box::pin(Handler::accept(self, request))
    }

    fn handle(&self, socket: WebSocket) -> Boxed<'_, Result<(), BoxError>> {
        Box::pin(Handler::handle(self, socket))
    }

    fn name(&self) -> &'static str {
        Handler::name(self)
    }
}

impl Handler for BoxHandler {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        self.handler.accept(request).await
    }

    fn handle(&self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        self.handler.handle(socket)
    }

    fn name(&self) -> &'static str {
        self.handler.name()
    }
}

impl fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxHandler")
            .field(&self.handler.name())
            .finish()
    }
}
