//! The task of an accepted connection, from the handover to its end.

use std::{any::type_name, future::Future, sync::Arc};

use crate::{
    codec::Role,
    connections::{AdmitError, Opening, Permit},
    handler::Handler,
    layer::{
        admission::Place, guard::Sent, report::upgrade_failed, shared::Shared, upgrade::Handover,
    },
    socket::{
        self, EndHooks, HandshakeInfo, Link, Served, Session, Setup, Transport,
        report::{self, Name, Span},
    },
    words::{BoxError, CloseFrame},
};

/// A handshake that was accepted.
pub(crate) struct Opened<H> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) handover: Handover,
    /// Over HTTP/1 the guard of the 101.
    pub(crate) sent: Option<Sent>,
    pub(crate) setup: Setup,
    pub(crate) handshake_info: Box<HandshakeInfo>,
    /// The Close with which the handler refused.
    pub(crate) close: Option<CloseFrame>,
    /// Given back when the connection is over.
    pub(crate) places: Box<[Place]>,
}

impl<H: Handler> Opened<H> {
    /// Spawns the connection's task, inside of `span`.
    ///
    /// # Errors
    ///
    /// As [`Permit::spawn`].
    pub(crate) fn spawn(self, permit: Permit, span: Span) -> Result<(), AdmitError> {
        let name = Name {
            handler: type_name::<H>(),
            path: self.handshake_info.request.path().into(),
        };
        let opening = Opening {
            role: Role::Server,
            name,
            config: Arc::clone(&self.setup.config),
            identity: self.handshake_info.identity.clone(),
        };
        let spawned = permit.spawn(opening, |link, permit| {
            let started = Box::new(Started {
                opened: self,
                link,
                permit,
            });
            span.around(started.serve())
        });
        spawned.map(drop)
    }
}

/// A connection whose task has started.
// In a box, and what takes several steps in functions of their own: the future would keep a place for
// each local as long as the connection lasts.
struct Started<H> {
    opened: Opened<H>,
    link: Arc<Link>,
    permit: Permit,
}

impl<H: Handler> Started<H> {
    async fn serve(self: Box<Self>) {
        let shared = Arc::clone(&self.opened.shared);
        if let Some(handed) = self.complete().await {
            handed.serve(&shared.handler).await;
        }
    }

    /// Waits for the connection; `None` if there is none.
    async fn complete(self: Box<Self>) -> Option<Box<Handed>> {
        let opened = self.opened;
        let limit = opened.shared.settings.upgrade_timeout;
        let (io, early) = match opened.handover.complete(opened.sent, limit).await {
            Ok(handed) => handed,
            Err(error) => {
                let connections = &opened.shared.connections;
                let is_news = |about| connections.is_news(about);
                upgrade_failed(&error, error.misconfigured().is_some_and(is_news));
                return None;
            }
        };
        io.set(opened.setup.config.tcp_options());
        report::opened();
        Some(Box::new(Handed {
            served: Served {
                io,
                early,
                link: self.link,
                setup: opened.setup,
            },
            handshake_info: opened.handshake_info,
            occupied: Occupied {
                places: opened.places,
                permit: self.permit,
            },
            close: opened.close,
        }))
    }
}

/// A connection that the HTTP server has handed over.
struct Handed {
    served: Served<Transport>,
    handshake_info: Box<HandshakeInfo>,
    /// The Close with which the handler refused.
    close: Option<CloseFrame>,
    occupied: Occupied,
}

impl Handed {
    #[expect(
        clippy::boxed_local,
        reason = "the caller's future has room for the box alone"
    )]
    fn serve<H: Handler>(
        self: Box<Self>,
        handler: &H,
    ) -> Session<Transport, impl Future<Output = Result<(), BoxError>> + Send, Occupied> {
        let Self {
            served,
            handshake_info,
            close,
            occupied,
        } = *self;
        socket::serve(served, handshake_info, occupied, close, |socket| {
            handler.handle(socket)
        })
    }
}

/// What a connection takes of what is limited.
struct Occupied {
    /// The places of its keys.
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
}
