//! The facts about a connection that its opening handshake decides, and the values that the application gave it.

use crate::handshake::{Carried, HandshakeRequest, Identity};

/// The facts about a connection that its opening handshake decides. They are kept until the last handle to the
/// connection is dropped.
#[derive(Debug, Default)]
pub(crate) struct HandshakeInfo {
    /// The name of the handler in warnings.
    pub(crate) handler: &'static str,
    pub(crate) request: HandshakeRequest,
    pub(crate) subprotocol: Option<Box<str>>,
}

/// The values that the application gave to a socket. They are dropped with the socket, even if a `Sender` is kept.
// Boxed because most sockets have none.
#[derive(Debug, Default)]
pub(crate) struct Values(Option<Box<(Carried, Identity)>>);

impl Values {
    pub(crate) fn new(carried: Carried, identity: Identity) -> Self {
        let is_empty = carried.is_empty() && identity.is_empty();
        Self((!is_empty).then(|| Box::new((carried, identity))))
    }

    pub(super) fn take_carried<T: Send + 'static>(&mut self) -> Option<T> {
        let (carried, _) = self.0.as_deref_mut()?;
        carried.take()
    }

    pub(super) fn identity<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let (_, identity) = self.0.as_deref()?;
        identity.get()
    }

    /// Returns another handle to the identity.
    pub(crate) fn shared_identity(&self) -> Identity {
        let values = self.0.as_deref();
        values.map_or_else(Identity::default, |(_, identity)| identity.clone())
    }
}
