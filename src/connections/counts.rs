//! What connections have done, in numbers.

use std::collections::BTreeMap;

use crate::words::{CloseCode, Side};

/// How many connections a shutdown ended, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that ended with a closing handshake, and whose handler returned.
    pub clean: u64,
    /// Connections that did not: their peer was gone or did not answer in time, or the handler was
    /// still running when the time was over.
    pub aborted: u64,
}

/// What the connections of a layer have done, counted since their [`Connections`](crate::Connections) was made.
///
/// Traffic is that of data messages: payloads, without frame heads and control frames.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections and handshakes that are open now.
    pub open: usize,
    /// Handlers that go on after their connection is over, for at most
    /// [`Config::handler_grace`](crate::Config::handler_grace).
    pub lingering: usize,
    /// Handlers so far that returned while their [`WebSocket`](crate::WebSocket) lived on elsewhere, and kept
    /// the connection open.
    pub handed_on: u64,
    /// Handshakes that were answered with 101, or over HTTP/2 with 200.
    pub accepted: u64,
    /// Handshakes that were refused, by [`HandshakeError::label`](crate::error::HandshakeError::label).
    pub refused: BTreeMap<&'static str, u64>,
    /// Connections that ended, by who ended them and with which code.
    pub closed: BTreeMap<(Side, Option<CloseCode>), u64>,
    /// Messages that arrived.
    pub messages_received: u64,
    /// Bytes of messages that arrived.
    pub bytes_received: u64,
    /// Messages that were sent.
    pub messages_sent: u64,
    /// Bytes of messages that were sent.
    pub bytes_sent: u64,
}
