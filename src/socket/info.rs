//! The facts about a connection that its opening handshake decides.

use crate::handshake::{HandshakeRequest, Identity};

/// The facts about a connection that its opening handshake decides. They are kept until the last handle to the
/// connection is dropped.
#[derive(Debug, Default)]
pub(crate) struct HandshakeInfo {
    /// The name of the handler in warnings.
    pub(crate) handler: &'static str,
    pub(crate) request: HandshakeRequest,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) identity: Identity,
}
