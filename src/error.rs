//! What can go wrong, one type per operation that fails.

// Each type stands beside its operation. A type that exists only with a feature is exported by the
// module of that feature alone.
pub use crate::{
    connections::AdmitError,
    handshake::HandshakeError,
    socket::{RecvError, SendError, TryRecvError, TrySendError},
    words::{BoxError, Error, InvalidClose, NotText},
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_bounds_of_boxed_errors() {
        fn boxed(_: impl Into<BoxError>) {}
        boxed(HandshakeError::InvalidKey);
        boxed(RecvError::InvalidUtf8);
        boxed(SendError::Closed);
        boxed(InvalidClose::Code { code: 1006 });
        boxed(NotText);
        boxed(Error::from(NotText));
    }
}
