//! When the task of a connection runs: it yields to other tasks under load, and is not polled while
//! the connection is idle.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::SinkExt;
use support::{
    script::{self, Input, Peer, Spell, State, attach, settle},
    wire::{BINARY, CONTINUATION, FIN, PING, TEXT, close, frame, header},
};
use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, sleep},
};
use tower_websocket::{BoxError, CloseCode, Config, Echo, WebSocket};

/// The most frames and bytes that one poll of a connection's task takes.
const FRAMES: usize = 64;
const BYTES: usize = 256 * 1024;
/// The most bytes that it takes within a large payload.
const BYTES_WITHIN: usize = 1024 * 1024 + 16;
/// The size of the read buffer.
const BUFFER: usize = 64 * 1024;

const MIB: usize = 1024 * 1024;

// Other tasks.

/// Runs a task that gives `input` and is then always ready to run, until `done`. Returns how often
/// it ran, and the most that was read and written between two runs.
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
            peer.lock().worst = Spell::default();
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
        // Goes to the back of the queue. `yield_now` would wait longer.
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    task.await.unwrap()
}

fn is_read(state: &State) -> bool {
    state.input.is_empty()
}

fn unlimited() -> Config {
    Config::new().max_control_frames(u32::MAX, u32::MAX)
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_between_messages_that_are_echoed() {
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
    assert!(most * 16 * 1024 <= BYTES, "{most} reads between two runs");
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
        let peer = attach(Config::new(), vectored, Echo::new()).await;
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
        peer.lock().discards = true;
        let frames = frame(FIN | BINARY, &[1; 30_000]);
        let left = frames.len() * 1000;
        let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
        println!("30 KB messages, {what}: {worst:?} between two of {runs} runs");
        assert!(worst.read <= BYTES + BUFFER, "{what}: {worst:?}");
    }
}

/// Bytes that are read straight into the payload of a message count as well.
#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_messages_arrive_in_two_pieces() {
    for (what, peer) in script::attach_echoes().await {
        peer.lock().discards = true;
        for message in vec![frame(FIN | BINARY, &[1; 64 * 1024]); 200] {
            let (first, second) = message.split_at(17 * 1024);
            peer.send(first);
            peer.send(second);
        }
        let last = Input::segment(frame(FIN | BINARY, b""));
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

/// A compressed byte costs much more work than an uncompressed one, even if it inflates to nothing.
#[cfg(feature = "deflate")]
#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_a_compressed_message_pours_in() {
    let config = Config::new()
        .max_message_size(4 * MIB)
        .deflate(tower_websocket::Deflate::new());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let request = support::wire::handshake_with("/", offer);
    let peer = script::attach_with(config, true, Echo::new(), &request).await;
    // Empty stored blocks fill the whole frame.
    let frames = vec![0, 0, 0, 0xff, 0xff];
    let head = header(FIN | 0x40 | BINARY, 4 * MIB, true);
    peer.send([&head[..], &[0; 4]].concat());
    let left = 4 * MIB;
    let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
    println!("compressed: {worst:?} between two of {runs} runs");
    assert!(worst.read <= 2 * BUFFER, "{worst:?}");
    assert_eq!(peer.lock().output, b"", "no Close: all of it is accepted");
}

/// On a thread, one large message at a time goes to its final buffer as it arrives.
#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_a_message_pours_into_its_final_buffer() {
    for opcode in [BINARY, TEXT] {
        for (before, len) in [(0, 1_300_000), (3, MIB - 1000), (3, 1_300_000)] {
            let config = Config::new().max_message_size(64 * MIB);
            let peer = attach(config, true, Echo::new()).await;
            for _ in 0..before {
                peer.send(frame(FIN | BINARY, &[1; 60_000]));
            }
            let message = frame(FIN | opcode, &vec![b'a'; len]);
            let (begin, rest) = message.split_at(15 * 1024);
            peer.send(begin);
            let (_, worst) = run_beside(&peer, Input::segment(rest), is_read).await;
            assert!(
                worst.read <= BYTES_WITHIN + BUFFER,
                "{len} bytes: {worst:?}"
            );
            settle().await;
            let output = before * (4 + 60_000) + 10 + len;
            assert_eq!(peer.lock().output.len(), output);
        }
    }
}

/// One poll takes more bytes of a large payload than of small ones, because each byte costs less.
/// Small fragments between large ones do not get the higher limit.
#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_tiny_fragments_among_large_ones_pour_in() {
    let config = Config::new()
        .max_message_size(64 * MIB)
        .max_fragments(u32::MAX, u32::MAX);
    let large = frame(CONTINUATION, &[1; 64 * 1024]);
    let tiny = frame(CONTINUATION, &[1]).repeat(7000);
    // Every read ends within a large fragment.
    let (begin, rest) = large.split_at(1024);
    let (middle, end) = rest.split_at(rest.len() - 1024);
    let peer = attach(config, true, Echo::new()).await;
    peer.send(frame(BINARY, b"first"));
    peer.send(begin);
    settle().await;
    for _ in 0..40 {
        peer.lock().input.extend([
            Input::segment(middle),
            Input::segment([end, &tiny, begin].concat()),
        ]);
    }
    let last = Input::segment(rest);
    let (runs, worst) = run_beside(&peer, last, is_read).await;
    println!("{worst:?} between two of {runs} runs");
    assert!(worst.read <= BYTES + BUFFER, "{worst:?}");
}

/// Otherwise each of many connections would hold a part of a message, and continue after the part
/// has left the processor's cache.
#[tokio::test(start_paused = true)]
async fn takes_a_whole_message_of_1_mib_in_one_poll() {
    for (what, peer) in script::attach_echoes().await {
        peer.lock().discards = true;
        let message = frame(FIN | BINARY, &vec![1; MIB]);
        let expected = message.len();
        let (_, worst) = run_beside(&peer, Input::segment(message), is_read).await;
        assert_eq!(worst.read, expected, "{what}");
    }
}

/// Otherwise each of many connections would hold a whole message until its next poll.
#[tokio::test(start_paused = true)]
async fn answers_a_large_message_in_the_poll_that_reads_its_end() {
    for len in [300 * 1024, MIB] {
        for opcode in [BINARY, TEXT] {
            // The first message in progress goes to its final buffer, and the others are gathered.
            let first = attach(Config::new(), true, Echo::new()).await;
            let second = attach(Config::new(), true, Echo::new()).await;
            let message = frame(FIN | opcode, &vec![b'a'; len]);
            let (begin, rest) = message.split_at(100 * 1024);
            for peer in [&first, &second] {
                peer.send(begin);
                settle().await;
            }
            for peer in [first, second] {
                run_beside(&peer, Input::segment(rest), is_read).await;
                let output = &peer.lock().output;
                assert_eq!(output.len(), 10 + len, "opcode {opcode}");
            }
        }
    }
}

/// Otherwise the server would hold two large messages for a peer that reads nothing, not one.
#[tokio::test(start_paused = true)]
async fn reads_little_of_the_next_message_while_a_large_answer_is_unwritten() {
    let peer = attach(Config::new(), true, Echo::new()).await;
    peer.lock().room = 0;
    let message = frame(FIN | BINARY, &vec![1; MIB]);
    let (most, last) = message.split_at(message.len() - 1);
    peer.send(most);
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

const CLOSINGS: [&str; 4] = ["we close", "the peer closes", "a violation", "blocked"];

/// Begins to end a connection. When it is "blocked", our Close cannot be written.
fn begin_closing(how: &str) -> (Peer, WebSocket) {
    let (socket, peer) = script::socket(Config::new());
    match how {
        "we close" => socket.sender().close(CloseCode::NORMAL, "").unwrap(),
        "the peer closes" => peer.send(close(1000, "")),
        "blocked" => {
            peer.lock().room = 0;
            peer.send([0xff; 20]);
        }
        _ => peer.send([0xff; 20]),
    }
    (peer, socket)
}

#[tokio::test(start_paused = true)]
async fn lets_other_tasks_run_while_a_peer_keeps_sending_after_the_close() {
    for how in CLOSINGS {
        let (peer, mut socket) = begin_closing(how);
        let _ = socket.recv().await;
        settle().await;
        let is_shut = how == "the peer closes" || how == "a violation";
        assert_eq!(peer.calls().shutdowns, usize::from(is_shut), "{how}");
        let frames = frame(FIN | BINARY, &[1; 1000]);
        let left = 32 * MIB;
        let (runs, worst) = run_beside(&peer, Input::Flood { frames, left }, is_read).await;
        println!("after {how:?}: {worst:?} between two of {runs} runs");
        assert!(worst.read <= BYTES + BUFFER, "{how}: {worst:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ends_the_closing_handshake_on_time_while_messages_pour_in() {
    for how in CLOSINGS {
        let (peer, mut socket) = begin_closing(how);
        let start = Instant::now();
        let _ = socket.recv().await;
        while !peer.is_gone() {
            // The clock runs while messages arrive.
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
    peer.lock().discards = true;
    let go = Input::segment(frame(FIN | TEXT, b"go"));
    let (runs, worst) = run_beside(&peer, go, |state| state.written >= 100_000 * 1004).await;
    println!("sending: {worst:?} between two of {runs} runs");
    assert!(worst.written <= 4 * MIB, "{worst:?}");
}

/// Returns how often the stream is called while `peer` gets an echo.
async fn polls_of_an_echo(peer: &Peer) -> usize {
    settle().await;
    let (before, written) = (peer.polls(), peer.lock().written);
    peer.give(Input::segment(frame(FIN | TEXT, b"go")));
    settle().await;
    assert_eq!(peer.lock().written - written, 4);
    peer.polls() - before
}

/// The handler that waited for the flush does nothing that needs the stream.
#[tokio::test(start_paused = true)]
async fn a_flush_of_the_handler_does_not_poll_the_stream_again() {
    let without = attach(Config::new(), true, async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok::<_, BoxError>(())
    })
    .await;
    let with = attach(Config::new(), true, async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            SinkExt::send(&mut socket, message).await?;
        }
        Ok::<_, BoxError>(())
    })
    .await;
    assert_eq!(
        polls_of_an_echo(&with).await,
        polls_of_an_echo(&without).await
    );
}

// Idle connections.

/// Returns how often the stream is called in the next `time`.
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
async fn does_not_poll_the_stream_of_an_idle_connection() {
    let (_socket, peer) = script::socket(Config::new().without_keepalive());
    assert_eq!(polls_within(&peer, Duration::from_secs(100)).await, 0);

    let (_socket, peer) = script::socket(Config::new());
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
async fn is_idle_in_every_state_that_waits_for_the_peer() {
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
        let (socket, peer) = script::socket(Config::new());
        let sender = socket.sender();
        if state.contains("blocked") || state.contains("unwritten") {
            peer.lock().room = 1;
            sender.send(vec![0; 100]).await.unwrap();
            settle().await;
        }
        let ours = || sender.close(CloseCode::NORMAL, "").unwrap();
        match state {
            "half a message" => peer.send(&frame(FIN | TEXT, &[b'x'; 100])[..50]),
            "half a head" => peer.send([FIN | TEXT]),
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
                peer.send([0xff; 20]);
            }
            "shutting down" => {
                peer.lock().stuck_in_shutdown = true;
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
                peer.send([0xff; 200]);
            }
            _ => panic!("{state}"),
        }
        let polls = polls_within(&peer, Duration::from_millis(900)).await;
        assert!(!peer.is_gone(), "{state}");
        assert_eq!(polls, 0, "{state}");
        // Nor is the connection busy later, when its timeouts pass.
        sleep(Duration::from_secs(60)).await;
        drop(socket);
        sleep(Duration::from_secs(60)).await;
        assert!(peer.is_gone(), "{state}");
        assert!(peer.polls() < 40, "{state}: {:?}", peer.calls());
    }
}
