//! The task of an accepted connection, from the handover to its end.

use std::{
    any::{Any, type_name},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    admission::Place,
    codec::Deflation,
    config::Config,
    connections::{Permit, Seat},
    error::HandshakeError,
    handler::{Echo, Handler},
    layer::WebSocketLayer,
    report::{self, PanicAlarm, Span},
    socket::{self, Ended, Introduction, Link, Name, Repetition, Served},
    upgrade::{Connection, Handover, Sent},
};

/// A handshake that was accepted.
pub(crate) struct Opened<H> {
    pub(crate) layer: Arc<WebSocketLayer<H>>,
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
        let handler = &*self.layer.handler as &dyn Any;
        // Each in a task of its own size.
        match handler.downcast_ref::<Echo>() {
            // Compression is for messages that somebody sends.
            Some(echo) if self.connecting.deflation.is_none() => {
                let prefix = Arc::clone(echo.prefix());
                permit.spawn(config, name, |link, permit| {
                    self.repeat(prefix, link, permit)
                })
            }
            _ => permit.spawn(config, name, |link, permit| self.serve(link, permit)),
        }
    }

    fn serve(self, link: Arc<Link>, permit: Permit) -> impl Future<Output = ()> + Send {
        let span = report::connection(self.introduction.request.path());
        span.around(async move {
            let Some(served) = self.connecting.complete(Arc::clone(&link)).await else {
                return;
            };
            let place = Occupied::new(link, self.places, &permit);
            let handle = |socket| self.layer.handler.handle(socket);
            if socket::serve(served, self.introduction, place, handle).await == Ended::Returned {
                permit.finish();
            }
        })
    }

    /// Serves a connection as [`Echo`] would, which needs neither a socket nor the request.
    fn repeat(self, prefix: Arc<str>, link: Arc<Link>, permit: Permit) -> Repeating {
        let span = report::connection(self.introduction.request.path());
        let place = Occupied::new(Arc::clone(&link), self.places, &permit);
        Repeating {
            stage: Stage::Opening(Box::pin(async move {
                let served = self.connecting.complete(link).await?;
                Some(socket::repeat(served, prefix))
            })),
            ending: Some((place, permit)),
            span,
        }
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

/// The task of a connection that repeats.
///
/// Written by hand, because of what happens at every message: the messages are repeated before
/// anything else is looked at, and without the span, in which we would tell nothing. What that needs
/// comes first in memory.
#[repr(C)]
struct Repeating {
    stage: Stage,
    ending: Option<(Occupied, Permit)>,
    span: Span,
}

// Its tag is at the front, next to what is looked at then.
#[repr(u8)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is the large one for nearly all of its time"
)]
enum Stage {
    Opening(Pin<Box<dyn Future<Output = Option<Repetition<Connection>>> + Send>>),
    Open(Repetition<Connection>),
    Over,
}

impl Stage {
    #[inline(always)]
    fn repeats_all(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Open(repetition) => repetition.repeats_all(cx),
            Self::Opening(_) | Self::Over => false,
        }
    }
}

impl Future for Repeating {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = PanicAlarm::new();
        let this = self.get_mut();
        let poll = if this.stage.repeats_all(cx) {
            Poll::Pending
        } else {
            let (stage, ending) = (&mut this.stage, &mut this.ending);
            this.span.inside(|| poll_stage(stage, ending, cx))
        };
        alarm.disarm();
        poll
    }
}

fn poll_stage(
    stage: &mut Stage,
    ending: &mut Option<(Occupied, Permit)>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if let Stage::Opening(opening) = stage {
        *stage = ready!(opening.as_mut().poll(cx)).map_or(Stage::Over, Stage::Open);
    }
    if let Stage::Open(repetition) = stage {
        ready!(Pin::new(&mut *repetition).poll(cx));
        // The stream first.
        *stage = Stage::Over;
        if let Some((place, permit)) = ending.take() {
            drop(place);
            permit.finish();
        }
    }
    Poll::Ready(())
}

impl Drop for Repeating {
    fn drop(&mut self) {
        let (stage, ending) = (&mut self.stage, &mut self.ending);
        self.span.inside(|| {
            *stage = Stage::Over;
            *ending = None;
        });
    }
}
