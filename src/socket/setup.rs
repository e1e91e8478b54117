//! What a connection is served with.

use std::sync::Arc;

use bytes::Bytes;

use super::link::Link;
use crate::{codec::Deflation, config::Config};

/// What is known about a connection before it is served.
///
/// A fact about a connection is a field here: it is set where the connection is opened and used by the
/// driver, and the code between them passes the whole on. What the holder of the `WebSocket` may ask
/// for is in [`HandshakeInfo`](super::HandshakeInfo).
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    /// The compression that the handshake agreed on.
    pub(crate) deflation: Option<Deflation>,
    /// While nothing is read, the stream has to be asked whether its peer has gone: a stream of
    /// HTTP/2 that was reset wakes nobody.
    pub(crate) probes: bool,
}

impl Setup {
    /// Takes a configuration, for a stream of its own without extensions.
    pub(crate) const fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            deflation: None,
            probes: false,
        }
    }
}

/// A connection that is ready to be served.
#[derive(Debug)]
pub(crate) struct Served<IO> {
    pub(crate) io: IO,
    /// What was read of it already.
    pub(crate) early: Bytes,
    pub(crate) link: Arc<Link>,
    pub(crate) setup: Setup,
}
