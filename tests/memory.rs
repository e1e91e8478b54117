//! The resident memory that a peer can make the server hold.
//!
//! Each part runs in its own process, one after the other. So no part uses memory that another part has
//! freed, and none adds to the memory of another. The tests measure the anonymous part of the resident
//! set, which the kernel counts page by page in `/proc/self/smaps_rollup`. Without this file, nothing is
//! measured. The streams are pipes of a few KiB, and the clock is tokio's paused clock.
//!
//! ```text
//! cargo test --test memory -- --nocapture
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "memory/floods.rs"]
mod floods;
#[path = "memory/many.rs"]
mod many;
mod support;
#[path = "memory/unfinished.rs"]
mod unfinished;
#[path = "memory/unread.rs"]
mod unread;

use std::time::Duration;

use floods::{
    long_pings, pings, swallowed_pongs, unlimited_long_pings, unlimited_pings, unlimited_pongs,
};
use many::{declared_frames, declared_frames_after_a_handshake, idle_connections};
use memory::{KIB, measure};
use support::{memory, wire};
use tokio::io::duplex;
use tower_websocket::{Config, WebSocket};
use unfinished::{
    a_byte_a_second, empty_fragments, endless, frames_over_the_limit, unlimited_empty_fragments,
};
use unread::{echo_behind, send_without_end};
use wire::{BINARY, CONTINUATION, FIN, TEXT, frame, read_close, write};

const SECOND: Duration = Duration::from_secs(1);

/// The capacity of a pipe in each direction.
const PIPE: usize = 4 * KIB;

const PARTS: &[(&str, fn())] = &[
    ("pings, nothing read", pings),
    ("pings without a limit, nothing read", unlimited_pings),
    ("pings of 125 bytes, nothing read", long_pings),
    (
        "pings of 125 bytes without a limit, nothing read",
        unlimited_long_pings,
    ),
    ("pongs without a limit", unlimited_pongs),
    ("pings without a limit, pongs swallowed", swallowed_pongs),
    ("32 bytes sent without end", || send_without_end(32, true)),
    ("1000 bytes sent without end, one buffer a write", || {
        send_without_end(1000, false)
    }),
    ("1990 bytes sent without end", || {
        send_without_end(1990, true);
    }),
    ("4 KiB sent without end", || send_without_end(4 * KIB, true)),
    ("4 KiB sent without end, one buffer a write", || {
        send_without_end(4 * KIB, false)
    }),
    ("100 KiB sent without end", || {
        send_without_end(100 * KIB, true);
    }),
    ("100 KiB sent without end, one buffer a write", || {
        send_without_end(100 * KIB, false)
    }),
    ("empty texts echoed behind 64 KiB, nothing read", || {
        echo_behind(64 * KIB, &frame(FIN | TEXT, b""));
    }),
    (
        "empty texts in two frames echoed behind 64 KiB, nothing read",
        || {
            let frames = [frame(TEXT, b""), frame(FIN | CONTINUATION, b"")];
            echo_behind(64 * KIB, &frames.concat());
        },
    ),
    ("32 bytes echoed, nothing read", || {
        echo_behind(0, &frame(FIN | TEXT, &[b'x'; 32]));
    }),
    ("2,000,000 empty fragments", empty_fragments),
    (
        "2,000,000 empty fragments without a limit",
        unlimited_empty_fragments,
    ),
    ("text that never ends, by 1 byte", || endless(TEXT, 1, 1008)),
    ("binary that never ends, by 1 byte", || {
        endless(BINARY, 1, 1008)
    }),
    ("text that never ends, by 100 bytes", || {
        endless(TEXT, 100, 1009)
    }),
    ("binary that never ends, by 100 bytes", || {
        endless(BINARY, 100, 1009)
    }),
    ("text that never ends, by 100 KiB", || {
        endless(TEXT, 100 * KIB, 1009)
    }),
    ("binary that never ends, by 100 KiB", || {
        endless(BINARY, 100 * KIB, 1009)
    }),
    ("frames over the limit", frames_over_the_limit),
    ("a frame by a byte a second", a_byte_a_second),
    ("1,000 frames declared", declared_frames),
    (
        "1,000 frames declared, after a handshake",
        declared_frames_after_a_handshake,
    ),
    ("1,000 idle connections", idle_connections),
];

#[test]
fn holds_no_more_than_it_may_whatever_a_peer_does() {
    measure("holds_no_more_than_it_may_whatever_a_peer_does", PARTS);
}

/// Runs a part after a connection that behaves.
fn run(part: impl Future<Output = ()>) {
    memory::run(async {
        warm_up().await;
        part.await;
    });
}

/// Has what the first connection of a thread costs paid by one that behaves.
async fn warm_up() {
    let (server, mut client) = duplex(PIPE);
    let mut socket = WebSocket::from_io(server, Config::new());
    write(&mut client, &frame(FIN | TEXT, b"warm")).await;
    let message = socket.recv().await.unwrap().unwrap();
    socket.send(message).await.unwrap();
    drop(socket);
    assert_eq!(read_close(&mut client).await, Some(1000));
}

fn unlimited() -> Config {
    Config::new().max_control_frames(u32::MAX, u32::MAX)
}
