//! A whole connection, controlled by a script: a peer, a stream that stalls and fails, and a handler.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tower_websocket::{
    CloseCode, Config, Message, WebSocket,
    error::RecvError,
    fuzzing::{Conversation, conversation},
};

use crate::{
    Script, block_on,
    stream::{End, Peer, Stream, Then, stream},
    written::Written,
};

const MAX_MESSAGE: usize = 3_000;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The bytes per second by which unwritten messages extend the time for closing.
const SLOWEST: usize = 16 * 1024;

/// Runs a script, and then drops the socket. The connection has to end in time.
pub fn session(data: &[u8]) {
    block_on(async {
        let mut script = Script(data);
        let (io, peer) = stream();
        let mut play = Play::begin(script.byte(), io, peer);
        while !script.is_over() && play.socket.is_some() {
            play.step(&mut script).await;
        }
        play.finish().await;
    });
}

struct Play {
    socket: Option<WebSocket>,
    peer: Peer,
    with_keepalive: bool,
    /// All bytes that the peer has sent.
    sent_by_peer: Vec<u8>,
    received: Vec<Message>,
    recv_is_over: bool,
    /// The messages that the connection has accepted.
    accepted: Vec<Message>,
    /// The number of accepted messages at the first poll of the current flush. If a flush is dropped, the next
    /// one continues it, unless the handler sends in between.
    flushes_up_to: Option<usize>,
    closed_by_handler: bool,
}

impl Play {
    fn begin(options: u8, io: Stream, peer: Peer) -> Self {
        let mut config = Config::new()
            .max_message_size(MAX_MESSAGE)
            .close_timeout(CLOSE_TIMEOUT);
        if options & 1 != 0 {
            config = config.max_inbox(2, 500);
        }
        if options & 2 != 0 {
            config = config.max_outbox(3, 700);
        }
        let with_keepalive = options & 4 != 0;
        if !with_keepalive {
            config = config.without_keepalive();
        }
        if options & 8 != 0 {
            peer.write_one_buffer();
        }
        if options & 16 != 0 {
            config = config
                .first_message_timeout(Duration::from_secs(2))
                .max_lifetime(Duration::from_secs(100));
        }
        Self {
            socket: Some(WebSocket::from_io(io, config)),
            peer,
            with_keepalive,
            sent_by_peer: Vec::new(),
            received: Vec::new(),
            recv_is_over: false,
            accepted: Vec::new(),
            flushes_up_to: None,
            closed_by_handler: false,
        }
    }

    async fn step(&mut self, script: &mut Script<'_>) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        match script.byte() % 24 {
            0 | 1 => {
                let bytes = script.bytes();
                self.sent_by_peer.extend_from_slice(bytes);
                self.peer.send(bytes);
            }
            2..=4 => {
                let frame = frame(script.byte(), script.bytes());
                self.sent_by_peer.extend_from_slice(&frame);
                self.peer.send(&frame);
            }
            5 => self.peer.end(End::Eof),
            6 => self.peer.end(End::Error),
            7 => self.peer.take(usize::from(script.byte()), Then::Pending),
            8 => self.peer.take(usize::MAX, Then::Pending),
            9 => self.peer.take(usize::from(script.byte()), Then::Error),
            10 => self.peer.take(usize::from(script.byte()), Then::Zero),
            11 => self.peer.write_at_once(script.byte().into()),
            12 => self.peer.read_at_once(script.byte().into()),
            13 => self.peer.flush(script.byte() & 1 != 0),
            14 => self.peer.shut_down(script.byte() & 1 != 0),
            15 | 16 => {
                let limit = wait(script.byte());
                let Ok(received) = timeout(limit, socket.recv()).await else {
                    return;
                };
                if self.recv_is_over {
                    assert!(matches!(received, Ok(None)), "{received:?} after the end");
                }
                match received {
                    Ok(Some(message)) => self.received.push(message),
                    Ok(None) => self.recv_is_over = true,
                    Err(error) => {
                        self.recv_is_over = true;
                        let may_be =
                            self.with_keepalive || !matches!(error, RecvError::Unresponsive);
                        assert!(may_be, "unresponsive without a ping");
                    }
                }
            }
            17 | 18 => {
                let message = message(script.byte(), script.byte());
                let limit = wait(script.byte());
                if let Ok(Ok(())) = timeout(limit, socket.send(message.clone())).await {
                    self.accepted.push(message);
                    self.flushes_up_to = None;
                }
            }
            19 => {
                let message = message(script.byte(), script.byte());
                if socket.sender().try_send(message.clone()).is_ok() {
                    self.accepted.push(message);
                }
            }
            20 => {
                let limit = wait(script.byte());
                let accepted = self.accepted.len();
                let up_to = *self.flushes_up_to.get_or_insert(accepted);
                if let Ok(Ok(())) = timeout(limit, socket.flush()).await {
                    self.flushes_up_to = None;
                    let output = self.peer.lock().output.clone();
                    let written = Written::read(&output, false).messages.len();
                    assert!(written >= up_to, "{written} of {up_to} flushed");
                }
            }
            21 => {
                let code = CloseCode::new(3000 + u16::from(script.byte()));
                let code = code.expect("codes for applications are valid");
                let reason = "r".repeat(usize::from(script.byte()).min(123));
                // Poll it at least once: a future that was never polled does nothing.
                let mut close = pin!(socket.close(code, reason));
                let closed = timeout(wait(script.byte()), close.as_mut()).await;
                assert!(!matches!(closed, Ok(Err(_))), "the reason is short enough");
                self.closed_by_handler = true;
            }
            22 => sleep(wait(script.byte())).await,
            23 => self.socket = None,
            _ => unreachable!("the remainder of a division by 24"),
        }
    }

    async fn finish(mut self) {
        let socket = self.socket.take();
        let sender = socket.as_ref().map(WebSocket::sender);
        drop(socket);
        let start = Instant::now();
        let waiting: usize = self.accepted.iter().map(|message| 10 + message.len()).sum();
        let longer = Duration::from_secs((waiting / SLOWEST) as u64);
        let slack = Duration::from_secs(2);
        let limit = CLOSE_TIMEOUT + longer + slack;
        let dropped = timeout(limit, self.peer.dropped()).await;
        assert!(dropped.is_ok(), "not closed after {:?}", start.elapsed());
        let closed = match sender {
            Some(sender) => Some(timeout(slack, sender.closed()).await),
            None => None,
        };

        let conversation = conversation(&self.sent_by_peer, MAX_MESSAGE);
        let state = self.peer.lock();
        let written = Written::read(&state.output, false);
        self.assert_received(&conversation);
        self.assert_messages(&written);
        assert_pongs(&written, &conversation);
        if let Some(closed) = closed {
            let closed = closed.expect("the connection ends with the stream");
            if closed.is_clean() {
                assert!(written.close.is_some(), "clean without a Close");
            }
        }
        if !state.impeded && !self.with_keepalive {
            assert!(written.close.is_some(), "no Close although it can be written");
            // Accepted messages are written before our Close, unless the peer closes first.
            if conversation.close.is_none() {
                assert_eq!(written.messages.len(), self.accepted.len(), "lost");
            }
        }
    }

    fn assert_received(&self, conversation: &Conversation) {
        let there = conversation.messages.get(..self.received.len());
        assert_eq!(there, Some(&*self.received), "received a message that was not sent");
    }

    fn assert_messages(&self, written: &Written) {
        assert!(written.messages.len() <= self.accepted.len());
        for ((is_text, payload), message) in written.messages.iter().zip(&self.accepted) {
            assert_eq!(
                (*is_text, &**payload),
                (message.is_text(), message.as_bytes())
            );
        }
    }
}

/// Asserts that pongs repeat payloads of pings, in order.
fn assert_pongs(written: &Written, conversation: &Conversation) {
    let mut pings = conversation.pings.iter();
    for pong in &written.pongs {
        assert!(pings.any(|ping| ping == pong), "a pong without a ping");
    }
}

/// Returns a masked frame with any first byte and payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0, 0xff, first, 1];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, key)| byte ^ key));
    frame
}

/// Returns a message. Some are large enough to be written without copying.
fn message(kind: u8, len: u8) -> Message {
    let len = match kind & 2 {
        0 => usize::from(len),
        _ => usize::from(len) * 40,
    };
    if kind & 1 == 0 {
        Message::text("t".repeat(len))
    } else {
        Message::binary(vec![len as u8; len])
    }
}

/// Returns a duration of up to a minute, usually less than a second.
fn wait(byte: u8) -> Duration {
    match byte {
        0..=199 => Duration::from_millis(u64::from(byte) * 5),
        _ => Duration::from_secs(u64::from(byte) - 199),
    }
}
