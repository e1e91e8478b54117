//! Each limit of a connection on its own: its exact value, the Close that the peer reads past it, and
//! the results of `recv` and `Sender::closed`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "limits/closing.rs"]
mod closing;
#[path = "limits/control.rs"]
mod control;
#[path = "limits/messages.rs"]
mod messages;
#[path = "limits/opening.rs"]
mod opening;
mod support;
#[path = "limits/times.rs"]
mod times;
#[path = "limits/waiting.rs"]
mod waiting;

use std::time::Duration;

use support::wire;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};
use tower_websocket::{
    CloseCode, Message, Side, WebSocket,
    error::{SendError, TrySendError},
};
use wire::{CLOSE, FIN, read_frame};

/// The capacity of the pipe between a test and its socket, in each direction.
const BUFFER: usize = 1024;
const MIB: usize = 1024 * 1024;
const MILLI: Duration = Duration::from_millis(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Asserts the end of a connection, as its socket and a `Sender` return it.
async fn assert_told(mut socket: WebSocket, fault: Option<&str>, code: Option<u16>, reason: &str) {
    let sender = socket.sender();
    let end = socket.recv().await;
    match (&end, fault) {
        (Err(error), Some(fault)) => assert_eq!(format!("{error:?}"), fault),
        (Ok(None), None) => {}
        _ => panic!("{end:?} instead of {fault:?}"),
    }
    let end = socket.recv().await;
    assert!(matches!(end, Ok(None)), "{end:?} after the end");
    assert_eq!(socket.send("late").await, Err(SendError::Closed));
    let late = sender.try_send("late").unwrap_err();
    assert_eq!(late, TrySendError::Closed(Message::from("late")));
    let closed = sender.closed().await;
    assert_eq!(closed.side(), Side::Local);
    assert_eq!(closed.code().map(CloseCode::get), code);
    assert_eq!(closed.reason(), reason);
    assert!(!closed.is_clean(), "no Close of the peer was read");
}

/// Asserts that the peer gets a Close with the reason, and that the socket returns the fault.
async fn assert_refused(socket: WebSocket, mut client: DuplexStream, fault: &str, code: u16) {
    let frame = loop {
        let frame = read_frame(&mut client).await.expect("a Close");
        if frame.first == FIN | CLOSE {
            break frame;
        }
    };
    assert_eq!(frame.close_code(), Some(code), "{fault}");
    let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
    assert_ne!(reason, "", "{fault}");
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "after the Close");
    assert_told(socket, Some(fault), Some(code), &reason).await;
}

/// Asserts that the connection is dropped without a Close.
async fn assert_dropped(socket: WebSocket, mut client: DuplexStream, fault: &str) {
    assert_told(socket, Some(fault), None, "").await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= BUFFER, "{} bytes came", rest.len());
}

/// Receives a message, and returns its length.
async fn received(socket: &mut WebSocket) -> usize {
    socket.recv().await.unwrap().unwrap().len()
}

/// Writes until nothing is taken any more, `limit` bytes at most, and returns how many were.
async fn stuff(client: &mut DuplexStream, bytes: &[u8], limit: usize) -> usize {
    let mut written = 0;
    while written < limit {
        let start = written % bytes.len();
        match timeout(MILLI, client.write(&bytes[start..])).await {
            Ok(more) => written += more.unwrap(),
            Err(_) => break,
        }
    }
    written
}
