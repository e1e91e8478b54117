//! The task of an accepted connection, from the handover to its end.

use std::{
    any::type_name,
    future::{Future, ready},
    sync::Arc,
};

use crate::{
    admission::Place,
    any_error::BoxError,
    close::CloseFrame,
    connections::{Permit, Seat},
    handler::Handler,
    handshake::HandshakeError,
    report::{self, Name},
    shared::Shared,
    socket::{self, Ended, Introduction, Link, Served, Session, Setup},
    upgrade::{Connection, Handover, Sent},
};

/// A handshake that was accepted.
pub(crate) struct Opened<H> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) handover: Handover,
    /// Over HTTP/1 the guard of the 101.
    pub(crate) sent: Option<Sent>,
    pub(crate) setup: Setup,
    pub(crate) introduction: Box<Introduction>,
    /// The Close with which the handler refused.
    pub(crate) close: Option<CloseFrame>,
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
        // In boxes, and what takes several steps in functions of their own: the future would keep a
        // place for each local as long as the connection lasts.
        let opened = Box::new(self);
        span.around(async move {
            let shared = Arc::clone(&opened.shared);
            let Some(mut handed) = opened.complete(link, &permit).await else {
                return;
            };
            let ended = match handed.close.take() {
                None => handed.serve(&shared.handler).await,
                Some(frame) => handed.close(frame).await,
            };
            if ended == Ended::Returned {
                permit.finish();
            }
        })
    }

    /// Waits for the connection; `None` if there is none.
    async fn complete(self: Box<Self>, link: Arc<Link>, permit: &Permit) -> Option<Box<Handed>> {
        let limit = self.shared.settings.upgrade_timeout;
        let (io, early) = match self.handover.complete(self.sent, limit).await {
            Ok(handed) => handed,
            Err(error) => {
                report::upgrade_failed(&error);
                return None;
            }
        };
        if self.setup.config.nodelay() {
            io.set_nodelay();
        }
        report::opened();
        let place = Occupied {
            link: Arc::clone(&link),
            _places: self.places,
            _seat: permit.seat(),
        };
        Some(Box::new(Handed {
            served: Served {
                io,
                early,
                link,
                setup: self.setup,
            },
            introduction: self.introduction,
            close: self.close,
            place,
        }))
    }
}

/// A connection that the HTTP server has handed over.
struct Handed {
    served: Served<Connection>,
    introduction: Box<Introduction>,
    close: Option<CloseFrame>,
    place: Occupied,
}

impl Handed {
    #[expect(
        clippy::boxed_local,
        reason = "the caller's future has room for the box alone"
    )]
    fn serve<H: Handler>(
        self: Box<Self>,
        handler: &H,
    ) -> Session<Connection, impl Future<Output = Result<(), BoxError>> + Send, Occupied> {
        let Self {
            served,
            introduction,
            place,
            ..
        } = *self;
        socket::serve(served, introduction, place, |socket| handler.handle(socket))
    }

    /// Serves a connection that the handler refused: it is closed at once.
    #[expect(
        clippy::boxed_local,
        reason = "the caller's future has room for the box alone"
    )]
    fn close(
        self: Box<Self>,
        frame: CloseFrame,
    ) -> Session<Connection, impl Future<Output = Result<(), BoxError>> + Send, Occupied> {
        let Self {
            served,
            introduction,
            place,
            ..
        } = *self;
        socket::serve(served, introduction, place, |socket| {
            drop(socket);
            ready(Err(frame.into()))
        })
    }
}

/// The places that a connection takes, until it is over or its task is dropped.
struct Occupied {
    link: Arc<Link>,
    _places: Box<[Place]>,
    _seat: Seat,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        if let Some(closed) = self.link.ending() {
            report::closed(&closed);
        }
    }
}
