//! A socket as a stream of bytes.

use std::{
    error::Error,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{RecvError, SendError, WebSocket};
use crate::words::{BoxError, CloseCode, CloseFrame, Message};

/// The most bytes of one message.
const MAX_MESSAGE: usize = 64 * 1024;

/// A [`WebSocket`] as a stream of bytes: `AsyncRead` and `AsyncWrite` over binary messages.
/// [`WebSocket::into_io`] makes it.
///
/// Use it for tunnels and for protocols that run on any stream. The limits of
/// [`Config`](crate::Config) apply to each message, not to the stream.
///
/// **Reading** joins the messages. The borders between them are lost, and empty messages are
/// skipped. A read ends
///
/// | after | with |
/// | --- | --- |
/// | a Close of the peer with 1000, 1001 or without a code | the end of the stream, 0 bytes |
/// | [`shutdown`](tokio::io::AsyncWriteExt::shutdown) here | the end of the stream, 0 bytes |
/// | a Close of the peer with another code | `ConnectionAborted`, around the [`CloseFrame`] |
/// | a Close of this side, such as a shutdown of the server | `ConnectionAborted`, around the [`CloseFrame`] |
/// | a text message; a Close with 1003 is sent | `InvalidData` |
/// | a message that breaks a rule or a limit | `InvalidData`, around the [`RecvError`] |
/// | a timeout of [`Config`](crate::Config) | `TimedOut`, around the [`RecvError`] |
/// | the loss of the connection | the kind of [`RecvError::Io`], around it |
///
/// Bytes that arrived before a Close of the peer are read first. Later reads return the same end or
/// the same kind of error again.
///
/// **Writing** sends each write as one message of at most 64 KiB. A larger write is a short one, and
/// `write_all` continues it. A vectored write is one message as well. Wrap it in a
/// [`BufWriter`](tokio::io::BufWriter) if many small writes belong together: a message costs at
/// least 2 bytes, or 6 for a client. A write waits for room in
/// [`Config::max_outbox`](crate::Config::max_outbox), and fails with `BrokenPipe` once the
/// connection is closing. A flush waits until all messages are written to the network.
///
/// **Closing.** A shutdown sends a Close with 1000 behind everything that was written, and waits for
/// the end of the connection. A WebSocket has no half-close: bytes of the peer that were not read by
/// then are discarded. If one side of a protocol answers after the end of the other side's data, the
/// protocol has to mark that end itself. Dropping the stream drops the
/// `WebSocket`, which closes with 1000 as well. To tell the peer that the data is incomplete, close
/// with another code first, by the [`Sender`](crate::Sender) of [`get_ref`](Self::get_ref).
///
/// # Cancel safety
///
/// A dropped `read` or `write` has read or written nothing. `tokio::io::split` makes two halves for
/// two tasks.
///
/// # Examples
///
/// A tunnel to a TCP server. tokio's own buffers would make messages of 8 KiB:
///
/// ```
/// use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream};
/// use tower_websocket::{Error, WebSocket};
///
/// async fn tunnel(socket: WebSocket) -> Result<(), Error> {
///     let mut tcp = TcpStream::connect("127.0.0.1:22").await?;
///     let size = 64 * 1024;
///     copy_bidirectional_with_sizes(&mut socket.into_io(), &mut tcp, size, size).await?;
///     Ok(())
/// }
/// ```
///
/// Source: [RFC 6455 §5.6](https://www.rfc-editor.org/rfc/rfc6455#section-5.6).
pub struct ByteStream {
    socket: WebSocket,
    /// The rest of the message that is being read.
    rest: Bytes,
    end: Option<End>,
    is_shut_down: bool,
}

/// How the reading has ended.
#[derive(Clone, Copy)]
enum End {
    Eof,
    Failed(io::ErrorKind),
}

impl WebSocket {
    /// Makes a stream of bytes: `AsyncRead` and `AsyncWrite` over binary messages.
    ///
    /// [`ByteStream`] describes how messages, Closes and errors are mapped.
    #[must_use = "dropping it closes the connection"]
    pub fn into_io(self) -> ByteStream {
        ByteStream {
            socket: self,
            rest: Bytes::new(),
            end: None,
            is_shut_down: false,
        }
    }
}

impl ByteStream {
    /// Returns the socket, for example for its [`sender`](WebSocket::sender).
    #[must_use]
    pub const fn get_ref(&self) -> &WebSocket {
        &self.socket
    }

    /// Waits until bytes can be read. Ready with `false` at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.rest.is_empty() {
            match self.end {
                None => {}
                Some(End::Eof) => return Poll::Ready(Ok(false)),
                Some(End::Failed(kind)) => return Poll::Ready(Err(kind.into())),
            }
            match ready!(self.socket.link.poll_recv(cx)) {
                Ok(Some(Message::Binary(bytes))) => self.rest = bytes,
                Ok(Some(Message::Text(_))) => {
                    let code = CloseCode::UNSUPPORTED_DATA;
                    let frame = CloseFrame::truncated(code, "text in a stream of bytes");
                    self.socket.link.close(frame);
                    return Poll::Ready(Err(self.fail(io::ErrorKind::InvalidData, TextInStream)));
                }
                Ok(None) => self.end()?,
                Err(error) => return Poll::Ready(Err(self.fail(kind_of(&error), error))),
            }
        }
        Poll::Ready(Ok(true))
    }

    fn skip(&mut self, len: usize) {
        self.rest.advance(len);
        if self.rest.is_empty() {
            // An empty slice would keep the memory of its message.
            self.rest = Bytes::new();
        }
    }

    /// Records how the stream has ended, when the closing handshake has begun.
    fn end(&mut self) -> io::Result<()> {
        let peer_close = self.socket.link.peer_close();
        let is_end = match &peer_close {
            None => self.is_shut_down,
            Some(None) => true,
            Some(Some(frame)) => [CloseCode::NORMAL, CloseCode::GOING_AWAY].contains(&frame.code()),
        };
        if is_end {
            self.end = Some(End::Eof);
            return Ok(());
        }
        let kind = io::ErrorKind::ConnectionAborted;
        Err(match self.socket.close_frame() {
            Some(frame) => self.fail(kind, frame),
            None => self.fail(kind, "the connection is closed"),
        })
    }

    fn fail(&mut self, kind: io::ErrorKind, error: impl Into<BoxError>) -> io::Error {
        self.end = Some(End::Failed(kind));
        io::Error::new(kind, error)
    }

    /// Sends up to `MAX_MESSAGE` of `len` bytes as one message, once there is room for it.
    fn poll_send(
        &mut self,
        len: usize,
        cx: &mut Context<'_>,
        payload: impl FnOnce(usize) -> Bytes,
    ) -> Poll<io::Result<usize>> {
        let len = len.min(MAX_MESSAGE);
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let link = &self.socket.link;
        ready!(link.poll_room(len, cx)).map_err(broken_pipe)?;
        let message = Message::Binary(payload(len));
        Poll::Ready(link.push(message).map_err(broken_pipe).map(|()| len))
    }
}

/// The peer has sent a text message in a stream of bytes.
#[derive(Debug)]
pub(super) struct TextInStream;

impl fmt::Display for TextInStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer sent text in a stream of bytes")
    }
}

impl Error for TextInStream {}

fn broken_pipe(error: SendError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

fn kind_of(error: &RecvError) -> io::ErrorKind {
    match error {
        RecvError::Io(error) => error.kind(),
        RecvError::TooSlow
        | RecvError::NoFirstMessage
        | RecvError::NotReceived
        | RecvError::Unresponsive
        | RecvError::Stalled => io::ErrorKind::TimedOut,
        RecvError::Protocol(_)
        | RecvError::InvalidUtf8
        | RecvError::TooLarge
        | RecvError::TooManyFragments
        | RecvError::TooManyFinalBlocks
        | RecvError::TooFast
        | RecvError::TooManyControlFrames => io::ErrorKind::InvalidData,
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() > 0 && ready!(this.poll_fill(cx))? {
            let len = this.rest.len().min(buffer.remaining());
            buffer.put_slice(&this.rest[..len]);
            this.skip(len);
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads without a copy: a buffer is the rest of a message.
impl AsyncBufRead for ByteStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        Poll::Ready(Ok(&this.rest))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().skip(amount);
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let payload = |len| Bytes::copy_from_slice(&bytes[..len]);
        self.get_mut().poll_send(bytes.len(), cx, payload)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices
            .iter()
            .fold(0_usize, |all, slice| all.saturating_add(slice.len()));
        let payload = |len| {
            let mut payload = Vec::with_capacity(len);
            for slice in slices {
                let len = slice.len().min(len - payload.len());
                payload.extend_from_slice(&slice[..len]);
            }
            payload.into()
        };
        self.get_mut().poll_send(all, cx, payload)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.socket.link.poll_flushed(cx);
        flushed.map_err(broken_pipe)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let link = &this.socket.link;
        let frame = CloseFrame::without_reason(CloseCode::NORMAL);
        this.is_shut_down |= link.close_if_open(frame);
        link.poll_ended(cx).map_err(broken_pipe)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").finish_non_exhaustive()
    }
}
