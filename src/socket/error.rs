//! The errors of receiving and sending.

use std::{error::Error, fmt, io};

use crate::words::{BoxError, Message};

/// Why [`WebSocket::recv`](crate::WebSocket::recv) could not deliver another message.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The peer broke a framing rule (RFC 6455 §5), or sent compressed data that is not a deflate
    /// stream (RFC 7692). A Close with 1002 has been sent.
    Protocol(BoxError),
    /// A text message, or the reason of a Close, is not UTF-8 (RFC 6455 §8.1). A Close with 1007
    /// has been sent.
    InvalidUtf8,
    /// A message or frame is larger than
    /// [`Config::max_message_size`](crate::Config::max_message_size) or
    /// [`max_frame_size`](crate::Config::max_frame_size). A Close with 1009 has been sent.
    TooLarge,
    /// A message has more fragments than
    /// [`Config::max_fragments`](crate::Config::max_fragments). A Close with 1008 has been sent.
    TooManyFragments,
    /// A compressed message has more final blocks with almost no data before them than
    /// `Config::deflate` allows (RFC 7692 §7.2.3.4). A Close with 1008 has been sent.
    TooManyFinalBlocks,
    /// A message took longer to arrive than
    /// [`Config::assembly_timeout`](crate::Config::assembly_timeout). A Close with 1008 has been
    /// sent.
    TooSlow,
    /// The peer sent more messages or bytes than
    /// [`Config::max_message_rate`](crate::Config::max_message_rate) or
    /// [`max_byte_rate`](crate::Config::max_byte_rate) allows. A Close with 1008 has been sent.
    TooFast,
    /// The peer sent more pings and pongs than
    /// [`Config::max_control_frames`](crate::Config::max_control_frames) allows. A Close with 1008
    /// has been sent.
    TooManyControlFrames,
    /// The peer sent no message within
    /// [`Config::first_message_timeout`](crate::Config::first_message_timeout). A Close with 1008
    /// has been sent.
    NoFirstMessage,
    /// The inbox was full, and the handler received no message for
    /// [`Config::receive_timeout`](crate::Config::receive_timeout). A Close with 1008 has been
    /// sent.
    NotReceived,
    /// The peer did not answer a ping within [`Config::keepalive`](crate::Config::keepalive). The
    /// connection is gone.
    Unresponsive,
    /// The peer read nothing of the output for
    /// [`Config::write_timeout`](crate::Config::write_timeout). The connection is gone.
    Stalled,
    /// The connection is gone without a closing handshake.
    ///
    /// The kind is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the stream just ended, for
    /// example because a browser was killed. A Close with 1002 is still sent, because the peer may
    /// have ended only its own half. The kind is
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) if this side gave up the connection,
    /// for example at the end of its runtime.
    Io(io::Error),
}

impl RecvError {
    pub(crate) const fn text(&self) -> &'static str {
        match self {
            Self::Protocol(_) => "the peer broke the websocket protocol",
            Self::InvalidUtf8 => "the peer sent text that is not utf-8",
            Self::TooLarge => "the peer sent a message over the size limit",
            Self::TooManyFragments => "the peer sent a message in too many fragments",
            Self::TooManyFinalBlocks => {
                "the peer sent a compressed message with too many final blocks"
            }
            Self::TooSlow => "the peer took too long to send a message",
            Self::TooFast => "the peer sent too many messages, or too many bytes",
            Self::TooManyControlFrames => "the peer sent too many pings or pongs",
            Self::NoFirstMessage => "the peer sent no first message in time",
            Self::NotReceived => "the handler received no message in time",
            Self::Unresponsive => "the peer did not answer a ping in time",
            Self::Stalled => "the peer did not read in time",
            Self::Io(_) => "the connection is gone",
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error for RecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Protocol(source) => Some(&**source),
            Self::Io(source) => Some(source),
            _ => None,
        }
    }
}

/// Why [`WebSocket::send`](crate::WebSocket::send) did not queue a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is closing or gone. No later message can be sent.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl Error for SendError {}

/// An error of a connection as a `Stream` or a `Sink` of messages.
///
/// Streams and sinks have the same error type, so that a stream can be forwarded to a sink. The methods return a
/// [`RecvError`] or a [`SendError`] instead. Text and source are those of the inner error.
///
/// # Examples
///
/// ```
/// use futures_util::StreamExt;
/// use tower_websocket::{BoxError, WebSocket};
///
/// async fn echo(socket: WebSocket) -> Result<(), BoxError> {
///     let (write, read) = socket.into_split();
///     read.forward(write).await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SocketError {
    /// Receiving failed. No later message will come.
    Recv(RecvError),
    /// Sending failed.
    Send(SendError),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recv(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
        }
    }
}

impl Error for SocketError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Recv(error) => error.source(),
            Self::Send(error) => error.source(),
        }
    }
}

impl From<RecvError> for SocketError {
    fn from(error: RecvError) -> Self {
        Self::Recv(error)
    }
}

impl From<SendError> for SocketError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

/// Why [`WebSocket::try_recv`](crate::WebSocket::try_recv) returned no message.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryRecvError {
    /// No complete message has arrived.
    Empty,
    /// The connection was closed by either side. No message will come.
    Ended,
    /// No message will come, for this reason. Later calls return [`Ended`](Self::Ended).
    Failed(RecvError),
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no message has arrived"),
            Self::Ended => f.write_str("the connection has ended"),
            Self::Failed(_) => f.write_str("receiving failed"),
        }
    }
}

impl Error for TryRecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(fault) => Some(fault),
            Self::Empty | Self::Ended => None,
        }
    }
}

/// Why [`Sender::try_send`](crate::Sender::try_send) did not queue a message. It returns the
/// message.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room until more output is written
    /// ([`Config::max_outbox`](crate::Config::max_outbox)), or other tasks wait for room.
    Full(Message),
    /// The connection is closing or gone. No later message can be sent.
    Closed(Message),
}

impl TrySendError {
    /// Returns the message.
    #[must_use]
    pub fn into_message(self) -> Message {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

// The message is left out: errors are logged, and messages are the users' secrets.
impl fmt::Debug for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "no room for another message",
            Self::Closed(_) => "the connection is closed",
        })
    }
}

impl Error for TrySendError {}

/// Why [`WebSocket::send_timeout`](crate::WebSocket::send_timeout) did not queue a message. It returns the message.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum SendTimeoutError {
    /// There was no room in time ([`Config::max_outbox`](crate::Config::max_outbox)): the peer reads too slowly, or
    /// other tasks wait for room.
    Timeout(Message),
    /// The connection is closing or gone. No later message can be sent.
    Closed(Message),
}

impl SendTimeoutError {
    /// Returns the message.
    #[must_use]
    pub fn into_message(self) -> Message {
        match self {
            Self::Timeout(message) | Self::Closed(message) => message,
        }
    }
}

// The message is left out: errors are logged, and messages are the users' secrets.
impl fmt::Debug for SendTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "Timeout(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl fmt::Display for SendTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "no room for another message in time",
            Self::Closed(_) => "the connection is closed",
        })
    }
}

impl Error for SendTimeoutError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_source_out_of_the_message() {
        let error = RecvError::Io(io::Error::other("cable cut"));
        assert!(!error.to_string().contains("cable cut"));
        assert_eq!(error.source().unwrap().to_string(), "cable cut");
    }
}
