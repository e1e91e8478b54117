//! The seam: turns the stream's bytes into messages and messages into bytes.
//!
//! Nothing above names what is inside, which today is tokio-tungstenite. It answers pings and the
//! peer's Close by itself; what it does not do, telling the peer of its violations, is left to the
//! driver.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        error::ProtocolError,
        protocol::{self, Role, WebSocketConfig},
    },
};

use crate::{
    close::{CloseCode, CloseFrame},
    config::Config,
    error::RecvError,
    message::{Message, Utf8Bytes},
};

/// Larger ones are zero-filled at every read, which costs more than the reads saved.
const READ_BUFFER: usize = 4 * 1024;
/// Frames are gathered up to this size before they are written, unless a flush asks for it.
const WRITE_BUFFER: usize = 16 * 1024;

/// What arrived.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(Message),
    /// A ping or pong, dealt with already.
    Control,
    /// The peer's Close. If it is the first one, the answer to it waits for a flush.
    Close,
    /// The end of the stream without a Close.
    End,
}

/// A stream that speaks frames.
#[derive(Debug)]
pub(super) struct Engine<IO> {
    stream: WebSocketStream<IO>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Engine<IO> {
    pub(super) async fn new(io: IO, config: &Config) -> Self {
        let limit = Some(config.message_limit());
        // The outgoing buffer is bounded above, where `send` can wait: here a bound would be an
        // error for a message that has been accepted.
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(limit)
            .max_frame_size(limit);
        Self {
            stream: WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await,
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, RecvError>> {
        Poll::Ready(Ok(match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            None => Incoming::End,
            Some(Ok(message)) => match message {
                protocol::Message::Text(text) => {
                    Incoming::Message(Message::Text(Utf8Bytes::from_engine(text)))
                }
                protocol::Message::Binary(bytes) => Incoming::Message(Message::Binary(bytes)),
                protocol::Message::Close(_) => Incoming::Close,
                _ => Incoming::Control,
            },
            Some(Err(tungstenite::Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake,
            ))) => Incoming::End,
            Some(Err(error)) => return Poll::Ready(Err(fault(error))),
        }))
    }

    /// Buffers a message; some of what is buffered may be written on the way.
    pub(super) fn write(&mut self, message: Message) -> io::Result<()> {
        let message = match message {
            Message::Text(text) => protocol::Message::Text(text.into_engine()),
            Message::Binary(bytes) => protocol::Message::Binary(bytes),
        };
        Pin::new(&mut self.stream)
            .start_send(message)
            .map_err(into_io)
    }

    /// Buffers a Close, the last frame that is written.
    pub(super) fn write_close(&mut self, frame: &CloseFrame) -> io::Result<()> {
        let frame = protocol::CloseFrame {
            code: frame.code().get().into(),
            reason: frame.reason().into(),
        };
        let message = protocol::Message::Close(Some(frame));
        Pin::new(&mut self.stream)
            .start_send(message)
            .map_err(into_io)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(into_io)
    }

    /// Ends the writing half of the stream, which leaves the reading half open.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }

    /// Reads bytes and throws them away, until there are no more.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waste = [0; READ_BUFFER];
        loop {
            let mut waste = ReadBuf::new(&mut waste);
            ready!(Pin::new(self.stream.get_mut()).poll_read(cx, &mut waste))?;
            if waste.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Returns what the peer is told about its violation, `None` if nothing can be told.
pub(super) fn close_code(fault: &RecvError) -> Option<CloseCode> {
    match fault {
        RecvError::Protocol(_) => Some(CloseCode::PROTOCOL_ERROR),
        RecvError::InvalidUtf8 => Some(CloseCode::INVALID_PAYLOAD),
        RecvError::TooLarge => Some(CloseCode::MESSAGE_TOO_BIG),
        RecvError::Io(_) => None,
    }
}

fn fault(error: tungstenite::Error) -> RecvError {
    match error {
        tungstenite::Error::Utf8(_) => RecvError::InvalidUtf8,
        tungstenite::Error::Capacity(_) => RecvError::TooLarge,
        tungstenite::Error::Protocol(error) => RecvError::Protocol(error.into()),
        error => RecvError::Io(into_io(error)),
    }
}

fn into_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}
