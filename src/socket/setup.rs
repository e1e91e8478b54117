//! The facts and parts of a connection that is about to be served.

use std::sync::Arc;

use bytes::Bytes;

use super::link::Link;
use crate::{codec::Deflation, config::Config};

/// Settings of a connection that are fixed before it is served.
///
/// To add a setting, add a field here: the code that opens the connection sets it, the driver reads
/// it, and the code in between passes the struct on. Facts for the holder of the `WebSocket` are in
/// [`HandshakeInfo`](super::HandshakeInfo).
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    /// The compression that the handshake agreed on.
    pub(crate) deflation: Option<Deflation>,
    /// Whether to ask the stream, while nothing is read, if its peer has gone. An HTTP/2 stream
    /// needs it: a reset wakes no task.
    pub(crate) probes: bool,
}

impl Setup {
    /// Makes the setup of a stream without extensions.
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
    /// Bytes that were read from `io` before.
    pub(crate) early: Bytes,
    pub(crate) link: Arc<Link>,
    pub(crate) setup: Setup,
}
