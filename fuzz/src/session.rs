//! A whole connection: a peer, a stream that stalls and breaks, and a handler, as a script says.

use std::{pin::pin, time::Duration};

use futures_util::SinkExt;
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
/// What is still written of what was accepted prolongs the closing, a second for so many bytes.
const SLOWEST: usize = 16 * 1024;

/// Plays a script, and then lets go of the socket: the connection has to end in time.
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
    /// All that the peer has sent.
    sent_by_peer: Vec<u8>,
    received: Vec<Message>,
    recv_is_over: bool,
    /// What the connection has accepted to be written.
    accepted: Vec<Message>,
    /// How many were accepted when a flush was polled first that has not ended: one that is dropped is
    /// gone on with by the next, unless the holder sends meanwhile.
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
                        assert!(may_be, "gone without having been asked");
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
                let code = code.expect("codes for applications are legal");
                let reason = "r".repeat(usize::from(script.byte()).min(123));
                // Dropped before it is polled, it does nothing.
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
        assert!(dropped.is_ok(), "not over after {:?}", start.elapsed());
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
            let closed = closed.expect("the end of the stream is that of the connection");
            if closed.is_clean() {
                assert!(written.close.is_some(), "clean without a Close");
            }
        }
        if !state.impeded && !self.with_keepalive {
            assert!(written.close.is_some(), "no Close though it can be written");
            // What was accepted is written before our Close, unless the peer closed first.
            if conversation.close.is_none() {
                assert_eq!(written.messages.len(), self.accepted.len(), "lost");
            }
        }
    }

    fn assert_received(&self, conversation: &Conversation) {
        let there = conversation.messages.get(..self.received.len());
        assert_eq!(there, Some(&*self.received), "received what was not sent");
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

/// Pongs have payloads of pings, in their order.
fn assert_pongs(written: &Written, conversation: &Conversation) {
    let mut pings = conversation.pings.iter();
    for pong in &written.pongs {
        assert!(pings.any(|ping| ping == pong), "a pong without a ping");
    }
}

/// A frame that is right but for its opcode, maybe, and what is in it.
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

/// Small ones, and some that are large enough to be written uncopied.
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

/// Up to a minute, mostly less than a second.
fn wait(byte: u8) -> Duration {
    match byte {
        0..=199 => Duration::from_millis(u64::from(byte) * 5),
        _ => Duration::from_secs(u64::from(byte) - 199),
    }
}
