//! A listener whose connections can be made slow, in the place of a slow network.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Interval, MissedTickBehavior, interval},
};

const TICKS_A_SECOND: u32 = 20;

/// The speed of a connection, in bytes a second.
#[derive(Clone)]
pub(crate) struct Speed(Arc<AtomicU32>);

impl Speed {
    pub(crate) const FULL: u32 = u32::MAX;

    /// Sets the speed, within a tick. Returns the one before.
    pub(crate) fn set(&self, bytes_a_second: u32) -> u32 {
        self.0.swap(bytes_a_second, Ordering::Relaxed)
    }
}

impl Connected<IncomingStream<'_, SlowLinks>> for Speed {
    fn connect_info(stream: IncomingStream<'_, SlowLinks>) -> Self {
        stream.io().speed.clone()
    }
}

pub(crate) struct SlowLinks(TcpListener);

impl SlowLinks {
    pub(crate) const fn new(listener: TcpListener) -> Self {
        Self(listener)
    }
}

impl Listener for SlowLinks {
    type Io = Link;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Link, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("{address}: {error}");
        }
        let mut ticks = interval(Duration::from_secs(1) / TICKS_A_SECOND);
        // No burst after a pause.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let speed = Speed(Arc::new(AtomicU32::new(Speed::FULL)));
        let link = Link {
            stream,
            speed,
            ticks,
        };
        (link, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that takes a part of its speed's bytes in each tick.
pub(crate) struct Link {
    stream: TcpStream,
    speed: Speed,
    ticks: Interval,
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = loop {
            let speed = self.speed.0.load(Ordering::Relaxed);
            if speed == Speed::FULL {
                break bytes.len();
            }
            ready!(self.ticks.poll_tick(cx));
            let share = (speed / TICKS_A_SECOND) as usize;
            if share > 0 {
                break share.min(bytes.len());
            }
        };
        Pin::new(&mut self.stream).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}
