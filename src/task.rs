//! The task of an accepted connection, from the handover to its end.

use std::{any::type_name, future::Future, sync::Arc};

use crate::{
    admission::Place,
    connections::{Permit, Seat},
    handler::Handler,
    handshake::HandshakeError,
    report::{self, Name},
    shared::Shared,
    socket::{self, Ended, Introduction, Link, Served, Setup},
    upgrade::{Handover, Sent},
};

/// A handshake that was accepted.
pub(crate) struct Opened<H> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) handover: Handover,
    /// Over HTTP/1 the guard of the 101.
    pub(crate) sent: Option<Sent>,
    pub(crate) setup: Setup,
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
        let config = Arc::clone(&self.setup.config);
        let name = Name {
            handler: type_name::<H>(),
            path: self.introduction.request.path().into(),
        };
        permit.spawn(config, name, |link, permit| self.serve(link, permit))
    }

    fn serve(self, link: Arc<Link>, permit: Permit) -> impl Future<Output = ()> + Send {
        let span = report::connection(self.introduction.request.path());
        span.around(async move {
            let limit = self.shared.settings.upgrade_timeout;
            let served = match self.handover.complete(self.sent, limit).await {
                Err(error) => return report::upgrade_failed(&error),
                // The stream is borrowed in this arm alone: the future would keep the place of a
                // borrowed local for as long as the connection lasts.
                Ok((io, early)) => {
                    if self.setup.config.nodelay() {
                        io.set_nodelay();
                    }
                    report::opened();
                    Served {
                        io,
                        early,
                        link: Arc::clone(&link),
                        setup: self.setup,
                    }
                }
            };
            let place = Occupied::new(link, self.places, &permit);
            let handle = |socket| self.shared.handler.handle(socket);
            if socket::serve(served, self.introduction, place, handle).await == Ended::Returned {
                permit.finish();
            }
        })
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
