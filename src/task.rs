//! The task of an accepted connection, from the handover to its end.

use std::{any::type_name, future::Future, sync::Arc, time::Duration};

use crate::{
    admission::Place,
    codec::Deflation,
    config::Config,
    connections::{Permit, Seat},
    handler::Handler,
    handshake::HandshakeError,
    report::{self, Name},
    shared::Shared,
    socket::{self, Ended, Introduction, Link, Served},
    upgrade::{Connection, Handover, Sent},
};

/// A handshake that was accepted.
pub(crate) struct Opened<H> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) connecting: Connecting,
    pub(crate) introduction: Box<Introduction>,
    /// Given back when the connection is over.
    pub(crate) places: Box<[Place]>,
}

impl<H: Handler> Opened<H> {
    /// Spawns the connection's task.
    ///
    /// # Errors
    ///
    /// As [`Permit::spawn`].
    pub(crate) fn spawn(self, permit: Permit) -> Result<(), HandshakeError> {
        let config = Arc::clone(&self.connecting.config);
        let name = Name {
            handler: type_name::<H>(),
            path: self.introduction.request.path().into(),
        };
        permit.spawn(config, name, |link, permit| self.serve(link, permit))
    }

    fn serve(self, link: Arc<Link>, permit: Permit) -> impl Future<Output = ()> + Send {
        let span = report::connection(self.introduction.request.path());
        span.around(async move {
            let Some(served) = self.connecting.complete(Arc::clone(&link)).await else {
                return;
            };
            let place = Occupied::new(link, self.places, &permit);
            let handle = |socket| self.shared.handler.handle(socket);
            if socket::serve(served, self.introduction, place, handle).await == Ended::Returned {
                permit.finish();
            }
        })
    }
}

/// A connection that is to be handed over.
pub(crate) struct Connecting {
    pub(crate) config: Arc<Config>,
    /// How long the server may take to hand the connection over.
    pub(crate) limit: Duration,
    pub(crate) deflation: Option<Deflation>,
    /// See [`Served`].
    pub(crate) probes: bool,
    pub(crate) handover: Handover,
    pub(crate) sent: Option<Sent>,
}

impl Connecting {
    /// Waits for the connection, which comes with what was read of it already.
    async fn complete(self, link: Arc<Link>) -> Option<Served<Connection>> {
        match self.handover.complete(self.sent, self.limit).await {
            Err(error) => {
                report::upgrade_failed(&error);
                None
            }
            Ok((io, early)) => {
                if self.config.nodelay() {
                    io.set_nodelay();
                }
                report::opened();
                Some(Served {
                    io,
                    early,
                    config: self.config,
                    link,
                    deflation: self.deflation,
                    probes: self.probes,
                })
            }
        }
    }
}

/// The places that a connection takes, until it is over or its task is dropped.
struct Occupied {
    link: Arc<Link>,
    _places: Box<[Place]>,
    _seat: Seat,
}

impl Occupied {
    fn new(link: Arc<Link>, places: Box<[Place]>, permit: &Permit) -> Self {
        Self {
            link,
            _places: places,
            _seat: permit.seat(),
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        if let Some(closed) = self.link.ending() {
            report::closed(&closed);
        }
    }
}
