//! What a connection asks of its stream: how many reads and writes, what it does when the stream
//! misbehaves, that it lets other tasks run, and that it sleeps when there is nothing to do.
//!
//! The stream is a [`Script`] that counts every call and holds no kernel buffer, so each figure is
//! exact. The clock is tokio's paused one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, poll_fn},
    io::{self, ErrorKind, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    task::{JoinHandle, yield_now},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    BoxError, CloseCode, Config, Echo, Handler, WebSocket, WebSocketLayer, error::RecvError,
};
use wire::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, TEXT, close, frame, header, read_frame};

/// What one poll of a connection's task may take in.
const FRAMES: usize = 64;
const BYTES: usize = 256 * 1024;
/// The same within a large payload.
const BYTES_WITHIN: usize = 1024 * 1024;
/// What one read can take.
const BUFFER: usize = 64 * 1024;

const MIB: usize = 1024 * 1024;

// ---------------------------------------------------------------------------------------------
// The stream.

/// The server's end of a stream that does what the test says.
struct Script(Arc<Mutex<State>>);

/// The test's end of a [`Script`].
#[derive(Clone)]
struct Peer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    input: VecDeque<Input>,
    output: Vec<u8>,
    /// The output is counted and not kept.
    swallows: bool,
    written: usize,
    vectored: bool,
    /// The bytes that one write takes.
    at_once: usize,
    /// The bytes that are taken before `then`.
    room: usize,
    then: Then,
    /// What flushing comes to, other than being done.
    flush: Option<Then>,
    /// Bytes that were written before the stream was last flushed.
    flushed: usize,
    /// Shutting down never gets done.
    stuck_in_shutdown: bool,
    calls: Calls,
    after_shutdown: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// What was read and written since another task ran, and the most there was of it.
    spell: Spell,
    worst: Spell,
}

/// What a read finds; there is nothing to read when there is none.
enum Input {
    /// Each read takes from one segment.
    Segment(VecDeque<u8>),
    /// So many bytes of frames that repeat themselves, always there.
    Flood {
        frames: Vec<u8>,
        left: usize,
    },
    End,
    Error(ErrorKind),
}

/// What a write comes to after there is no room any more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Then {
    #[default]
    Pending,
    Zero,
    Error(ErrorKind),
}

/// Calls of the stream's methods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Calls {
    /// Reads that found nothing.
    idle_reads: usize,
    /// Reads that found bytes.
    reads: usize,
    /// Writes that took nothing.
    idle_writes: usize,
    /// Writes that took bytes.
    writes: usize,
    flushes: usize,
    shutdowns: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    reads: usize,
    read: usize,
    written: usize,
}

impl Script {
    fn new() -> (Self, Peer) {
        let state = Arc::new(Mutex::new(State {
            vectored: true,
            at_once: usize::MAX,
            room: usize::MAX,
            ..State::default()
        }));
        (Self(Arc::clone(&state)), Peer(state))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn note_spell(&mut self) {
        self.worst.reads = self.worst.reads.max(self.spell.reads);
        self.worst.read = self.worst.read.max(self.spell.read);
        self.worst.written = self.worst.written.max(self.spell.written);
    }

    fn write<'a>(
        &mut self,
        cx: &Context<'_>,
        buffers: impl IntoIterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.calls.shutdowns > 0 {
            self.after_shutdown += 1;
        }
        let mut taken = 0;
        for buffer in buffers {
            let some = buffer.len().min(self.at_once - taken).min(self.room);
            if !self.swallows {
                self.output.extend_from_slice(&buffer[..some]);
            }
            taken += some;
            if self.room != usize::MAX {
                self.room -= some;
            }
        }
        if taken > 0 {
            self.calls.writes += 1;
            self.written += taken;
            self.spell.written += taken;
            self.note_spell();
            return Poll::Ready(Ok(taken));
        }
        self.calls.idle_writes += 1;
        match self.then {
            Then::Zero => Poll::Ready(Ok(0)),
            Then::Error(kind) => Poll::Ready(Err(kind.into())),
            Then::Pending => {
                self.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let before = buffer.filled().len();
        let is_done = match state.input.front_mut() {
            None => {
                state.calls.idle_reads += 1;
                // A connection that never sleeps would keep the clock from going on.
                assert!(state.calls.idle_reads < 1_000_000, "busy with nothing");
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Some(Input::End) => return Poll::Ready(Ok(())),
            Some(Input::Error(kind)) => return Poll::Ready(Err((*kind).into())),
            Some(Input::Segment(bytes)) => {
                let some = bytes.len().min(buffer.remaining());
                let some: Vec<u8> = bytes.drain(..some).collect();
                buffer.put_slice(&some);
                bytes.is_empty()
            }
            Some(Input::Flood { frames, left }) => {
                let some = (buffer.remaining() / frames.len()).min(*left / frames.len());
                assert!(some > 0, "the frames are small");
                for _ in 0..some {
                    buffer.put_slice(frames);
                }
                *left -= some * frames.len();
                *left < frames.len()
            }
        };
        if is_done {
            state.input.pop_front();
        }
        state.calls.reads += 1;
        let read = buffer.filled().len() - before;
        state.spell.reads += 1;
        state.spell.read += read;
        state.note_spell();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().write(cx, [buffer])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        // As the default of the trait: the first that is not empty.
        let used = if state.vectored { usize::MAX } else { 1 };
        let buffers = buffers.iter().map(|buffer| &**buffer);
        state.write(cx, buffers.filter(|buffer| !buffer.is_empty()).take(used))
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        state.calls.flushes += 1;
        match state.flush {
            None | Some(Then::Zero) => {
                state.flushed = state.written;
                Poll::Ready(Ok(()))
            }
            Some(Then::Pending) => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Then::Error(kind)) => Poll::Ready(Err(kind.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        state.calls.shutdowns += 1;
        if state.stuck_in_shutdown {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl Peer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
    }

    fn give(&self, input: Input) {
        let mut state = self.lock();
        state.input.push_back(input);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Has `bytes` arrive in one segment.
    fn send(&self, bytes: Vec<u8>) {
        self.give(Input::Segment(bytes.into()));
    }

    fn calls(&self) -> Calls {
        self.lock().calls
    }

    /// Returns how often the stream was called, whatever for.
    fn polls(&self) -> usize {
        let calls = self.calls();
        calls.idle_reads
            + calls.reads
            + calls.idle_writes
            + calls.writes
            + calls.flushes
            + calls.shutdowns
    }

    /// Forgets what was counted and written until now.
    fn reset(&self) {
        self.set(|state| {
            state.calls = Calls::default();
            state.output.clear();
            state.written = 0;
            state.flushed = 0;
        });
    }

    /// Tells whether the server has let go of the stream.
    fn is_gone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Returns the frames that were written, and whether there was more than whole frames.
    async fn frames(&self) -> (Vec<Frame>, bool) {
        let output = self.lock().output.clone();
        let mut rest = &*output;
        let mut frames = Vec::new();
        let mut len = 0;
        while let Some(frame) = read_frame(&mut rest).await {
            frames.push(frame);
            len = output.len() - rest.len();
        }
        (frames, len < output.len())
    }

    /// Returns the payloads of the frames that were written.
    async fn payloads(&self) -> Vec<Vec<u8>> {
        let (frames, torn) = self.frames().await;
        assert!(!torn, "only whole frames");
        frames.into_iter().map(|frame| frame.payload).collect()
    }
}

/// Lets every task run until all of them wait for something else than the next millisecond.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Serves a handler in the task of its connection, as a server does, and does the handshake.
async fn attach(config: Config, vectored: bool, handler: impl Handler) -> Peer {
    attach_with(config, vectored, handler, wire::handshake("/")).await
}

async fn attach_with(
    config: Config,
    vectored: bool,
    handler: impl Handler,
    request: String,
) -> Peer {
    let (script, peer) = Script::new();
    peer.set(|state| state.vectored = vectored);
    let layer = WebSocketLayer::new(handler).config(config);
    pipe::serve_on(script, layer.into_service());
    peer.send(request.into_bytes());
    settle().await;
    assert!(peer.lock().output.starts_with(b"HTTP/1.1 101 "));
    peer.reset();
    peer
}

/// Receives until the end, and returns the error if there was one.
fn receive(mut socket: WebSocket) -> JoinHandle<Option<RecvError>> {
    tokio::spawn(async move {
        loop {
            match socket.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    })
}

async fn result<T>(task: JoinHandle<T>) -> T {
    timeout(Duration::from_secs(60), task)
        .await
        .expect("it ends")
        .unwrap()
}

fn io_error(error: Option<RecvError>) -> ErrorKind {
    match error {
        Some(RecvError::Io(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

/// Builds so many messages, numbered, in one segment.
fn messages(count: usize, len: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let payloads: Vec<Vec<u8>> = (0..count)
        .map(|number| {
            let mut payload = vec![b'.'; len];
            let digits = number.to_string();
            payload[..digits.len()].copy_from_slice(digits.as_bytes());
            payload
        })
        .collect();
    let segment = payloads.iter().flat_map(|text| frame(FIN | TEXT, text));
    let segment = segment.collect();
    (payloads, segment)
}

// ---------------------------------------------------------------------------------------------
// Reads and writes.

#[tokio::test(start_paused = true)]
async fn echoes_a_pipelined_burst_with_one_read_and_few_writes() {
    for vectored in [true, false] {
        for (count, most_writes) in [(1, 1), (16, 1), (64, 2), (200, 5)] {
            let peer = attach(Config::new(), vectored, Echo::new()).await;
            let (payloads, segment) = messages(count, 32);
            peer.send(segment);
            settle().await;
            let calls = peer.calls();
            let case = format!("{count} messages, vectored {vectored}: {calls:?}");
            println!("{case}");
            assert_eq!(peer.payloads().await, payloads, "{case}");
            assert_eq!(calls.reads, 1, "{case}");
            assert!(calls.writes <= most_writes, "{case}");
            assert_eq!(calls.idle_writes, 0, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn is_not_woken_by_what_its_own_handler_sends() {
    let peer = attach(Config::new(), true, echo).await;
    peer.send(frame(FIN | TEXT, b"one"));
    settle().await;
    assert_eq!(peer.calls().idle_reads, 1, "{:?}", peer.calls());
}

#[tokio::test(start_paused = true)]
async fn reads_once_and_writes_once_for_a_message() {
    let peer = attach(Config::new(), true, Echo::new()).await;
    peer.send(frame(FIN | TEXT, b"one"));
    settle().await;
    let calls = peer.calls();
    assert_eq!((calls.reads, calls.idle_reads), (1, 1), "{calls:?}");
    assert_eq!((calls.writes, calls.idle_writes), (1, 0), "{calls:?}");
}

/// A stream may hold back what it was given, as one that is encrypted does.
#[tokio::test(start_paused = true)]
async fn flushes_an_answer_as_soon_as_the_stream_can() {
    for (what, peer) in echoed_both_ways().await {
        peer.set(|state| state.flush = Some(Then::Pending));
        peer.send(frame(FIN | TEXT, b"held back"));
        settle().await;
        assert_eq!(peer.payloads().await, [b"held back"], "{what}");
        assert_eq!(peer.lock().flushed, 0, "{what}");
        peer.send(frame(FIN | TEXT, b"behind it"));
        settle().await;
        let writer = peer.lock().writer.take();
        peer.set(|state| state.flush = None);
        writer.unwrap().wake();
        settle().await;
        let payloads = peer.payloads().await;
        assert_eq!(payloads, [b"held back", b"behind it"], "{what}");
        let state = peer.lock();
        assert_eq!(state.flushed, state.written, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn ends_when_an_answer_cannot_be_flushed() {
    for (what, peer) in echoed_both_ways().await {
        peer.set(|state| state.flush = Some(Then::Error(ErrorKind::BrokenPipe)));
        peer.send(frame(FIN | TEXT, b"held back"));
        settle().await;
        assert!(peer.is_gone(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn lets_others_have_their_turn_between_messages_that_are_echoed() {
    const MESSAGES: usize = 200;
    let peer = attach(Config::new(), true, Echo::new()).await;
    for _ in 0..MESSAGES {
        peer.send(frame(FIN | BINARY, &[7; 16 * 1024]));
    }
    let (mut before, mut most) = (0, 0);
    for _ in 0..10 * MESSAGES {
        yield_now().await;
        let reads = peer.calls().reads;
        most = most.max(reads - before);
        before = reads;
    }
    assert_eq!(before, MESSAGES);
    assert!(most * 16 * 1024 <= 256 * 1024, "{most} reads in one turn");
}

/// Sends back what it gets.
async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// Another task's answers to what fits the inbox leave together.
#[tokio::test(start_paused = true)]
async fn echoes_a_burst_from_another_task_with_a_write_an_inbox() {
    let (script, peer) = Script::new();
    let mut socket = WebSocket::from_io(script, Config::new());
    tokio::spawn(async move {
        while let Ok(Some(message)) = socket.recv().await {
            socket.send(message).await.unwrap();
        }
    });
    let (payloads, segment) = messages(64, 32);
    peer.send(segment);
    settle().await;
    let calls = peer.calls();
    println!("64 messages, another task: {calls:?}");
    assert_eq!(peer.payloads().await, payloads);
    assert_eq!(calls.reads, 1);
    assert!(calls.writes <= 64 / 16 + 1, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn echoes_a_large_message_with_few_reads_and_writes() {
    for vectored in [true, false] {
        for (len, most_reads) in [(16 * 1024, 1), (MIB, MIB / BUFFER + 1)] {
            let peer = attach(Config::new(), vectored, Echo::new()).await;
            let (payloads, segment) = messages(1, len);
            peer.send(segment);
            settle().await;
            let calls = peer.calls();
            let case = format!("{len} bytes, vectored {vectored}: {calls:?}");
            println!("{case}");
            assert!(peer.payloads().await == payloads, "{case}");
            assert!(calls.reads <= most_reads, "{case}");
            assert_eq!(calls.writes, 1, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_a_burst_of_pings_with_one_write() {
    let peer = attach(Config::new(), true, Echo::new()).await;
    peer.send(frame(FIN | PING, b"ping").repeat(64));
    settle().await;
    assert_eq!(peer.payloads().await, vec![b"ping"; 64]);
    assert_eq!((peer.calls().reads, peer.calls().writes), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn loses_nothing_on_a_stream_that_takes_one_byte_at_a_time() {
    for vectored in [true, false] {
        let peer = attach(Config::new(), vectored, Echo::new()).await;
        peer.set(|state| state.at_once = 1);
        let (mut payloads, segment) = messages(20, 500);
        peer.send(segment);
        let (large, segment) = messages(1, 10_000);
        payloads.extend(large);
        peer.send(segment);
        settle().await;
        assert!(peer.payloads().await == payloads, "vectored {vectored}");
        let calls = peer.calls();
        assert_eq!(calls.writes, peer.lock().output.len());
        assert_eq!(calls.idle_writes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn takes_frames_that_arrive_byte_by_byte() {
    let peer = attach(Config::new(), true, Echo::new()).await;
    let (payloads, segment) = messages(5, 200);
    for byte in segment {
        peer.send(vec![byte]);
    }
    settle().await;
    assert_eq!(peer.payloads().await, payloads);
}

#[tokio::test(start_paused = true)]
async fn goes_on_where_it_stopped_when_the_stream_takes_more_again() {
    for vectored in [true, false] {
        let peer = attach(Config::new(), vectored, Echo::new()).await;
        peer.set(|state| state.room = 0);
        let (mut payloads, segment) = messages(3, 5000);
        peer.send(segment);
        let (small, segment) = messages(30, 20);
        payloads.extend(small);
        peer.send(segment);
        // A step is not a divisor of anything that is sent.
        for _ in 0..1000 {
            settle().await;
            let mut state = peer.lock();
            state.room = 101;
            if let Some(writer) = state.writer.take() {
                drop(state);
                writer.wake();
            } else {
                break;
            }
        }
        assert!(peer.payloads().await == payloads, "vectored {vectored}");
    }
}

// ---------------------------------------------------------------------------------------------
// Streams that fail.

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_stream_that_takes_no_bytes_or_fails() {
    for (then, kind) in [
        (Then::Zero, ErrorKind::WriteZero),
        (
            Then::Error(ErrorKind::ConnectionReset),
            ErrorKind::ConnectionReset,
        ),
    ] {
        for (room, vectored) in [(0, true), (1, true), (700, true), (700, false)] {
            let (script, peer) = Script::new();
            peer.set(|state| {
                state.room = room;
                state.then = then;
                state.vectored = vectored;
            });
            let start = Instant::now();
            let mut socket = WebSocket::from_io(script, Config::new());
            let sender = socket.sender();
            for _ in 0..4 {
                socket.send(vec![1; 300]).await.unwrap();
            }
            let case = format!("{then:?} after {room} bytes");
            assert_eq!(io_error(result(receive(socket)).await), kind, "{case}");
            settle().await;
            assert!(peer.is_gone(), "{case}");
            let calls = peer.calls();
            assert_eq!((calls.idle_writes, calls.shutdowns), (1, 0), "{case}");
            assert_eq!(peer.lock().output.len(), room, "{case}");
            assert!(!sender.closed().await.is_clean(), "{case}");
            assert!(start.elapsed() < Duration::from_secs(1), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reports_a_read_that_fails() {
    for begun in [vec![], frame(FIN | BINARY, &[1; 50])[..20].to_vec()] {
        let (script, peer) = Script::new();
        let receiver = receive(WebSocket::from_io(script, Config::new()));
        if !begun.is_empty() {
            peer.send(begun);
        }
        peer.give(Input::Error(ErrorKind::TimedOut));
        assert_eq!(io_error(result(receiver).await), ErrorKind::TimedOut);
        settle().await;
        assert!(peer.is_gone());
    }
}

#[tokio::test(start_paused = true)]
async fn reports_a_stream_that_ends_in_the_middle_of_a_frame() {
    let whole = frame(FIN | BINARY, &[1; 300]);
    for cut in [1, 2, 3, 5, 8, 9, 100, whole.len() - 1] {
        let (script, peer) = Script::new();
        let receiver = receive(WebSocket::from_io(script, Config::new()));
        peer.send(whole[..cut].to_vec());
        settle().await;
        peer.give(Input::End);
        assert_eq!(
            io_error(result(receiver).await),
            ErrorKind::UnexpectedEof,
            "after {cut} bytes"
        );
        settle().await;
        assert!(peer.is_gone(), "after {cut} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn drops_a_stream_that_makes_no_progress_for_ten_seconds() {
    for room in [0, 1, 299] {
        let (script, peer) = Script::new();
        peer.set(|state| state.room = room);
        let start = Instant::now();
        let mut socket = WebSocket::from_io(script, Config::new());
        socket.send(vec![1; 300]).await.unwrap();
        let error = result(receive(socket)).await;
        assert!(matches!(error, Some(RecvError::Stalled)), "{error:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        settle().await;
        assert!(peer.is_gone());
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_a_stream_that_makes_slow_progress() {
    let (script, peer) = Script::new();
    peer.set(|state| state.room = 0);
    let mut socket = WebSocket::from_io(script, Config::new());
    socket.send(vec![1; 100]).await.unwrap();
    for _ in 0..10 {
        sleep(Duration::from_secs(9)).await;
        let mut state = peer.lock();
        state.room = 10;
        let writer = state.writer.take().expect("still waiting");
        drop(state);
        writer.wake();
    }
    settle().await;
    assert!(!peer.is_gone());
    assert_eq!(peer.lock().output.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn answers_what_came_before_the_end_of_the_peers_half() {
    let peer = attach(Config::new(), true, Echo::new()).await;
    let (payloads, segment) = messages(10, 100);
    peer.send(segment);
    peer.give(Input::End);
    settle().await;
    let mut answers = peer.payloads().await;
    answers.truncate(payloads.len());
    assert_eq!(answers, payloads);
    assert!(peer.is_gone());
}

// ---------------------------------------------------------------------------------------------
// The end.

/// Ends connections in every way that sends a Close, with more to send in the handler's hands.
async fn end(how: &str, peer: &Peer, socket: &mut WebSocket) {
    match how {
        "we close" => {
            let closing = socket.close(CloseCode::NORMAL, "");
            let mut closing = pin!(closing);
            let first = poll_fn(|cx| Poll::Ready(closing.as_mut().poll(cx))).await;
            assert!(first.is_pending());
            settle().await;
            peer.send(frame(FIN | BINARY, b"crossing"));
            peer.send(close(1000, ""));
        }
        "the peer closes" => peer.send(close(1000, "")),
        "both close" => {
            peer.send(close(4000, ""));
            socket.sender().close(CloseCode::NORMAL, "").unwrap();
        }
        "a violation" => peer.send(vec![0xff; 20]),
        "too large" => peer.send(header(FIN | BINARY, 1 << 40, true)),
        "pings" => peer.send(frame(FIN | PING, b"").repeat(1000)),
        _ => panic!("{how}"),
    }
}

#[tokio::test(start_paused = true)]
async fn shuts_down_once_and_writes_nothing_after_a_close() {
    for how in [
        "we close",
        "the peer closes",
        "both close",
        "a violation",
        "too large",
        "pings",
    ] {
        let (script, peer) = Script::new();
        let mut socket = WebSocket::from_io(script, Config::new());
        socket.send("before").await.unwrap();
        settle().await;
        end(how, &peer, &mut socket).await;
        let _ = socket.send("meanwhile").await;
        let sender = socket.sender();
        let receiver = receive(socket);
        settle().await;
        assert!(sender.send("late").await.is_err(), "{how}");
        // None of these is answered any more.
        peer.send(frame(FIN | PING, b"late"));
        peer.send(frame(FIN | BINARY, b"late"));
        peer.send(close(1000, "again"));
        settle().await;
        peer.give(Input::End);
        let _ = result(receiver).await;
        settle().await;
        assert!(peer.is_gone(), "{how}");
        assert_eq!(peer.calls().shutdowns, 1, "{how}");
        assert_eq!(peer.lock().after_shutdown, 0, "{how}");
        let (frames, torn) = peer.frames().await;
        assert!(!torn, "{how}");
        let closes = frames.iter().filter(|frame| frame.first == FIN | CLOSE);
        assert_eq!(closes.count(), 1, "{how}: {frames:?}");
        assert_eq!(frames.last().unwrap().first, FIN | CLOSE, "{how}");
        assert_eq!(frames[0].payload, b"before", "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn closes_byte_by_byte_if_it_has_to() {
    let (script, peer) = Script::new();
    peer.set(|state| state.at_once = 1);
    let mut socket = WebSocket::from_io(script, Config::new());
    socket.send("before").await.unwrap();
    peer.send(close(4999, "enough"));
    assert!(result(receive(socket)).await.is_none());
    settle().await;
    let (frames, torn) = peer.frames().await;
    assert!(!torn);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1].close_code(), Some(4999));
}

// ---------------------------------------------------------------------------------------------
// Fairness.

/// Runs a task that gives `input` and then wants to run as often as it can until `done`; returns how
/// often it ran, and the most that the stream gave and took between two runs.
async fn run_beside(
    peer: &Peer,
    input: Input,
    done: impl Fn(&State) -> bool + Send + 'static,
) -> (usize, Spell) {
    let peer = peer.clone();
    let mut input = Some(input);
    let mut runs = 0;
    let task = tokio::spawn(poll_fn(move |cx| {
        if let Some(input) = input.take() {
            peer.set(|state| state.worst = Spell::default());
            peer.give(input);
        }
        let mut state = peer.lock();
        state.spell = Spell::default();
        if done(&state) {
            return Poll::Ready((runs, state.worst));
        }
        drop(state);
        runs += 1;
        assert!(runs < 10_000_000, "the flood goes on");
        // Queued behind the other tasks, at once: `yield_now` would wait longer.
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    task.await.unwrap()
}

/// Attaches a handler that sends back what it gets, in its own task and in another one.
async fn echoed_both_ways() -> [(&'static str, Peer); 2] {
    let elsewhere = async |socket: WebSocket| tokio::spawn(echo(socket)).await?;
    [
        ("own task", attach(Config::new(), true, echo).await),
        ("another task", attach(Config::new(), true, elsewhere).await),
    ]
}

fn is_read(state: &State) -> bool {
    state.input.is_empty()
}

fn unlimited() -> Config {
    Config::new().max_control_frames(u32::MAX, u32::MAX)
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_pings_pour_in() {
    let peer = attach(unlimited(), true, Echo::new()).await;
    let frames = frame(FIN | PING, b"");
    let count = 50_000;
    let left = frames.len() * count;
    let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
    println!("pings: {worst:?} between two of {runs} runs");
    settle().await;
    assert_eq!(
        peer.lock().output.len(),
        2 * count,
        "every ping is answered"
    );
    assert!(worst.written <= 2 * FRAMES, "{worst:?}");
    assert!(worst.read <= BYTES, "{worst:?}");
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_tiny_messages_pour_in() {
    for vectored in [true, false] {
        let peer = attach(Config::new(), vectored, echo).await;
        let frames = frame(FIN | BINARY, b"");
        let count = 50_000;
        let left = frames.len() * count;
        let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
        println!("tiny messages: {worst:?} between two of {runs} runs");
        settle().await;
        assert_eq!(peer.lock().output.len(), 2 * count, "every one comes back");
        assert!(worst.written <= 2 * FRAMES, "{worst:?}");
        assert!(worst.read <= BYTES, "{worst:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_large_messages_pour_in() {
    let sink = async |mut socket: WebSocket| {
        while socket.recv().await?.is_some() {}
        Ok::<_, BoxError>(())
    };
    for (what, peer) in [
        ("a handler", attach(Config::new(), true, sink).await),
        ("echo", attach(Config::new(), true, Echo::new()).await),
    ] {
        peer.set(|state| state.swallows = true);
        let frames = frame(FIN | BINARY, &[1; 30_000]);
        let left = frames.len() * 1000;
        let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
        println!("30 KB messages, {what}: {worst:?} between two of {runs} runs");
        assert!(worst.read <= BYTES + BUFFER, "{what}: {worst:?}");
    }
}

/// What is read to its place counts as well when it ends a message.
#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_messages_arrive_in_two_pieces() {
    for (what, peer) in echoed_both_ways().await {
        peer.set(|state| state.swallows = true);
        for message in vec![frame(FIN | BINARY, &[1; 64 * 1024]); 200] {
            let (first, second) = message.split_at(17 * 1024);
            peer.send(first.to_vec());
            peer.send(second.to_vec());
        }
        let last = Input::Segment(frame(FIN | BINARY, b"").into());
        let (runs, worst) = run_beside(&peer, last, is_read).await;
        println!("64 KiB messages, {what}: {worst:?} between two of {runs} runs");
        assert!(worst.read <= BYTES + BUFFER, "{what}: {worst:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_one_message_pours_in() {
    let config = Config::new()
        .max_message_size(64 * MIB)
        .max_fragments(u32::MAX, u32::MAX);
    let one_frame = header(FIN | BINARY, 32 * MIB, true);
    let fragments = frame(BINARY, b"first");
    let some = frame(CONTINUATION, &[1; 8]);
    let none = frame(CONTINUATION, b"");
    for (what, begin, frames, left, most) in [
        ("one frame", one_frame, vec![0], 32 * MIB, BYTES_WITHIN),
        ("fragments", fragments.clone(), some, 4 * MIB, BYTES),
        ("empty fragments", fragments, none, 4 * MIB, BYTES),
    ] {
        let peer = attach(config.clone(), true, Echo::new()).await;
        peer.send(begin);
        let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
        println!("{what}: {worst:?} between two of {runs} runs");
        assert!(worst.read <= most + BUFFER, "{what}: {worst:?}");
    }
}

/// What arrives of a compressed message costs many times what plain bytes do, whatever comes of it.
#[cfg(feature = "deflate")]
#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_a_compressed_message_pours_in() {
    let config = Config::new()
        .max_message_size(4 * MIB)
        .deflate(tower_websocket::Deflate::new());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let request = wire::handshake_with("/", offer);
    let peer = attach_with(config, true, Echo::new(), request).await;
    // Empty stored blocks, for as long as the frame's head says.
    let frames = vec![0, 0, 0, 0xff, 0xff];
    let head = header(FIN | 0x40 | BINARY, 4 * MIB, true);
    peer.send([&head[..], &[0; 4]].concat());
    let left = 4 * MIB;
    let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
    println!("compressed: {worst:?} between two of {runs} runs");
    assert!(worst.read <= 2 * BUFFER, "{worst:?}");
    assert_eq!(peer.lock().output, b"", "all of it is accepted");
}

/// A large payload costs less a byte than a small one, so that more of it is taken; fragments that
/// are hidden between large ones are not.
#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_tiny_fragments_among_large_ones_pour_in() {
    let config = Config::new()
        .max_message_size(64 * MIB)
        .max_fragments(u32::MAX, u32::MAX);
    let large = frame(CONTINUATION, &[1; 64 * 1024]);
    let tiny = frame(CONTINUATION, &[1]).repeat(7000);
    // Every read ends within a large one.
    let (begin, rest) = large.split_at(1024);
    let (middle, end) = rest.split_at(rest.len() - 1024);
    let peer = attach(config, true, Echo::new()).await;
    peer.send(frame(BINARY, b"first"));
    peer.send(begin.to_vec());
    settle().await;
    for _ in 0..40 {
        peer.lock().input.extend([
            Input::Segment(middle.to_vec().into()),
            Input::Segment([end, &tiny, begin].concat().into()),
        ]);
    }
    let last = Input::Segment(rest.to_vec().into());
    let (runs, worst) = run_beside(&peer, last, is_read).await;
    println!("{worst:?} between two of {runs} runs");
    assert!(worst.read <= BYTES + BUFFER, "{worst:?}");
}

/// Else each connection would hold some of a message, and come back to it when the cache has
/// forgotten it.
#[tokio::test(start_paused = true)]
async fn takes_a_message_that_is_there_in_one_poll() {
    for (what, peer) in echoed_both_ways().await {
        peer.set(|state| state.swallows = true);
        let message = frame(FIN | BINARY, &vec![1; MIB]);
        let expected = message.len();
        let (_, worst) = run_beside(&peer, Input::Segment(message.into()), is_read).await;
        assert_eq!(worst.read, expected, "{what}");
    }
}

/// Else a peer that reads nothing could have two large messages held rather than one.
#[tokio::test(start_paused = true)]
async fn takes_little_of_a_message_behind_a_large_answer_that_waits() {
    let peer = attach(Config::new(), true, echo).await;
    peer.set(|state| state.room = 0);
    let message = frame(FIN | BINARY, &vec![1; MIB]);
    let (most, last) = message.split_at(message.len() - 1);
    peer.send(most.to_vec());
    settle().await;
    assert!(is_read(&peer.lock()));
    let given = [last, &message.repeat(4)].concat();
    peer.send(given.clone());
    settle().await;
    let left = match peer.lock().input.front() {
        Some(Input::Segment(left)) => left.len(),
        _ => 0,
    };
    let read = given.len() - left;
    assert!(read <= BYTES + BUFFER, "{read} bytes");
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_a_peer_pours_on_after_the_close() {
    for how in ["we close", "the peer closes", "a violation", "blocked"] {
        let (script, peer) = Script::new();
        let mut socket = WebSocket::from_io(script, Config::new());
        if how == "blocked" {
            peer.set(|state| state.room = 0);
        }
        match how {
            "we close" => socket.sender().close(CloseCode::NORMAL, "").unwrap(),
            "the peer closes" => peer.send(close(1000, "")),
            _ => peer.send(vec![0xff; 20]),
        }
        let _ = socket.recv().await;
        settle().await;
        assert_eq!(
            peer.calls().shutdowns,
            usize::from(how != "blocked" && how != "we close")
        );
        let frames = frame(FIN | BINARY, &[1; 1000]);
        let left = 32 * MIB;
        let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
        println!("after {how:?}: {worst:?} between two of {runs} runs");
        assert!(worst.read <= BYTES + BUFFER, "{how}: {worst:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ends_the_closing_on_time_whatever_pours_in() {
    // What arrives costs time, so that the flood lasts longer than the closing may.
    for how in ["we close", "the peer closes", "a violation", "blocked"] {
        let (script, peer) = Script::new();
        let mut socket = WebSocket::from_io(script, Config::new());
        match how {
            "we close" => socket.sender().close(CloseCode::NORMAL, "").unwrap(),
            "the peer closes" => peer.send(close(1000, "")),
            "blocked" => {
                peer.set(|state| state.room = 0);
                peer.send(vec![0xff; 20]);
            }
            _ => peer.send(vec![0xff; 20]),
        }
        let start = Instant::now();
        let _ = socket.recv().await;
        while !peer.is_gone() {
            peer.send(frame(FIN | BINARY, &[1; 1000]));
            sleep(Duration::from_millis(100)).await;
            assert!(start.elapsed() < Duration::from_secs(6), "{how}");
        }
        assert!(start.elapsed() >= Duration::from_secs(5), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_the_handler_sends_without_end() {
    let peer = attach(Config::new(), true, async |mut socket: WebSocket| {
        socket.recv().await?;
        for _ in 0..100_000 {
            socket.send(vec![0; 1000]).await?;
        }
        Ok::<_, BoxError>(())
    })
    .await;
    peer.set(|state| state.swallows = true);
    let go = Input::Segment(frame(FIN | TEXT, b"go").into());
    let (runs, worst) = run_beside(&peer, go, |state| state.written >= 100_000 * 1004).await;
    println!("sending: {worst:?} between two of {runs} runs");
    assert!(worst.written <= 4 * MIB, "{worst:?}");
}

// ---------------------------------------------------------------------------------------------
// Sleep.

/// Counts how often the stream is called while `time` passes in steps.
async fn polls_within(peer: &Peer, time: Duration) -> usize {
    settle().await;
    let before = peer.polls();
    let step = Duration::from_millis(50);
    for _ in 0..time.as_millis() / step.as_millis() {
        sleep(step).await;
    }
    peer.polls() - before
}

#[tokio::test(start_paused = true)]
async fn sleeps_while_the_connection_is_idle() {
    let (script, peer) = Script::new();
    let _socket = WebSocket::from_io(script, Config::new().without_keepalive());
    assert_eq!(polls_within(&peer, Duration::from_secs(100)).await, 0);

    let (script, peer) = Script::new();
    let _socket = WebSocket::from_io(script, Config::new());
    assert_eq!(polls_within(&peer, Duration::from_secs(19)).await, 0);
    settle().await;
    let pinged = polls_within(&peer, Duration::from_secs(2)).await;
    println!("{pinged} calls for a ping");
    assert!((1..=6).contains(&pinged), "{pinged} for a ping");
}

#[tokio::test(start_paused = true)]
async fn does_not_poll_the_handler_of_an_idle_connection() {
    let polls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&polls);
    let peer = attach(Config::new(), true, move |mut socket: WebSocket| {
        let counted = Arc::clone(&counted);
        async move {
            let mut receiving = pin!(async move {
                while socket.recv().await?.is_some() {}
                Ok::<_, BoxError>(())
            });
            poll_fn(|cx| {
                counted.fetch_add(1, Ordering::Relaxed);
                receiving.as_mut().poll(cx)
            })
            .await
        }
    })
    .await;
    let before = polls.load(Ordering::Relaxed);
    assert_eq!(polls_within(&peer, Duration::from_secs(10)).await, 0);
    assert_eq!(polls.load(Ordering::Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn does_not_poll_a_handler_that_outlives_its_connection() {
    let polls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&polls);
    let (go, wait) = oneshot::channel::<()>();
    let wait = Mutex::new(Some(wait));
    let peer = attach(Config::new(), true, move |socket: WebSocket| {
        let counted = Arc::clone(&counted);
        let wait = wait.lock().unwrap().take().unwrap();
        async move {
            let _held = socket;
            let mut wait = pin!(wait);
            poll_fn(|cx| {
                counted.fetch_add(1, Ordering::Relaxed);
                wait.as_mut().poll(cx).map(drop)
            })
            .await;
            Ok::<_, Infallible>(())
        }
    })
    .await;
    peer.give(Input::End);
    settle().await;
    assert!(peer.is_gone());
    let before = polls.load(Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(polls.load(Ordering::Relaxed), before);
    go.send(()).unwrap();
    settle().await;
    assert_eq!(polls.load(Ordering::Relaxed), before + 1);
}

#[tokio::test(start_paused = true)]
async fn sleeps_in_every_state_that_waits_for_the_peer() {
    for state in [
        "half a message",
        "half a head",
        "blocked",
        "blocked with input",
        "inbox full",
        "peer's close, unseen",
        "our close, unanswered",
        "our close, unwritten",
        "our close, unwritten, answered",
        "violation, close unwritten",
        "shutting down",
        "draining",
        "draining after a violation",
        "draining after noise",
    ] {
        let (script, peer) = Script::new();
        let socket = WebSocket::from_io(script, Config::new());
        let sender = socket.sender();
        if state.contains("blocked") || state.contains("unwritten") {
            peer.set(|state| state.room = 1);
            sender.send(vec![0; 100]).await.unwrap();
            settle().await;
        }
        let ours = || sender.close(CloseCode::NORMAL, "").unwrap();
        match state {
            "half a message" => peer.send(frame(FIN | TEXT, &[b'x'; 100])[..50].to_vec()),
            "half a head" => peer.send(vec![FIN | TEXT]),
            "blocked" => {}
            "blocked with input" | "inbox full" => {
                peer.send(frame(FIN | TEXT, b"unseen").repeat(100));
            }
            "peer's close, unseen" => peer.send(close(1000, "")),
            "our close, unanswered" | "our close, unwritten" => ours(),
            "our close, unwritten, answered" => {
                ours();
                peer.send(close(1000, ""));
            }
            "violation, close unwritten" | "draining after a violation" => {
                peer.send(vec![0xff; 20]);
            }
            "shutting down" => {
                peer.set(|state| state.stuck_in_shutdown = true);
                ours();
                peer.send(close(1000, ""));
            }
            "draining" => {
                ours();
                peer.send(close(1000, ""));
            }
            "draining after noise" => {
                ours();
                peer.send(close(1000, ""));
                settle().await;
                peer.send(vec![0xff; 200]);
            }
            _ => panic!("{state}"),
        }
        let polls = polls_within(&peer, Duration::from_millis(900)).await;
        assert!(!peer.is_gone(), "{state}");
        assert_eq!(polls, 0, "{state}");
        // Nor does what is left of the waits keep the connection busy.
        sleep(Duration::from_secs(60)).await;
        drop(socket);
        sleep(Duration::from_secs(60)).await;
        assert!(peer.is_gone(), "{state}");
        assert!(peer.polls() < 40, "{state}: {:?}", peer.calls());
    }
}
