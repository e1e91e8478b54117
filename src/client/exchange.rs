//! Sends the request and reads the answer, with hyper's client.

use std::{
    future::{Future, poll_fn},
    io::ErrorKind,
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
    task::unconstrained,
    time::{Instant, timeout_at},
};

use super::{ConnectError, names::CanonicalNames};

/// The minimum read buffer that hyper accepts, in bytes.
const MIN_BUFFER: usize = 8 * 1024;
/// The maximum that is read of a refusal's body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The limits on the head of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) bytes: usize,
    pub(super) fields: usize,
}

/// A 101 and its stream.
#[derive(Debug)]
pub(super) struct Switched<IO> {
    pub(super) response: Response<()>,
    pub(super) io: IO,
    /// The bytes after the head that have already been read.
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
    // An empty string is sent as no body.
    let request = request.map(|()| String::new());
    let late = |_| ConnectError::TimedOut;
    let (mut sender, connection) = Builder::new()
        .max_buf_size(limits.bytes.max(MIN_BUFFER))
        .max_header_size(limits.bytes)
        .max_headers(limits.fields)
        .title_case_headers(true)
        .handshake(TokioIo::new(CanonicalNames::new(io)))
        .await
        .map_err(ConnectError::of_exchange)?;
    let mut wire = Wire {
        connection,
        is_over: false,
    };
    let response = wire.run_until(sender.send_request(request));
    let response = timeout_at(deadline, response).await.map_err(late)?;
    let response = match response.and_then(|sent| sent.map_err(ConnectError::of_exchange)) {
        Ok(response) => response,
        Err(error) => return Err(wire.explain(error)),
    };
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        timeout_at(deadline, wire.run_to_end())
            .await
            .map_err(late)??;
        // hyper's values there need hyper's connection, which ends here.
        head.extensions.clear();
        let parts = wire.connection.into_parts();
        return Ok(Switched {
            response: Response::from_parts(head, ()),
            io: parts.io.into_inner().into_inner(),
            early: parts.read_buf,
        });
    }
    let mut read = Vec::new();
    // Errors are ignored: the status matters more than the rest of the body.
    let _ = timeout_at(deadline, wire.run_until(read_body(body, &mut read))).await;
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

/// hyper's connection. It makes progress only in the methods below.
struct Wire<IO: AsyncRead + AsyncWrite + Unpin> {
    connection: Connection<TokioIo<CanonicalNames<IO>>, String>,
    is_over: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire<IO> {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        if !self.is_over {
            let result = ready!(self.connection.poll_without_shutdown(cx));
            self.is_over = true;
            result.map_err(ConnectError::of_exchange)?;
        }
        Poll::Ready(Ok(()))
    }

    async fn run_to_end(&mut self) -> Result<(), ConnectError> {
        poll_fn(|cx| self.poll_end(cx)).await
    }

    /// Replaces the error for an answer that is not HTTP, if the answer begins like TLS.
    fn explain(self, error: ConnectError) -> ConnectError {
        // hyper leaves bytes that it cannot parse in the buffer.
        let read = self.connection.into_parts().read_buf;
        if matches!(error, ConnectError::InvalidResponse(_)) && is_tls(&read) {
            return ConnectError::response(
                "the server seems to speak TLS: use a wss:// URL, or give an encrypted stream to \
                 connect_with",
            );
        }
        error
    }

    /// Runs the connection until `future` is ready. Fails if the connection ends and `future` is still pending.
    async fn run_until<F: Future>(&mut self, future: F) -> Result<F::Output, ConnectError> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let end = self.poll_end(cx)?;
            poll_before(end, future.as_mut(), cx)
        })
        .await
    }
}

/// Returns whether bytes begin with a TLS alert or handshake record (RFC 8446 §5.1).
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, ..])
}

/// Polls `future`, and fails if it is pending although the connection has ended.
fn poll_before<F: Future>(
    end: Poll<()>,
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, ConnectError>> {
    if end.is_pending() {
        return future.poll(cx).map(Ok);
    }
    // hyper sends the answer through a channel of tokio. The channel would be pending, with the answer in it, if the
    // connection had used up the task's budget.
    match pin!(unconstrained(future)).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => Poll::Ready(Err(ConnectError::Io(ErrorKind::UnexpectedEof.into()))),
    }
}
