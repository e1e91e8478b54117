//! The error types, one for each operation that can fail.

// Each type is defined beside its operation. The module of a feature exports the types of that feature.
pub use crate::{
    connections::AdmitError,
    handshake::HandshakeError,
    socket::{
        RecvError, ReuniteError, SendError, SendTimeoutError, SocketError, TryRecvError,
        TrySendError,
    },
    words::{BoxError, Error, InvalidClose, NotText},
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_convert_into_boxed_errors() {
        fn boxed(_: impl Into<BoxError>) {}
        boxed(HandshakeError::InvalidKey);
        boxed(RecvError::InvalidUtf8);
        boxed(SendError::Closed);
        boxed(SocketError::Send(SendError::Closed));
        boxed(InvalidClose::Code { code: 1006 });
        boxed(NotText);
        boxed(Error::from(NotText));
    }
}
