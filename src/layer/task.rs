//! The task of an accepted connection, from the handover to its end.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    codec::Role,
    connections::{AdmitError, Opening, Permit},
    handler::Handler,
    layer::{admission::Place, guard::Sent, report::upgrade_failed, upgrade::Handover},
    socket::{
        self, EndHooks, HandshakeInfo, Link, Served, Session, Setup, Transport, Values, WebSocket,
        report::{self, Span},
    },
    words::{BoxError, CloseFrame},
};

/// Serves one connection: a handler, or the function that was given to `on_upgrade`.
pub(crate) trait Serve: Send + 'static {
    /// Is called once.
    fn serve(&mut self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl<H: Handler> Serve for Arc<H> {
    fn serve(&mut self, socket: WebSocket) -> impl Future<Output = Result<(), BoxError>> + Send {
        self.handle(socket)
    }
}

/// A handshake that was accepted.
pub(crate) struct Opened<S> {
    pub(crate) serve: S,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) handover: Handover,
    /// The guard of the 101, only over HTTP/1.
    pub(crate) sent: Option<Sent>,
    pub(crate) setup: Setup,
    pub(crate) values: Values,
    /// The Close, if the handler refused with one.
    pub(crate) close: Option<CloseFrame>,
    /// The places in the limits by key and peer. They are freed when the connection is over.
    pub(crate) places: Box<[Place]>,
}

impl<S: Serve> Opened<S> {
    /// Spawns the connection's task inside `span`.
    ///
    /// # Errors
    ///
    /// As [`Permit::spawn`].
    pub(crate) fn spawn(
        self,
        permit: Permit,
        info: HandshakeInfo,
        span: Span,
    ) -> Result<(), AdmitError> {
        let opening = Opening {
            role: Role::Server,
            info,
            config: Arc::clone(&self.setup.config),
            identity: self.values.shared_identity(),
        };
        let spawned = permit.spawn(opening, |link, permit| {
            let started = Box::new(Started {
                opened: self,
                link,
                permit,
            });
            span.spawn(started.serve())
        });
        spawned.map(drop)
    }
}

/// A connection whose task has started.
// Boxed, and served by several functions: one future would hold space for every local variable until the end.
struct Started<S> {
    opened: Opened<S>,
    link: Arc<Link>,
    permit: Permit,
}

impl<S: Serve> Started<S> {
    async fn serve(self: Box<Self>) {
        // Not `if let`, whose temporary value would be kept as long as the connection.
        let Some((handed, mut serve)) = self.complete().await else {
            return;
        };
        handed.serve(&mut serve).await;
    }

    /// Waits until the HTTP server hands over the connection. Returns `None` if it does not.
    async fn complete(self: Box<Self>) -> Option<(Box<Handed>, S)> {
        let opened = self.opened;
        let limit = opened.upgrade_timeout;
        let (io, early) = match opened.handover.complete(opened.sent, limit).await {
            Ok(handed) => handed,
            Err(error) => {
                let is_news = |about| self.permit.is_news(about);
                upgrade_failed(&error, error.misconfigured().is_some_and(is_news));
                return None;
            }
        };
        io.set(opened.setup.config.tcp_options());
        report::opened();
        let handed = Box::new(Handed {
            served: Served {
                io,
                early,
                link: self.link,
                setup: opened.setup,
            },
            values: opened.values,
            occupied: Occupied {
                places: opened.places,
                permit: self.permit,
            },
            close: opened.close,
        });
        Some((handed, opened.serve))
    }
}

/// A connection that the HTTP server has handed over.
struct Handed {
    served: Served<Transport>,
    values: Values,
    /// The Close, if the handler refused with one.
    close: Option<CloseFrame>,
    occupied: Occupied,
}

impl Handed {
    #[expect(
        clippy::boxed_local,
        reason = "the caller's future has space only for the box"
    )]
    fn serve<S: Serve>(
        self: Box<Self>,
        serve: &mut S,
    ) -> Session<Transport, impl Future<Output = Result<(), BoxError>> + Send, Occupied> {
        let Self {
            served,
            values,
            close,
            occupied,
        } = *self;
        socket::serve(served, values, occupied, close, |socket| {
            serve.serve(socket)
        })
    }
}

/// The places that a connection occupies in the limits.
struct Occupied {
    /// The places in the limits by key and peer.
    places: Box<[Place]>,
    permit: Permit,
}

impl EndHooks for Occupied {
    fn connection_over(&mut self, _: &Link) {
        self.places = Box::default();
        self.permit.end();
    }

    fn handler_over(&mut self) {
        self.permit.finish();
    }

    fn handler_outlived(&mut self, link: &Link) -> bool {
        self.permit.handler_outlived(link)
    }
}
