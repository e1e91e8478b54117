//! The Close for a handler's error, and who caused the error.

use std::{error::Error, io};

use super::{
    byte_stream::TextInStream,
    error::{RecvError, SendError, SendTimeoutError, SocketError, TryRecvError, TrySendError},
    report,
};
#[cfg(feature = "json")]
use crate::words::JsonFault;
use crate::words::{BoxError, CloseCode, CloseFrame, NotText};

/// The most errors of a chain that are read, in case it is endless.
const MAX_CHAIN: usize = 128;

/// Logs a handler's error, and returns the Close for it.
pub(super) fn close_frame_of(error: BoxError) -> CloseFrame {
    let error = match error.downcast::<CloseFrame>() {
        Ok(frame) => return *frame,
        Err(error) => error,
    };
    let fault = chain(&*error).find_map(fault_of_peer);
    report::handler_failed(&error, fault.is_some());
    fault.unwrap_or_else(|| CloseFrame::without_reason(CloseCode::INTERNAL_ERROR))
}

/// Returns an error and its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match wrapped(error) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    })
    .take(MAX_CHAIN)
}

/// Returns the error that an `io::Error` wraps. It is not the error's source.
fn wrapped<'a>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a (dyn Error + Send + Sync + 'static)> {
    error.downcast_ref::<io::Error>()?.get_ref()
}

/// Returns the Close for an error that the peer causes: the connection has ended or has no room, or a message is not of
/// the expected kind or shape.
fn fault_of_peer(error: &(dyn Error + 'static)) -> Option<CloseFrame> {
    #[cfg(feature = "json")]
    if let Some(fault) = error.downcast_ref::<JsonFault>() {
        return Some(fault.close_frame());
    }
    if let Some(fault) = error.downcast_ref::<NotText>() {
        let code = CloseCode::UNSUPPORTED_DATA;
        return Some(CloseFrame::truncated(code, fault.to_string()));
    }
    let is_of_connection = error.is::<RecvError>()
        || error.is::<SendError>()
        || error.is::<SendTimeoutError>()
        || error.is::<SocketError>()
        || error.is::<TextInStream>()
        || error.is::<TryRecvError>()
        || error.is::<TrySendError>()
        || is_end_of_stream(error);
    // This code is sent only if the connection is still open, which had no room. Otherwise the code is decided already.
    is_of_connection.then(|| CloseFrame::without_reason(CloseCode::INTERNAL_ERROR))
}

/// Returns whether an error is the Close that ended a [`ByteStream`](super::ByteStream).
fn is_end_of_stream(error: &(dyn Error + 'static)) -> bool {
    wrapped(error).is_some_and(|wrapped| wrapped.is::<CloseFrame>())
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error of the application, with a source.
    #[derive(Debug)]
    struct Wrapped(BoxError);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    /// An error whose source is itself.
    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("endless")
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    fn frame(error: impl Into<BoxError>) -> String {
        close_frame_of(error.into()).to_string()
    }

    #[test]
    fn a_frame_is_sent_as_it_is() {
        let bye = CloseFrame::truncated(CloseCode::of::<4401>(), "bye");
        assert_eq!(frame(bye), "4401 (bye)");
    }

    #[test]
    fn other_errors_are_the_handlers() {
        assert_eq!(frame("no reason"), "1011");
        assert_eq!(frame(Endless), "1011");
    }

    #[test]
    fn a_message_of_the_wrong_kind_is_the_peers_fault() {
        let expected = "1003 (the message is binary, not text)";
        assert_eq!(frame(NotText), expected);
        assert_eq!(frame(Wrapped(NotText.into())), expected);
        assert_eq!(frame(io::Error::other(NotText)), expected);
    }

    #[test]
    fn a_fault_of_the_peer_is_found_under_many_layers_of_context() {
        let wrap = |error, _| Wrapped(error).into();
        let deep = (0..40).fold(BoxError::from(NotText), wrap);
        assert_eq!(frame(deep), "1003 (the message is binary, not text)");
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_message_that_is_not_the_expected_json_is_the_peers_fault() {
        use crate::words::Message;

        for (message, expected) in [
            (
                Message::binary("7"),
                "1003 (the message is binary, not text)",
            ),
            (Message::text("{"), "1007 (invalid json at line 1 column 1)"),
            (
                Message::text("true"),
                "1008 (unexpected shape of the json at line 1 column 4)",
            ),
        ] {
            let fault = || message.parse_json::<u8>().unwrap_err();
            assert_eq!(frame(fault()), expected);
            assert_eq!(frame(Wrapped(fault().into())), expected);
            assert_eq!(frame(io::Error::other(fault())), expected);
        }
    }
}
