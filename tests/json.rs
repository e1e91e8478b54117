//! Messages as JSON over the wire, and the Close after a message that is not the expected JSON.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{collections::BTreeMap, error::Error as StdError, fmt, io, rc::Rc};

use serde::{Deserialize, Serialize};
use support::{
    pipe::{attach, socket},
    wire::{BINARY, FIN, Frame, TEXT, close, frame, read_frame, read_payload, write},
    within,
};
use tower_websocket::{
    BoxError, Config, Error, Message, WebSocket,
    error::SendError,
    json::{JsonError, RecvJsonError, SendJsonError},
};

#[derive(Debug, Deserialize, Serialize)]
struct Add {
    left: u8,
    right: u8,
}

/// Adds numbers. A wrong message ends it with the error of `recv_json`.
async fn add(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(Add { left, right }) = socket.recv_json().await? {
        socket
            .send_json(&u16::from(left).checked_add(right.into()))
            .await?;
    }
    Ok(())
}

/// Messages that cannot be parsed as an `Add`, each with the code and the reason of its Close.
fn faults() -> Vec<(Message, u16, &'static str)> {
    vec![
        (
            Message::binary(r#"{"left":1,"right":2}"#),
            1003,
            "the message is binary, not text",
        ),
        (Message::text(""), 1007, "invalid json at line 1 column 0"),
        (
            Message::text("secret"),
            1007,
            "invalid json at line 1 column 1",
        ),
        (
            Message::text(r#"{"left":1,"right":2"#),
            1007,
            "invalid json at line 1 column 19",
        ),
        (
            Message::text(r#"{"left":"secret","#),
            1007,
            "invalid json at line 1 column 17",
        ),
        (
            Message::text(r#"{"left":1,"right":"secret"}"#),
            1008,
            "unexpected shape of the json at line 1 column 26",
        ),
        (
            Message::text("{\"left\":1,\n\"right\":256}"),
            1008,
            "unexpected shape of the json at line 2 column 11",
        ),
        (
            Message::text(r#"{"left":1}"#),
            1008,
            "unexpected shape of the json at line 1 column 10",
        ),
    ]
}

fn framed(message: &Message) -> Vec<u8> {
    let opcode = if message.is_text() { TEXT } else { BINARY };
    frame(FIN | opcode, message.as_bytes())
}

/// Returns the code and the reason of a Close.
fn code_and_reason(frame: &Frame) -> (Option<u16>, String) {
    let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
    (frame.close_code(), reason)
}

#[tokio::test(start_paused = true)]
async fn a_handler_calculates_with_values() {
    let (mut client, _) = attach(add).await;
    for (left, right) in [(1, 2), (255, 255)] {
        let message = Message::json(&Add { left, right }).unwrap();
        write(&mut client, &framed(&message)).await;
        let answer = within(read_frame(&mut client)).await.unwrap();
        let sum = u16::from(left) + u16::from(right);
        assert_eq!(answer.first, FIN | TEXT);
        assert_eq!(answer.payload, sum.to_string().as_bytes());
    }
    write(&mut client, &close(1000, "")).await;
    let end = within(read_frame(&mut client)).await.unwrap();
    assert_eq!(end.close_code(), Some(1000));
}

/// An error of an application.
#[derive(Debug)]
enum Failed {
    Wrong(JsonError),
    Receiving(RecvJsonError),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl StdError for Failed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Wrong(error) => Some(error),
            Self::Receiving(error) => Some(error),
        }
    }
}

/// Ways in which a handler may return the error of a message.
const WAYS: [&str; 5] = ["?", "source", "source of source", "io", "io of io"];

async fn fails(mut socket: WebSocket, way: &str) -> Result<(), BoxError> {
    match socket.recv_json::<Add>().await {
        Ok(_) => Ok(()),
        Err(RecvJsonError::Json(error)) if way == "source" => Err(Failed::Wrong(error).into()),
        Err(error) if way == "source of source" => Err(Failed::Receiving(error).into()),
        Err(error) if way == "io" => Err(io::Error::other(error).into()),
        Err(error) if way == "io of io" => Err(io::Error::other(io::Error::other(error)).into()),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_the_error_closes_with_the_code_of_the_fault() {
    for way in WAYS {
        for (message, code, reason) in faults() {
            let (mut client, _) = attach(move |socket| fails(socket, way)).await;
            write(&mut client, &framed(&message)).await;
            let end = within(read_frame(&mut client)).await.unwrap();
            assert_eq!(
                code_and_reason(&end),
                (Some(code), reason.to_owned()),
                "{way}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_catch_all_error_keeps_the_code() {
    for (message, code, _) in faults() {
        let (mut client, _) = attach(async |mut socket: WebSocket| {
            let message = socket.recv().await?;
            message.unwrap().parse_json::<Add>()?;
            Ok::<_, Error>(())
        })
        .await;
        write(&mut client, &framed(&message)).await;
        let end = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(end.close_code(), Some(code));
    }
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn the_fault_is_logged_at_debug_level_and_quotes_nothing() {
    use support::formats::{FORMATS, lines, listen, parsed};

    for (message, code, reason) in faults() {
        listen();
        let (mut client, connections) = attach(add).await;
        write(&mut client, &framed(&message)).await;
        let end = within(read_frame(&mut client)).await.unwrap();
        write(&mut client, &close(code, "")).await;
        support::pipe::until_idle(&connections).await;
        assert_eq!(end.close_code(), Some(code));
        let [line] = &parsed("ended with an error of its peer")[..] else {
            panic!("{:#?}", parsed(""));
        };
        assert_eq!(line["level"], "DEBUG");
        for format in 0..FORMATS.len() {
            assert_eq!(lines(format, "secret"), [""; 0]);
            // The line of the connection's end. The line of the error has the reason in formats that show sources.
            let last = lines(format, reason).pop().unwrap();
            assert!(last.contains("websocket closed"), "{last}");
            assert_eq!(lines(format, "WARN"), [""; 0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_answer_a_wrong_message_and_go_on() {
    let (mut client, _) = attach(async |mut socket: WebSocket| {
        loop {
            match socket.recv_json().await {
                Ok(Some(Add { left, right })) => socket.send_json(&(left + right)).await?,
                Ok(None) => return Ok(()),
                Err(RecvJsonError::Json(error)) => {
                    socket.send(error.close_code().to_string()).await?;
                }
                Err(error) => return Err(Error::from(error)),
            }
        }
    })
    .await;
    for (message, code, _) in faults() {
        write(&mut client, &framed(&message)).await;
        let answer = within(read_payload(&mut client)).await;
        assert_eq!(answer, code.to_string().as_bytes());
    }
    write(&mut client, &frame(FIN | TEXT, br#"{"left":3,"right":4}"#)).await;
    assert_eq!(within(read_payload(&mut client)).await, b"7");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_keeps_its_own_code() {
    let (mut client, _) = attach(add).await;
    write(&mut client, &frame(FIN | TEXT, b"\xff")).await;
    let end = within(read_frame(&mut client)).await.unwrap();
    let reason = "the peer sent text that is not utf-8".to_owned();
    assert_eq!(code_and_reason(&end), (Some(1007), reason));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_json_is_a_fault_of_the_handler() {
    fn map() -> BTreeMap<[u8; 2], u8> {
        BTreeMap::from([([1, 2], 3)])
    }
    let (mut client, _) = attach(async |mut socket: WebSocket| {
        let refused = socket.send_json(&map()).await;
        assert!(
            matches!(refused, Err(SendJsonError::Json(_))),
            "{refused:?}"
        );
        let refused = socket.sender().send_json(&map()).await;
        assert!(
            matches!(refused, Err(SendJsonError::Json(_))),
            "{refused:?}"
        );
        socket.send_json("still open").await?;
        socket.send_json(&map()).await?;
        Ok::<_, Error>(())
    })
    .await;
    let first = within(read_payload(&mut client)).await;
    assert_eq!(first, br#""still open""#);
    let end = within(read_frame(&mut client)).await.unwrap();
    assert_eq!(end.close_code(), Some(1011));
}

#[tokio::test(start_paused = true)]
async fn a_sender_sends_values() {
    let (mut socket, mut client) = socket(Config::new(), 4096);
    let sender = socket.sender();
    sender.send_json(&Add { left: 1, right: 2 }).await.unwrap();
    let sent = within(read_frame(&mut client)).await.unwrap();
    assert_eq!(sent.first, FIN | TEXT);
    assert_eq!(sent.payload, br#"{"left":1,"right":2}"#);
    sender
        .close(tower_websocket::CloseCode::NORMAL, "")
        .unwrap();
    for refused in [sender.send_json(&1).await, socket.send_json(&1).await] {
        let closed = matches!(refused, Err(SendJsonError::Send(SendError::Closed)));
        assert!(closed, "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_future_of_a_send_borrows_no_value_and_is_send() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let (mut socket, mut client) = socket(Config::new(), 4096);
    // An `Rc` cannot be used in another thread, but its JSON can be sent from there.
    let future = {
        let value = Rc::new(String::from("a value"));
        is_send(socket.send_json(&*value))
    };
    future.await.unwrap();
    assert_eq!(within(read_payload(&mut client)).await, br#""a value""#);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_loses_no_message() {
    let (mut socket, mut client) = socket(Config::new(), 4096);
    let text = frame(FIN | TEXT, br#"{"left":1,"right":2}"#);
    for (index, byte) in text.iter().enumerate() {
        tokio::select! {
            biased;
            received = socket.recv_json::<Add>() => panic!("{index}: {received:?}"),
            () = support::settle() => {}
        }
        write(&mut client, &[*byte]).await;
    }
    let received = within(socket.recv_json::<Add>()).await.unwrap();
    assert!(matches!(received, Some(Add { left: 1, right: 2 })));
}

#[test]
fn the_detail_of_an_error_is_for_the_peer() {
    let detail = |message: Message| message.parse_json::<Add>().unwrap_err().detail();
    for (message, expected) in [
        (
            Message::text(r#"{"left":1}"#),
            "missing field `right` at line 1 column 10",
        ),
        (
            Message::text("{"),
            "EOF while parsing an object at line 1 column 1",
        ),
        (Message::binary("{}"), "the message is binary, not text"),
    ] {
        assert_eq!(detail(message), expected);
    }
}

#[test]
fn the_errors_name_their_cause_once() {
    let wrong = Message::text("{").parse_json::<u8>().unwrap_err();
    let error = RecvJsonError::from(wrong);
    let texts: Vec<_> =
        std::iter::successors(Some(&error as &dyn StdError), |&error| error.source())
            .map(ToString::to_string)
            .collect();
    assert_eq!(
        texts,
        [
            "the peer sent a wrong message",
            "the message is not the expected json",
            "invalid json at line 1 column 1"
        ]
    );
}
