//! A connection in memory, with two ends. Each direction can be paused, slowed down and ended. The whole connection can
//! be cut.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::pings::PingFilter;
use crate::time::limit::clamp;

/// The number of bytes that each direction holds before its writer waits.
const CAPACITY: usize = 64 * 1024;

/// Makes the ends of the server and of the client. The filter sees what the server writes.
pub(super) fn pair(filter: PingFilter) -> (End, End) {
    let connection = Arc::new(Mutex::new(Connection {
        up: Flow::default(),
        down: Flow::default(),
        filter,
        is_cut: false,
    }));
    let end = |side| End {
        connection: Arc::clone(&connection),
        side,
        timer: None,
    };
    (end(Side::Server), end(Side::Client))
}

/// Locks a connection. The state stays usable if a thread panics while it holds the lock.
pub(super) fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state that both ends share.
#[derive(Debug)]
pub(super) struct Connection {
    /// From the client to the server.
    pub(super) up: Flow,
    /// From the server to the client.
    pub(super) down: Flow,
    pub(super) filter: PingFilter,
    is_cut: bool,
}

impl Connection {
    /// Breaks both directions. Bytes on their way are lost.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
        for flow in [&mut self.up, &mut self.down] {
            flow.bytes.clear();
            flow.wake_reader();
            flow.wake_writer();
        }
    }

    /// Fails after a cut, as calls do after a reset of TCP.
    fn check(&self) -> io::Result<()> {
        match self.is_cut {
            true => Err(ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    bytes: VecDeque<u8>,
    /// The writer has shut its half down. Bytes that it writes later are dropped.
    is_ended: bool,
    /// The reader was dropped.
    is_abandoned: bool,
    is_paused: bool,
    pace: Option<Pace>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The speed of a direction.
#[derive(Debug)]
struct Pace {
    bytes: usize,
    every: Duration,
    /// The time of the next read, if there was one.
    due: Option<Instant>,
}

impl Flow {
    /// Appends bytes, even beyond [`CAPACITY`].
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if !self.is_ended && !self.is_abandoned {
            self.bytes.extend(bytes);
            self.wake_reader();
        }
    }

    pub(super) fn end(&mut self) {
        self.is_ended = true;
        self.wake_reader();
        self.wake_writer();
    }

    pub(super) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        self.wake_reader();
    }

    pub(super) fn slow_down(&mut self, bytes: usize, every: Duration) {
        self.pace = Some(Pace {
            bytes: bytes.max(1),
            every: clamp(Duration::ZERO, every),
            due: None,
        });
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Server,
    Client,
}

/// One end of the connection.
#[derive(Debug)]
pub(super) struct End {
    connection: Arc<Mutex<Connection>>,
    side: Side,
    /// Fires at the next read of a slow direction.
    timer: Option<Pin<Box<Sleep>>>,
}

impl End {
    pub(super) fn connection(&self) -> Arc<Mutex<Connection>> {
        Arc::clone(&self.connection)
    }

    /// Writes what fits.
    fn write<'a>(
        &self,
        cx: &Context<'_>,
        buffers: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        let mut connection = lock(&self.connection);
        connection.check()?;
        let Connection {
            up, down, filter, ..
        } = &mut *connection;
        let (flow, filter) = match self.side {
            Side::Server => (down, Some(filter)),
            Side::Client => (up, None),
        };
        if flow.is_ended {
            return Poll::Ready(Ok(buffers.map(<[u8]>::len).sum()));
        }
        if flow.is_abandoned {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let room = CAPACITY.saturating_sub(flow.bytes.len());
        if room == 0 {
            flow.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut written = Vec::new();
        for buffer in buffers {
            written.extend_from_slice(&buffer[..buffer.len().min(room - written.len())]);
        }
        match filter {
            Some(filter) => flow.put(&filter.pass(&written)),
            None => flow.put(&written),
        }
        Poll::Ready(Ok(written.len()))
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            connection,
            side,
            timer,
        } = self.get_mut();
        let mut connection = lock(connection);
        connection.check()?;
        let flow = match side {
            Side::Server => &mut connection.up,
            Side::Client => &mut connection.down,
        };
        if flow.is_paused || (flow.bytes.is_empty() && !flow.is_ended) {
            flow.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut most = buffer.remaining().min(flow.bytes.len());
        if let Some(pace) = flow.pace.as_mut().filter(|_| most > 0) {
            if let Some(due) = pace.due.filter(|due| Instant::now() < *due) {
                // The pace may be changed while this waits.
                flow.reader = Some(cx.waker().clone());
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                ready!(timer.as_mut().poll(cx));
            }
            most = most.min(pace.bytes);
            pace.due = Some(Instant::now() + pace.every);
        }
        let (first, second) = flow.bytes.as_slices();
        let from_first = first.len().min(most);
        buffer.put_slice(&first[..from_first]);
        buffer.put_slice(&second[..most - from_first]);
        flow.bytes.drain(..most);
        flow.wake_writer();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, [bytes].into_iter())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, buffers.iter().map(|buffer| &**buffer))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.connection).check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut connection = lock(&self.connection);
        connection.check()?;
        match self.side {
            Side::Server => connection.down.end(),
            Side::Client => connection.up.end(),
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut connection = lock(&self.connection);
        let Connection { up, down, .. } = &mut *connection;
        let (written, read) = match self.side {
            Side::Server => (down, up),
            Side::Client => (up, down),
        };
        written.end();
        read.is_abandoned = true;
        read.wake_writer();
    }
}
