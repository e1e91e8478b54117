//! The request and its answer on the wire, by hyper's client.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{ConnectError, names::Names};

/// The least read buffer that hyper takes, in bytes.
const LEAST_BUFFER: usize = 8 * 1024;
/// The most that is read of a refusal's body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The most that the head of an answer may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) bytes: usize,
    pub(super) fields: usize,
}

/// A 101: its head, the stream, and what has been read from it behind the head.
#[derive(Debug)]
pub(super) struct Switched<IO> {
    pub(super) response: Response<()>,
    pub(super) io: IO,
    pub(super) early: Bytes,
}

/// Sends a request and waits for a 101.
pub(super) async fn exchange<IO>(
    io: IO,
    request: Request<()>,
    limits: HeadLimits,
    deadline: Instant,
) -> Result<Switched<IO>, ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Without a body, which an empty string is.
    let request = request.map(|()| String::new());
    let late = |_| ConnectError::TimedOut;
    let (mut sender, connection) = Builder::new()
        .max_buf_size(limits.bytes.max(LEAST_BUFFER))
        .max_header_size(limits.bytes)
        .max_headers(limits.fields)
        .title_case_headers(true)
        .handshake(TokioIo::new(Names::new(io)))
        .await
        .map_err(ConnectError::of_exchange)?;
    let mut wire = Wire {
        connection,
        is_over: false,
    };
    let response = wire.along(sender.send_request(request));
    let response = timeout_at(deadline, response).await.map_err(late)?;
    let response = match response.and_then(|sent| sent.map_err(ConnectError::of_exchange)) {
        Ok(response) => response,
        Err(error) => return Err(wire.explain(error)),
    };
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        timeout_at(deadline, wire.over()).await.map_err(late)??;
        // What hyper put there is of no use without it.
        head.extensions.clear();
        let parts = wire.connection.into_parts();
        return Ok(Switched {
            response: Response::from_parts(head, ()),
            io: parts.io.into_inner().into_inner(),
            early: parts.read_buf,
        });
    }
    let mut read = Vec::new();
    // Whatever became of the rest: the status says more than it.
    let _ = timeout_at(deadline, wire.along(read_body(body, &mut read))).await;
    let response = Response::from_parts(head, Bytes::from(read));
    Err(ConnectError::Refused(Box::new(response)))
}

async fn read_body(body: Incoming, read: &mut Vec<u8>) {
    let mut body = pin!(body);
    while read.len() < MAX_BODY {
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else { return };
        if let Ok(data) = frame.into_data() {
            let room = MAX_BODY - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
}

/// The connection, which is only served while somebody waits for something from it.
struct Wire<IO: AsyncRead + AsyncWrite + Unpin> {
    connection: Connection<TokioIo<Names<IO>>, String>,
    is_over: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire<IO> {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        if !self.is_over {
            let result = ready!(self.connection.poll_without_shutdown(cx));
            self.is_over = true;
            result.map_err(ConnectError::of_exchange)?;
        }
        Poll::Ready(Ok(()))
    }

    async fn over(&mut self) -> Result<(), ConnectError> {
        poll_fn(|cx| self.poll_over(cx)).await
    }

    /// Names TLS as the reason for which an answer is no HTTP, if its first bytes are those of TLS.
    fn explain(self, error: ConnectError) -> ConnectError {
        // Bytes that cannot be parsed are left in the buffer.
        let read = self.connection.into_parts().read_buf;
        if matches!(error, ConnectError::InvalidResponse(_)) && is_tls(&read) {
            return ConnectError::response(
                "the server seems to speak TLS: use a wss:// URL, or give an encrypted stream to \
                 connect_with",
            );
        }
        error
    }

    /// Serves the connection until `what` is ready; fails when that will never be.
    async fn along<F: Future>(&mut self, what: F) -> Result<F::Output, ConnectError> {
        let mut what = pin!(what);
        poll_fn(|cx| {
            let over = self.poll_over(cx)?;
            poll_along(what.as_mut(), over, cx)
        })
        .await
    }
}

/// Returns whether bytes begin with a record of TLS that is an alert or part of a handshake
/// (RFC 8446 §5.1).
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, ..])
}

fn poll_along<F: Future>(
    what: Pin<&mut F>,
    over: Poll<()>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, ConnectError>> {
    match what.poll(cx) {
        Poll::Pending if over.is_ready() => {
            let ended = io::ErrorKind::UnexpectedEof.into();
            Poll::Ready(Err(ConnectError::Io(ended)))
        }
        output => output.map(Ok),
    }
}
