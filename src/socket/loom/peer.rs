//! The peer of a model: it sends by a script and records everything that it receives.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex as StdMutex},
    task::{Context, Poll, Waker, ready},
};

use ::loom::sync::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The peer's end of the stream.
#[derive(Clone, Default)]
pub(crate) struct Peer(Arc<StdMutex<Script>>);

#[derive(Default)]
struct Script {
    /// The bytes of each read. An empty entry ends the stream.
    sends: VecDeque<Vec<u8>>,
    /// The peer has sent a Close. It answers ours first if it has not, then ends the stream.
    has_sent_close: bool,
    is_gone: bool,
    answers_pings: bool,
    lends: bool,
    /// How many bytes rooms may write.
    room: usize,
    gate: Option<Arc<Gate>>,
    written: Vec<u8>,
    reader: Option<Waker>,
}

/// Blocks writes until another thread opens it.
#[derive(Default)]
pub(crate) struct Gate(Mutex<(bool, Option<Waker>)>);

impl Gate {
    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        let writer = state.1.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

impl Peer {
    pub(crate) fn sends(self, payload: u8) -> Self {
        self.then(frame(0x82, payload).to_vec())
    }

    /// Answers each ping at once.
    pub(crate) fn answers_pings(self) -> Self {
        self.0.lock().unwrap().answers_pings = true;
        self
    }

    pub(crate) fn closes(self) -> Self {
        self.then(CLOSE.to_vec())
    }

    pub(crate) fn ends(self) -> Self {
        self.then(Vec::new())
    }

    pub(crate) fn then(self, read: Vec<u8>) -> Self {
        self.0.lock().unwrap().sends.push_back(read);
        self
    }

    /// Lends itself. Rooms may write only so many bytes.
    pub(crate) fn lends(self, room: usize) -> Self {
        let mut script = self.0.lock().unwrap();
        (script.lends, script.room) = (true, room);
        drop(script);
        self
    }

    pub(crate) fn lend(&mut self) -> Option<LentPeer> {
        let lends = self.0.lock().unwrap().lends;
        lends.then(|| LentPeer(self.clone()))
    }

    pub(crate) fn take_back(&mut self, lent: LentPeer) {
        drop(lent);
    }

    /// Makes every write fail.
    pub(crate) fn fails_writes(self) -> Self {
        self.0.lock().unwrap().is_gone = true;
        self
    }

    /// Blocks all writes until the gate is open.
    pub(crate) fn blocks_writes(self, gate: &Arc<Gate>) -> Self {
        self.0.lock().unwrap().gate = Some(Arc::clone(gate));
        self
    }

    /// Returns the payloads of messages and pongs that were written, and whether a Close follows
    /// them.
    pub(crate) fn written(&self) -> (Vec<u8>, bool) {
        let (payloads, rest) = self.read();
        assert!(matches!(rest[..], [] | [0x88, ..]), "{rest:?}");
        (payloads, !rest.is_empty())
    }

    fn has_close(&self) -> bool {
        self.read().1.starts_with(&[0x88])
    }

    /// Returns the payloads of messages and pongs that were written, and the bytes behind them.
    fn read(&self) -> (Vec<u8>, Vec<u8>) {
        let script = self.0.lock().unwrap();
        let (mut payloads, mut rest) = (Vec::new(), &script.written[..]);
        loop {
            rest = match rest {
                [0x82 | 0x8a, 1, payload, behind @ ..] => {
                    payloads.push(*payload);
                    behind
                }
                [0x89, len, behind @ ..] => &behind[usize::from(*len)..],
                _ => break,
            };
        }
        (payloads, rest.to_vec())
    }

    pub(crate) fn has(&self, messages: usize) -> bool {
        self.written().0.len() == messages
    }
}

/// A lent peer.
pub(crate) struct LentPeer(Peer);

impl LentPeer {
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut script = self.0.0.lock().unwrap();
        if script.is_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let taken: Vec<u8> = bytes.take(script.room).collect();
        script.room -= taken.len();
        script.written.extend(&taken);
        Ok(taken.len())
    }
}

impl fmt::Debug for LentPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LentPeer")
    }
}

/// Makes a client's frame with a payload of one byte.
pub(crate) const fn frame(kind: u8, payload: u8) -> [u8; 7] {
    [kind, 0x81, 0, 0, 0, 0, payload]
}

/// A client's Close with 1000.
pub(crate) const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let has_close = self.has_close();
        let mut script = self.0.lock().unwrap();
        if let Some(read) = script.sends.pop_front() {
            script.has_sent_close |= read.ends_with(&CLOSE);
            buffer.put_slice(&read);
        } else if !has_close {
            script.reader = Some(cx.waker().clone());
            return Poll::Pending;
        } else if !std::mem::replace(&mut script.has_sent_close, true) {
            buffer.put_slice(&CLOSE);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.0.lock().unwrap().gate.clone();
        if let Some(gate) = gate {
            ready!(gate.poll_open(cx));
        }
        let mut script = self.0.lock().unwrap();
        if script.is_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        script.written.extend(bytes);
        let mut is_answered = false;
        if script.answers_pings {
            let mut rest = bytes;
            while let [kind, len, behind @ ..] = rest {
                let (payload, behind) = behind.split_at(usize::from(*len));
                if *kind == 0x89 {
                    let pong = [&[0x8a, 0x80 | len, 0, 0, 0, 0], payload].concat();
                    script.sends.push_back(pong);
                    is_answered = true;
                }
                rest = behind;
            }
        }
        let reader = script.reader.take();
        drop(script);
        if is_answered || self.has_close() {
            if let Some(reader) = reader {
                reader.wake();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
