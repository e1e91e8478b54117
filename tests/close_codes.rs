//! Close codes and reasons, for every way to end a connection and every order of the two Closes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    pipe,
    violations::{EMPTY_FRAGMENTS, INVALID_UTF8, PINGS, TOO_LARGE, UNMASKED},
    wire::{
        self, CLOSE, FIN, PONG, TEXT, close, frame, read_close, read_frame, read_payload, write,
    },
    within,
};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::{Notify, mpsc},
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Config, Connections, CountedCode, Handler, Message, Sender,
    Side, WebSocket, WebSocketLayer, error::InvalidClose,
};

/// Codes that may be sent, from each range.
const LEGAL: [u16; 16] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
];

/// A way to end a connection.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Return,
    Fail,
    Panic,
    /// The handler returns a Close as its error.
    Give(u16, &'static str),
    /// The handler calls `WebSocket::close`.
    Close(u16, &'static str),
    /// Another task calls `Sender::close`.
    Send(u16, &'static str),
    Shutdown,
    ShutdownWith(u16, &'static str),
    Lifetime,
    /// The client breaks a rule.
    Violate(&'static [u8]),
}

const LIFETIME: Duration = Duration::from_secs(60);

/// Each ending with its code, and its reason unless the crate chooses the words.
const ENDINGS: [(Ending, u16, Option<&str>); 18] = [
    (Ending::Return, 1000, Some("")),
    (Ending::Fail, 1011, Some("")),
    (Ending::Panic, 1011, Some("")),
    (Ending::Give(4001, "kicked"), 4001, Some("kicked")),
    (Ending::Give(4999, ""), 4999, Some("")),
    (Ending::Give(3000, "registered"), 3000, Some("registered")),
    (Ending::Give(1008, "house rules"), 1008, Some("house rules")),
    (
        Ending::Close(1003, "text, please"),
        1003,
        Some("text, please"),
    ),
    (Ending::Close(4000, "bye"), 4000, Some("bye")),
    (Ending::Send(1013, "too slow"), 1013, Some("too slow")),
    (Ending::Shutdown, 1001, Some("")),
    (Ending::ShutdownWith(1012, "update"), 1012, Some("update")),
    (Ending::Lifetime, 1001, None),
    (Ending::Violate(UNMASKED), 1002, None),
    (Ending::Violate(INVALID_UTF8), 1007, None),
    (Ending::Violate(TOO_LARGE), 1009, None),
    (Ending::Violate(EMPTY_FRAGMENTS), 1008, None),
    (Ending::Violate(PINGS), 1008, None),
];

/// A handler that waits for `now` and then ends as `ending` says.
struct Ends {
    ending: Ending,
    now: Arc<Notify>,
    senders: mpsc::UnboundedSender<Sender>,
}

impl Handler for Ends {
    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        self.senders.send(socket.sender())?;
        self.now.notified().await;
        match self.ending {
            Ending::Return => Ok(()),
            Ending::Fail => Err("no database".into()),
            Ending::Panic => panic!("as told"),
            Ending::Give(code, reason) => {
                Err(CloseFrame::new(CloseCode::new(code)?, reason)?.into())
            }
            Ending::Close(code, reason) => Ok(socket.close(CloseCode::new(code)?, reason).await?),
            _ => unreachable!(),
        }
    }
}

/// A connection that has not ended yet.
struct Open {
    ending: Ending,
    client: DuplexStream,
    sender: Sender,
    connections: Connections,
    now: Arc<Notify>,
    opened: Instant,
}

impl Open {
    async fn new(ending: Ending) -> Self {
        let (senders, mut opened) = mpsc::unbounded_channel();
        let now = Arc::new(Notify::new());
        let handler = Ends {
            ending,
            now: Arc::clone(&now),
            senders,
        };
        let mut config = Config::new();
        if let Ending::Lifetime = ending {
            config = config.max_lifetime(LIFETIME).without_keepalive();
        }
        let connections = Connections::new().shutdown_spread(Duration::ZERO);
        let layer = WebSocketLayer::new(handler)
            .config(config)
            .connections_in(&connections);
        let (client, _) = pipe::attach_layer(layer, 4096).await;
        Self {
            ending,
            client,
            sender: opened.recv().await.unwrap(),
            connections,
            now,
            opened: Instant::now(),
        }
    }

    /// Causes the ending.
    async fn end(&mut self) {
        match self.ending {
            Ending::Send(code, reason) => {
                let code = CloseCode::new(code).unwrap();
                self.sender.close(code, reason).unwrap();
            }
            Ending::Shutdown => self.connections.close(),
            Ending::ShutdownWith(code, reason) => {
                let code = CloseCode::new(code).unwrap();
                let frame = CloseFrame::new(code, reason).unwrap();
                self.connections.close_with(frame);
            }
            Ending::Lifetime => sleep_until(self.opened + LIFETIME).await,
            Ending::Violate(bytes) => write(&mut self.client, bytes).await,
            _ => self.now.notify_one(),
        }
    }

    /// Reads up to the Close, and returns its code and reason.
    async fn read_close(&mut self) -> (u16, String) {
        loop {
            let frame = read_frame(&mut self.client).await.expect("a Close");
            if frame.first != FIN | PONG {
                let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
                return (frame.close_code().unwrap(), reason);
            }
        }
    }

    /// Asserts that the stream ends, and that `closed` and the counts have this ending.
    async fn assert_ended(mut self, side: Side, code: u16, reason: &str, clean: bool) {
        let ending = self.ending;
        assert_eq!(self.client.read(&mut [0]).await.unwrap(), 0, "{ending:?}");
        let closed = self.sender.closed().await;
        assert_eq!(closed.side(), side, "{ending:?}");
        assert_eq!(closed.code().map(CloseCode::get), Some(code), "{ending:?}");
        assert_eq!(closed.reason(), reason, "{ending:?}");
        assert_eq!(closed.is_clean(), clean, "{ending:?}");
        drop(self.client);
        // Some handlers still wait.
        self.now.notify_one();
        within(self.connections.wait()).await;
        let counts = self.connections.counts();
        let code = CloseCode::new(code).unwrap();
        let closed: Vec<_> = counts.closed().collect();
        let one = vec![((side, CountedCode::Code(code)), 1)];
        assert_eq!((counts.open(), closed), (0, one), "{ending:?}");
    }
}

/// Asserts that the Close that was read is the one of the ending.
fn assert_is_close_of(read: &(u16, String), code: u16, reason: Option<&str>, ending: Ending) {
    assert_eq!(read.0, code, "{ending:?}");
    match reason {
        Some(reason) => assert_eq!(read.1, reason, "{ending:?}"),
        None => assert_ne!(read.1, "", "{ending:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn sends_the_code_and_reason_when_this_side_closes_first() {
    for (ending, code, reason) in ENDINGS {
        let mut open = Open::new(ending).await;
        open.end().await;
        let read = open.read_close().await;
        assert_is_close_of(&read, code, reason, ending);
        write(&mut open.client, &close(code, &read.1)).await;
        // After a violation the peer's Close is not read.
        let clean = !matches!(ending, Ending::Violate(_));
        open.assert_ended(Side::Local, code, &read.1, clean).await;
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_the_code_of_a_peer_that_closes_first() {
    for (ending, ..) in ENDINGS {
        for code in [1000, 1001, 1003, 1011, 3000, 4321] {
            let mut open = Open::new(ending).await;
            write(&mut open.client, &close(code, "the peer's")).await;
            yield_now().await;
            open.end().await;
            assert_eq!(open.read_close().await, (code, String::new()), "{ending:?}");
            open.assert_ended(Side::Remote, code, "the peer's", true)
                .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sends_the_code_and_reason_when_the_closes_of_both_sides_cross() {
    for (ending, code, reason) in ENDINGS {
        let mut open = Open::new(ending).await;
        open.end().await;
        // The peer has not read our Close when it sends its own.
        sleep(Duration::from_millis(1)).await;
        write(&mut open.client, &close(4321, "the peer's")).await;
        let read = open.read_close().await;
        assert_is_close_of(&read, code, reason, ending);
        let clean = !matches!(ending, Ending::Violate(_));
        open.assert_ended(Side::Local, code, &read.1, clean).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sends_one_close_and_reports_the_same_when_both_sides_close_at_once() {
    for (ending, code, reason) in ENDINGS {
        for peer_first in [true, false] {
            let mut open = Open::new(ending).await;
            let close = close(4321, "the peer's");
            if peer_first {
                write(&mut open.client, &close).await;
            }
            open.end().await;
            if !peer_first {
                write(&mut open.client, &close).await;
            }
            let read = open.read_close().await;
            if read.0 == 4321 {
                assert_eq!(read.1, "");
                open.assert_ended(Side::Remote, 4321, "the peer's", true)
                    .await;
            } else {
                assert_is_close_of(&read, code, reason, ending);
                let clean = !matches!(ending, Ending::Violate(_));
                open.assert_ended(Side::Local, code, &read.1, clean).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_every_code_that_a_peer_may_send() {
    for code in LEGAL {
        let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
        write(&mut client, &close(code, &"x".repeat(123))).await;
        assert!(matches!(socket.recv().await, Ok(None)), "code {code}");
        assert_eq!(read_close(&mut client).await, Some(code));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let closed = socket.sender().closed().await;
        assert_eq!(closed.side(), Side::Remote);
        assert_eq!(closed.code().map(CloseCode::get), Some(code));
        assert_eq!(closed.reason(), "x".repeat(123));
        assert!(closed.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn sends_every_code_that_may_be_sent_with_the_longest_reason() {
    let reason = "é".repeat(61) + "x";
    for code in LEGAL {
        let (socket, mut client) = pipe::socket(Config::new(), 1024);
        let code = CloseCode::new(code).unwrap();
        socket.sender().close(code, &*reason).unwrap();
        let frame = read_frame(&mut client).await.unwrap();
        assert_eq!(frame.close_code(), Some(code.get()));
        assert_eq!(&frame.payload[2..], reason.as_bytes());
    }
}

#[test]
fn refuses_illegal_codes() {
    for code in 0..=u16::MAX {
        let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        match CloseCode::new(code) {
            Ok(made) => assert!(legal && made.get() == code, "code {code}"),
            Err(error) => {
                assert!(!legal, "code {code}");
                assert_eq!(error, InvalidClose::Code { code });
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_reasons_of_more_than_123_bytes() {
    let long = Err(InvalidClose::Reason { len: 124 });
    for reason in ["x".repeat(124), "é".repeat(62)] {
        let frame = CloseFrame::new(CloseCode::NORMAL, reason.clone());
        assert_eq!(frame.map(|_| ()), long);
        let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
        let sender = socket.sender();
        assert_eq!(sender.close(CloseCode::NORMAL, reason.clone()), long);
        assert_eq!(socket.close(CloseCode::NORMAL, reason).await, long);
        // The connection is still open.
        sender.send("still here").await.unwrap();
        assert_eq!(read_payload(&mut client).await, b"still here");
    }
}

#[tokio::test(start_paused = true)]
async fn recv_returns_the_rule_that_the_peer_broke() {
    for (code, violation, fault) in [
        (1002, UNMASKED, "Protocol("),
        (1007, INVALID_UTF8, "InvalidUtf8"),
        (1009, TOO_LARGE, "TooLarge"),
    ] {
        let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
        let bytes = [&frame(FIN | TEXT, b"good"), violation].concat();
        write(&mut client, &bytes).await;
        let sender = socket.sender();
        sender.closed().await;
        // The message that came before is received first, even now.
        assert_eq!(socket.recv().await.unwrap(), Some(Message::from("good")));
        let error = socket.recv().await.unwrap_err();
        assert!(format!("{error:?}").starts_with(fault), "{error:?}");
        assert!(matches!(socket.recv().await, Ok(None)));
        // A later Close changes nothing.
        sender.close(CloseCode::NORMAL, "").unwrap();
        drop(socket);
        assert_eq!(read_close(&mut client).await, Some(code));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let closed = sender.closed().await;
        assert_eq!(closed.side(), Side::Local);
        assert_eq!(closed.code().map(CloseCode::get), Some(code));
    }
}

/// A Close without a code (RFC 6455 §7.1.5), as a gateway passes it on.
#[tokio::test(start_paused = true)]
async fn sends_a_close_without_a_code() {
    for by_sender in [true, false] {
        let connections = Connections::new();
        let (server, mut client) = duplex(64);
        let mut socket = connections.from_io(server, Config::new()).unwrap();
        socket.send("last").await.unwrap();
        let sender = socket.sender();
        let closes = tokio::spawn(async move {
            if by_sender {
                socket.sender().close_without_code();
            } else {
                socket.close_without_code().await;
            }
            assert_eq!(socket.recv().await.unwrap(), None);
            assert_eq!(socket.close_frame(), None);
            socket
        });
        assert_eq!(read_frame(&mut client).await.unwrap().payload, b"last");
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!((frame.first, &frame.payload[..]), (FIN | CLOSE, &b""[..]));
        write(&mut client, &wire::frame(FIN | CLOSE, b"")).await;
        let mut socket = within(closes).await.unwrap();
        let closed = within(sender.closed()).await;
        assert_eq!((closed.side(), closed.code()), (Side::Local, None));
        assert!(closed.is_clean());
        // A later Close changes nothing.
        socket.close(CloseCode::NORMAL, "").await.unwrap();
        assert_eq!(sender.closed().await, closed);
        drop(client);
        within(connections.wait()).await;
        let counts = connections.counts();
        let counted: Vec<_> = counts.closed().collect();
        assert_eq!(counted, [((Side::Local, CountedCode::None), 1)]);
    }
}
