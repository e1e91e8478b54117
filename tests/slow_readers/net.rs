//! A server on loopback over TCP, TLS or HTTP/2, and a client that reads at a given rate.

use std::{io, net::SocketAddr, time::Duration};

use h2::client;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep_until},
};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::ServerName};
use tower_websocket::{Handler, WebSocketLayer};

use crate::{
    http2::{self, Session, Tunnel},
    pipe,
    support::tls,
    wire,
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    Tcp,
    Tls,
    Http2,
}

impl Transport {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Sizes of buffers, in bytes; `None` leaves a size to the system.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers {
    /// The server's send buffer.
    pub(crate) send: Option<u32>,
    /// The client's receive buffer.
    pub(crate) receive: Option<u32>,
    /// The window of an HTTP/2 stream. The client grants half of it at a time.
    pub(crate) window: Option<u32>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Stream for IO {}

/// A client whose WebSocket is open.
pub(crate) enum Client {
    Stream(Box<dyn Stream>),
    Http2 {
        tunnel: Box<Tunnel>,
        /// Bytes that have arrived and are not read yet.
        arrived: usize,
    },
}

/// Serves one connection with `layer`, and connects to it.
pub(crate) async fn connect<H: Handler>(
    transport: Transport,
    buffers: Buffers,
    layer: WebSocketLayer<H>,
) -> Client {
    let listener = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = buffers.send {
        // Accepted sockets inherit it.
        listener.set_send_buffer_size(bytes).unwrap();
    }
    listener
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .unwrap();
    let listener = listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let (acceptor, connector) = tls::pair();
    tokio::spawn(serve(listener, transport, layer, acceptor));

    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = buffers.receive {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let stream = socket.connect(address).await.unwrap();
    match transport {
        Transport::Tcp => Client::upgrade(stream).await,
        Transport::Tls => {
            let name = ServerName::try_from("localhost").unwrap();
            Client::upgrade(connector.connect(name, stream).await.unwrap()).await
        }
        Transport::Http2 => {
            let mut settings = client::Builder::new();
            if let Some(bytes) = buffers.window {
                settings.initial_window_size(bytes);
            }
            let session = Session::with(&settings, stream).await;
            let tunnel = Box::new(session.open().await);
            Client::Http2 { tunnel, arrived: 0 }
        }
    }
}

async fn serve<H: Handler>(
    listener: TcpListener,
    transport: Transport,
    layer: WebSocketLayer<H>,
    acceptor: TlsAcceptor,
) {
    let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    let service = layer.into_service();
    match transport {
        Transport::Tcp => pipe::serve_on(stream, service),
        Transport::Tls => pipe::serve_on(acceptor.accept(stream).await.unwrap(), service),
        Transport::Http2 => drop(http2::serve_on(stream, service)),
    }
}

impl Client {
    async fn upgrade(mut stream: impl Stream + 'static) -> Self {
        wire::upgrade(&mut stream, &wire::handshake("/")).await;
        Self::Stream(Box::new(stream))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Stream(stream) => {
                wire::write(stream, bytes).await;
                // TLS may hold some of it back.
                stream.flush().await.unwrap();
            }
            Self::Http2 { tunnel, .. } => wire::write(tunnel, bytes).await,
        }
    }

    /// Reads at `rate` bytes a second until the end of the stream or until `total` are read, and
    /// calls `read` with every number of bytes.
    pub(crate) async fn read(
        &mut self,
        rate: u32,
        total: usize,
        mut read: impl FnMut(usize),
    ) -> io::Result<()> {
        let start = Instant::now();
        let at_once = (rate / 2).max(1) as usize;
        let mut bytes = 0;
        while bytes < total {
            let some = self.read_some(at_once.min(total - bytes)).await?;
            if some == 0 {
                return Ok(());
            }
            read(some);
            bytes += some;
            sleep_until(start + Duration::from_secs(1).mul_f64(bytes as f64 / f64::from(rate)))
                .await;
        }
        Ok(())
    }

    async fn read_some(&mut self, most: usize) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.read(&mut vec![0; most]).await,
            Self::Http2 { tunnel, arrived } => {
                if *arrived == 0 {
                    match tunnel.next().await {
                        None => return Ok(0),
                        Some(data) => *arrived = data.map_err(io::Error::other)?.len(),
                    }
                }
                let bytes = most.min(*arrived);
                tunnel.release(bytes);
                *arrived -= bytes;
                Ok(bytes)
            }
        }
    }
}
