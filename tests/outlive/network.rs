//! The matrix over connections of the loopback interface.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    future::Future,
    io, mem,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tower_websocket::{Connections, Sender, WebSocketLayer};

use super::{BYE, Cell, End, Reading, Stream, assert_none, attempt, cells, handler::handler};
use crate::support::{pipe::Served, tcp, wire};

/// The number of connections that run at the same time. Most of them wait most of the time.
const AT_ONCE: usize = 64;
/// The interval of handlers that only send, and the time that slow handlers take for a message.
const TICK: Duration = Duration::from_millis(20);
/// Far more than any connection takes.
const GUARD: Duration = Duration::from_secs(60);

/// A kind of stream over TCP: how it is served and opened.
pub(crate) trait Kind: Send + Sync + 'static {
    const STREAM: Stream;
    /// The stream of the frames.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A value that has to live as long as the socket.
    type Session: Send + 'static;

    /// Spawns the tasks that serve one connection.
    fn serve(&self, stream: TcpStream, service: impl Served);

    /// Opens a WebSocket, which has to be accepted.
    fn open(&self, cable: Cable) -> impl Future<Output = (Self::Socket, Self::Session)> + Send;

    /// Writes bytes, and returns when all of them have left.
    fn write(
        &self,
        socket: &mut Self::Socket,
        _session: &mut Self::Session,
        bytes: &[u8],
    ) -> impl Future<Output = io::Result<()>> + Send {
        async {
            socket.write_all(bytes).await?;
            socket.flush().await
        }
    }
}

/// Tries all connections of the matrix, and names those that fail.
pub(crate) async fn run<K: Kind>(kind: K) {
    let kind = Arc::new(kind);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tries = JoinSet::new();
    for cell in cells(K::STREAM) {
        let (kind, permits) = (Arc::clone(&kind), Arc::clone(&permits));
        tries.spawn(async move {
            let _permit = permits.acquire().await.unwrap();
            attempt(cell, check(kind, cell)).await
        });
    }
    assert_none(tries.join_all().await.into_iter().flatten().collect());
}

/// Fails what does not come to its end.
pub(crate) async fn within<F: Future>(step: &str, future: F) -> F::Output {
    let output = timeout(GUARD, future).await;
    output.unwrap_or_else(|_| panic!("{step}: not after {GUARD:?}"))
}

async fn check<K: Kind>(kind: Arc<K>, cell: Cell) {
    let (handler, mut heard) = handler(cell.behaviour, TICK);
    let connections = Connections::new().max_connections(1);
    let layer = WebSocketLayer::new(handler)
        .config(cell.config())
        .connections_in(&connections)
        .max_per_key(1, |_| Some("everybody"));
    let server = Server::start(Arc::clone(&kind), layer.into_service()).await;
    let cable = Cable::connect(server.address).await;
    let (socket, session) = within("opening", kind.open(cable.clone())).await;
    let sender = within("the handler's begin", heard.opened()).await;
    let mut peer = Peer {
        kind: &*kind,
        cable,
        socket: Some(socket),
        session,
    };
    let read = within("the peer's part", peer.end(cell, &sender)).await;
    let closed = within("the connection's end", sender.closed()).await;
    within("the handler's end", connections.wait()).await;
    let counts = connections.counts();
    assert_eq!(
        (counts.open(), counts.lingering()),
        (0, 0),
        "open, lingering"
    );
    let moved = u64::from(cell.behaviour.moves());
    assert_eq!(counts.handed_on(), moved, "handed on");
    cell.assert_closed(&closed, read.as_ref());
    let seen = within("the last notes", heard.seen(cell.behaviour)).await;
    cell.assert_seen(&seen, cell.end.reads_on());
    // There is a place for another one, by number and by key.
    let another = Cable::connect(server.address).await;
    within("opening another one", kind.open(another)).await;
}

/// The client of a connection.
struct Peer<'a, K: Kind> {
    kind: &'a K,
    cable: Cable,
    /// `None` when it was dropped as part of the end.
    socket: Option<K::Socket>,
    session: K::Session,
}

impl<K: Kind> Peer<'_, K> {
    /// Sends what is to be sent, and ends. Returns what was read, if the peer reads until the end.
    async fn end(&mut self, cell: Cell, sender: &Sender) -> Option<Reading> {
        self.write(&cell.sent.bytes(), sender).await;
        let mut reading = Reading::default();
        // A handler that receives finds the end there from the beginning; for others the reading has
        // stopped before. A peer that is silent reads nothing.
        if !cell.behaviour.receives() && cell.end != End::Silence {
            reading.until_pong(self.socket()).await;
        }
        match cell.end {
            End::Close => self.write(&wire::close(BYE, ""), sender).await,
            // The server may have ended the connection before.
            End::Fin => drop(self.socket().shutdown().await),
            End::BareFin => drop(self.cable.shutdown().await),
            End::Gone => self.leave(),
            End::Reset => self.cable.reset(),
            End::StreamReset => self.socket = None,
            End::Silence => self.cable.freeze(),
        }
        if !cell.end.reads_on() {
            return None;
        }
        reading.until_end(self.socket()).await;
        // A peer that has read everything goes; one of HTTP/2 leaves the connection to others.
        match K::STREAM {
            Stream::Http2 => self.socket = None,
            _ => self.leave(),
        }
        Some(reading)
    }

    /// Writes, unless the connection is over: on a slow machine, it may time out before the peer
    /// writes.
    async fn write(&mut self, bytes: &[u8], sender: &Sender) {
        let socket = self.socket.as_mut().unwrap();
        tokio::select! {
            _ = self.kind.write(socket, &mut self.session, bytes) => {}
            _ = sender.closed() => {}
        }
    }

    fn leave(&mut self) {
        self.socket = None;
        *self.cable.lock() = Wire::Cut;
    }

    fn socket(&mut self) -> &mut K::Socket {
        self.socket.as_mut().unwrap()
    }
}

/// A server, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepting: AbortHandle,
}

impl Server {
    pub(crate) async fn start(kind: Arc<impl Kind>, service: impl Served) -> Self {
        let (listener, address) = tcp::listen().await;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                kind.serve(stream, service.clone());
            }
        });
        Self {
            address,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A TCP stream that can be ended beside what reads and writes it.
#[derive(Clone, Debug)]
pub(crate) struct Cable(Arc<Mutex<Wire>>);

#[derive(Debug)]
enum Wire {
    Whole(TcpStream),
    /// Nothing goes through, and the other end does not notice.
    Frozen(#[expect(dead_code, reason = "it is held")] TcpStream),
    Cut,
}

impl Cable {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(Arc::new(Mutex::new(Wire::Whole(stream))))
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }

    /// Resets the connection.
    fn reset(&self) {
        let mut wire = self.lock();
        if let Wire::Whole(stream) = &*wire {
            stream.set_zero_linger().unwrap();
        }
        *wire = Wire::Cut;
    }

    fn freeze(&self) {
        let mut wire = self.lock();
        *wire = match mem::replace(&mut *wire, Wire::Cut) {
            Wire::Whole(stream) => Wire::Frozen(stream),
            other => other,
        };
    }

    fn poll<T>(
        &self,
        poll: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.lock() {
            Wire::Whole(stream) => poll(Pin::new(stream)),
            Wire::Frozen(_) => Poll::Pending,
            Wire::Cut => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Cable {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Cable {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}
