//! A client of HTTP/2 that opens streams by hand, and servers for it.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{
    Reason, RecvStream, SendStream,
    client::{self, SendRequest},
    ext::Protocol,
};
use http::{HeaderMap, Method, Request, StatusCode, Version, request};
use hyper::{body::Incoming, rt::bounds::Http2ServerConnExec, server::conn::http2};
#[cfg(not(feature = "http2"))]
use hyper_util::rt::TokioExecutor as Http2Executor;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::{TowerToHyperService, TowerToHyperServiceFuture},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    task::JoinHandle,
};
#[cfg(feature = "http2")]
use tower_websocket::Http2Executor;

use super::{
    pipe::HttpService,
    wire::{self, FIN, TEXT},
};

/// The bytes that a pipe holds in each direction: about as many as a socket.
const PIPE: usize = 64 * 1024;

/// The settings that the documentation recommends.
pub(crate) fn server<E: Clone>(executor: E) -> http2::Builder<E> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(200)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(200 * 64 * 1024)
        .max_send_buf_size(64 * 1024);
    builder
}

/// Serves one connection over a pipe, and returns the client's end.
pub(crate) fn serve(service: impl HttpService) -> DuplexStream {
    let (near, far) = duplex(PIPE);
    serve_on(near, service);
    far
}

/// Serves one connection over a stream.
pub(crate) fn serve_on<IO>(io: IO, service: impl HttpService) -> JoinHandle<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_by(Http2Executor::new(), io, service)
}

/// Serves one connection over a stream, with the given executor.
pub(crate) fn serve_by<E, IO, S>(executor: E, io: IO, service: S) -> JoinHandle<()>
where
    E: Http2ServerConnExec<TowerToHyperServiceFuture<S, Request<Incoming>>, S::Body>,
    E: Send + Unpin + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService,
{
    let service = TowerToHyperService::new(service);
    let connection = server(executor).serve_connection(TokioIo::new(io), service);
    // Errors are ignored: the client sees how the connection ends.
    tokio::spawn(async { drop(connection.await) })
}

/// A client's connection, on which tunnels are opened.
#[derive(Clone)]
pub(crate) struct Session(SendRequest<Bytes>);

impl Session {
    /// Serves a service over a pipe, and connects to it.
    pub(crate) async fn to(service: impl HttpService) -> Self {
        Self::new(serve(service)).await
    }

    /// Sends the preface, and waits until the server has allowed the extended CONNECT.
    pub(crate) async fn new(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self::with(&client::Builder::new(), io).await
    }

    /// Like [`new`](Self::new), with the given settings of the client.
    pub(crate) async fn with(
        settings: &client::Builder,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (send, connection) = settings.handshake(io).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        let mut send = send.ready().await.unwrap();
        while !send.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
            send = send.ready().await.unwrap();
        }
        Self(send)
    }

    /// Sends a request. The stream of a CONNECT is left open.
    pub(crate) async fn send(&self, request: request::Builder) -> Pending {
        let mut send = self.0.clone().ready().await.unwrap();
        let request = request.version(Version::HTTP_2).body(()).unwrap();
        let is_whole = request.method() != Method::CONNECT;
        let (response, stream) = send.send_request(request, is_whole).unwrap();
        Pending { response, stream }
    }

    /// Sends a request, and waits for its answer. The tunnel has the answer.
    pub(crate) async fn ask(&self, request: request::Builder) -> Tunnel {
        self.send(request).await.answer().await.unwrap()
    }

    /// Opens a WebSocket, and asserts that it is accepted.
    pub(crate) async fn open(&self) -> Tunnel {
        let tunnel = self.ask(connect()).await;
        assert_eq!(tunnel.status, StatusCode::OK);
        tunnel
    }
}

/// Returns a handshake as browsers send it.
pub(crate) fn connect() -> request::Builder {
    bare_connect("websocket").header("sec-websocket-version", "13")
}

/// Returns an extended CONNECT without header fields.
pub(crate) fn bare_connect(protocol: &'static str) -> request::Builder {
    Request::connect("https://example.com/ws").extension(Protocol::from_static(protocol))
}

/// A request that is not answered yet.
pub(crate) struct Pending {
    response: client::ResponseFuture,
    stream: SendStream<Bytes>,
}

impl Pending {
    pub(crate) async fn answer(self) -> Result<Tunnel, h2::Error> {
        let (head, incoming) = self.response.await?.into_parts();
        Ok(Tunnel {
            status: head.status,
            headers: head.headers,
            outgoing: self.stream,
            incoming,
            read: Bytes::new(),
        })
    }

    /// Sends bytes before the answer has arrived.
    pub(crate) fn followed_by(mut self, bytes: &[u8]) -> Self {
        let data = Bytes::copy_from_slice(bytes);
        self.stream.send_data(data, false).unwrap();
        self
    }

    pub(crate) fn reset(mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}

/// One stream of a session: its answer, and its bytes.
///
/// Dropping it resets the stream, unless both sides have ended it. Writes are queued without a limit. Read bytes are
/// returned to the server's window.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    outgoing: SendStream<Bytes>,
    incoming: RecvStream,
    read: Bytes,
}

impl Tunnel {
    /// Returns the names of all fields but `date`, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let names = self.headers.keys().map(|name| name.as_str());
        let mut names: Vec<_> = names.filter(|name| *name != "date").collect();
        names.sort_unstable();
        names
    }

    /// Sends a text, and asserts that it is echoed.
    pub(crate) async fn echoes(&mut self, text: &str) {
        wire::write(self, &wire::frame(FIN | TEXT, text.as_bytes())).await;
        let echoed = wire::read_frame(self).await.unwrap();
        assert_eq!(echoed.first, FIN | TEXT);
        assert_eq!(echoed.payload, text.as_bytes());
    }

    pub(crate) fn reset(&mut self, reason: Reason) {
        self.outgoing.send_reset(reason);
    }

    /// Ends this side's half of the stream.
    pub(crate) fn end(&mut self) {
        self.outgoing.send_data(Bytes::new(), true).unwrap();
    }

    /// Waits until the server has reset the stream, and returns the code.
    pub(crate) async fn was_reset(&mut self) -> Reason {
        std::future::poll_fn(|cx| self.outgoing.poll_reset(cx))
            .await
            .unwrap()
    }

    /// Reads the rest of a body.
    pub(crate) async fn text(&mut self) -> String {
        let mut text = Vec::new();
        while let Some(data) = self.incoming.data().await {
            text.extend(data.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    /// Returns `len` bytes to the server's window.
    pub(crate) fn release(&mut self, len: usize) {
        self.incoming.flow_control().release_capacity(len).unwrap();
    }

    /// Reads the next bytes, without returning them to the server's window.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        self.incoming.data().await
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match ready!(self.incoming.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(data) => {
                    self.read = data.map_err(io::Error::other)?;
                    let len = self.read.len();
                    self.incoming.flow_control().release_capacity(len).unwrap();
                }
            }
        }
        let len = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..len]);
        self.read.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let data = Bytes::copy_from_slice(bytes);
        let sent = self.outgoing.send_data(data, false);
        Poll::Ready(sent.map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.outgoing.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
