//! How a connection uses its stream: the number of reads, writes and flushes; streams that fail,
//! stall or take little at once; and the shutdown.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::{Future, poll_fn},
    io::ErrorKind,
    pin::pin,
    task::Poll,
    time::Duration,
};

use support::{
    handlers::receive,
    script::{self, Full, Input, Peer, Script, attach, settle},
    wire::{BINARY, CLOSE, FIN, PING, TEXT, close, frame, header},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tower_websocket::{CloseCode, Config, Echo, WebSocket, error::RecvError};

/// The size of the read buffer.
const BUFFER: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;

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

/// Builds `count` numbered messages: their payloads, and all of their frames in one segment.
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
async fn is_not_woken_by_messages_that_its_own_handler_sends() {
    let peer = attach(Config::new(), true, Echo::new()).await;
    peer.send(frame(FIN | TEXT, b"one"));
    settle().await;
    assert_eq!(peer.calls().idle_reads, 1, "{:?}", peer.calls());
}

#[tokio::test(start_paused = true)]
async fn reads_once_and_writes_once_to_echo_a_message() {
    let peer = attach(Config::new(), true, Echo::new()).await;
    peer.send(frame(FIN | TEXT, b"one"));
    settle().await;
    let calls = peer.calls();
    assert_eq!((calls.reads, calls.idle_reads), (1, 1), "{calls:?}");
    assert_eq!((calls.writes, calls.idle_writes), (1, 0), "{calls:?}");
}

/// A TLS stream, for example, may keep what was written until it is flushed.
#[tokio::test(start_paused = true)]
async fn flushes_an_answer_as_soon_as_the_stream_can() {
    for (what, peer) in script::attach_echoes().await {
        peer.lock().flush = Some(Full::Pending);
        peer.send(frame(FIN | TEXT, b"held back"));
        settle().await;
        assert_eq!(peer.payloads().await, [b"held back"], "{what}");
        assert_eq!(peer.lock().flushed, 0, "{what}");
        peer.send(frame(FIN | TEXT, b"behind it"));
        settle().await;
        peer.lock().flush = None;
        assert!(peer.wake_writer());
        settle().await;
        let payloads = peer.payloads().await;
        assert_eq!(payloads, [b"held back", b"behind it"], "{what}");
        let state = peer.lock();
        assert_eq!(state.flushed, state.written, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn ends_when_an_answer_cannot_be_flushed() {
    for (what, peer) in script::attach_echoes().await {
        peer.lock().flush = Some(Full::Error(ErrorKind::BrokenPipe));
        peer.send(frame(FIN | TEXT, b"held back"));
        settle().await;
        assert!(peer.is_gone(), "{what}");
    }
}

/// One write holds another task's answers to a full inbox.
#[tokio::test(start_paused = true)]
async fn echoes_a_burst_from_another_task_with_one_write_for_each_full_inbox() {
    let (mut socket, peer) = script::socket(Config::new());
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
        for (len, reads) in [(16 * 1024, 1), (MIB, MIB / BUFFER + 1)] {
            let peer = attach(Config::new(), vectored, Echo::new()).await;
            let (payloads, segment) = messages(1, len);
            peer.send(segment);
            settle().await;
            let calls = peer.calls();
            let case = format!("{len} bytes, vectored {vectored}: {calls:?}");
            println!("{case}");
            assert!(peer.payloads().await == payloads, "{case}");
            assert_eq!(calls.reads, reads, "{case}");
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
        peer.lock().at_once = 1;
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
        peer.send([byte]);
    }
    settle().await;
    assert_eq!(peer.payloads().await, payloads);
}

#[tokio::test(start_paused = true)]
async fn resumes_a_partial_write_when_the_stream_has_room_again() {
    for vectored in [true, false] {
        let peer = attach(Config::new(), vectored, Echo::new()).await;
        peer.lock().room = 0;
        let (mut payloads, segment) = messages(3, 5000);
        peer.send(segment);
        let (small, segment) = messages(30, 20);
        payloads.extend(small);
        peer.send(segment);
        // No frame has a multiple of 101 bytes.
        for _ in 0..1000 {
            settle().await;
            if !peer.add_room(101) {
                break;
            }
        }
        assert!(peer.payloads().await == payloads, "vectored {vectored}");
    }
}

// Streams that fail or stall.

#[tokio::test(start_paused = true)]
async fn drops_a_stream_whose_writes_return_zero_or_an_error() {
    for (full, kind) in [
        (Full::Zero, ErrorKind::WriteZero),
        (
            Full::Error(ErrorKind::ConnectionReset),
            ErrorKind::ConnectionReset,
        ),
    ] {
        for (room, vectored) in [(0, true), (1, true), (700, true), (700, false)] {
            let (script, peer) = Script::new();
            peer.lock().room = room;
            peer.lock().full = full;
            peer.lock().vectored = vectored;
            let start = Instant::now();
            let mut socket = WebSocket::from_io(script, Config::new());
            let sender = socket.sender();
            for _ in 0..4 {
                socket.send(vec![1; 300]).await.unwrap();
            }
            let case = format!("{full:?} after {room} bytes");
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
        let (socket, peer) = script::socket(Config::new());
        let receiver = receive(socket);
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
        let (socket, peer) = script::socket(Config::new());
        let receiver = receive(socket);
        peer.send(&whole[..cut]);
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
        peer.lock().room = room;
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
    let (mut socket, peer) = script::socket(Config::new());
    peer.lock().room = 0;
    socket.send(vec![1; 100]).await.unwrap();
    for _ in 0..10 {
        sleep(Duration::from_secs(9)).await;
        assert!(peer.add_room(10), "a write is waiting");
    }
    settle().await;
    assert!(!peer.is_gone());
    assert_eq!(peer.lock().output.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn answers_messages_that_came_before_the_end_of_the_stream() {
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

// The end.

/// Ends a connection as `how` says. Each of these ways sends a Close.
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
        "a violation" => peer.send([0xff; 20]),
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
        let (mut socket, peer) = script::socket(Config::new());
        socket.send("before").await.unwrap();
        settle().await;
        end(how, &peer, &mut socket).await;
        let _ = socket.send("meanwhile").await;
        let sender = socket.sender();
        let receiver = receive(socket);
        settle().await;
        assert!(sender.send("late").await.is_err(), "{how}");
        // None of these is answered.
        peer.send(frame(FIN | PING, b"late"));
        peer.send(frame(FIN | BINARY, b"late"));
        peer.send(close(1000, "again"));
        settle().await;
        peer.give(Input::End);
        let _ = result(receiver).await;
        settle().await;
        assert!(peer.is_gone(), "{how}");
        assert_eq!(peer.calls().shutdowns, 1, "{how}");
        assert_eq!(peer.lock().writes_after_shutdown, 0, "{how}");
        let (frames, torn) = peer.frames().await;
        assert!(!torn, "{how}");
        let closes = frames.iter().filter(|frame| frame.first == FIN | CLOSE);
        assert_eq!(closes.count(), 1, "{how}: {frames:?}");
        assert_eq!(frames.last().unwrap().first, FIN | CLOSE, "{how}");
        assert_eq!(frames[0].payload, b"before", "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn closes_on_a_stream_that_takes_one_byte_at_a_time() {
    let (mut socket, peer) = script::socket(Config::new());
    peer.lock().at_once = 1;
    socket.send("before").await.unwrap();
    peer.send(close(4999, "enough"));
    assert!(result(receive(socket)).await.is_none());
    settle().await;
    let (frames, torn) = peer.frames().await;
    assert!(!torn);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1].close_code(), Some(4999));
}
