//! The connection of a model.

use std::{
    future::{Future, Pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};

use bytes::Bytes;

use super::{Signal, peer::Peer};
use crate::{
    codec::Role,
    config::Config,
    socket::{
        Events, HandshakeInfo, Hook, Link, Registration, Served, Setup, Values, WebSocket,
        session::{self, Session},
    },
    words::{BoxError, ConnectionId},
};

pub(crate) type Verdict = Result<(), BoxError>;

/// A connection that runs on the current thread.
pub(crate) struct Connection<F: Future<Output = Verdict>> {
    session: Pin<Box<Session<Peer, F, ()>>>,
    pub(crate) link: Arc<Link>,
    pub(crate) peer: Peer,
    signal: Arc<Signal>,
}

pub(crate) fn config() -> Config {
    Config::new().without_keepalive()
}

fn served(config: Config, peer: &Peer) -> Served<Peer> {
    let config = Arc::new(config);
    Served {
        io: peer.clone(),
        early: Bytes::new(),
        link: Arc::new(Link::new(
            Role::Server,
            HandshakeInfo::default(),
            Arc::clone(&config),
        )),
        setup: Setup::new(config),
    }
}

/// Makes a connection whose socket is on another thread.
pub(crate) fn detached(config: Config, peer: Peer) -> Connection<Pending<Verdict>> {
    let served = served(config, &peer);
    let link = Arc::clone(&served.link);
    Connection::new(session::detached(served), link, peer)
}

/// Makes a connection of a registry that limits memory. Its socket is on another thread.
pub(crate) fn counted(
    config: Config,
    peer: Peer,
    events: Arc<dyn Events>,
) -> Connection<Pending<Verdict>> {
    let mut served = served(config, &peer);
    let registration = Registration {
        id: ConnectionId::next(),
        hook: Some(Box::new(Hook::new(events, false, true))),
    };
    let config = Arc::clone(&served.setup.config);
    let link = Link::registered(registration, Role::Server, HandshakeInfo::default(), config);
    served.link = Arc::new(link);
    let link = Arc::clone(&served.link);
    Connection::new(session::detached(served), link, peer)
}

/// Makes a connection with a handler in its own task.
pub(crate) fn handled<F: Future<Output = Verdict>>(
    config: Config,
    peer: Peer,
    handle: impl FnOnce(WebSocket) -> F,
) -> Connection<F> {
    let served = served(config, &peer);
    let link = Arc::clone(&served.link);
    let session = session::serve(served, Values::default(), (), None, handle);
    Connection::new(session, link, peer)
}

impl<F: Future<Output = Verdict>> Connection<F> {
    fn new(session: Session<Peer, F, ()>, link: Arc<Link>, peer: Peer) -> Self {
        Self {
            session: Box::pin(session),
            link,
            peer,
            signal: Arc::default(),
        }
    }

    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Polls the connection once. Returns whether it is over.
    pub(crate) fn poll(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.signal));
        let mut cx = Context::from_waker(&waker);
        self.session.as_mut().poll(&mut cx).is_ready()
    }

    /// Polls the connection as often as it was woken, without waiting.
    pub(crate) fn run_while_woken(&mut self) {
        while self.signal.take() {
            self.poll();
        }
    }

    /// Polls the connection whenever it is woken, until `written` messages are written.
    pub(crate) fn run_until(&mut self, written: usize) {
        while !self.poll() && !self.peer.has(written) {
            self.signal.wait();
        }
    }

    /// Polls the connection whenever it is woken, until it is over. Returns the payloads that were
    /// written.
    pub(crate) fn run(mut self) -> Vec<u8> {
        while !self.poll() {
            self.signal.wait();
        }
        let ending = self.link.ending();
        assert!(ending.is_some());
        self.peer.written().0
    }
}

/// Makes a connection whose outbox has room for one message.
pub(crate) fn detached_with_outbox_of_one() -> Connection<Pending<Verdict>> {
    detached(config().max_outbox(1, 1024), Peer::default())
}
