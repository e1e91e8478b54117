//! [`WebSocket::recv_many`] and [`WebSocket::try_recv`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use support::{pipe, wire};
use tokio::{
    io::duplex,
    time::{sleep, timeout},
};
use tower_websocket::{
    Config, Message, WebSocket,
    error::{RecvError, TryRecvError},
};
use wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame, read_frame, write};

const GUARD: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(1);

/// Frames with the numbers from 0 on.
fn numbered(messages: u8) -> Vec<u8> {
    (0..messages)
        .flat_map(|number| frame(FIN | BINARY, &[number]))
        .collect()
}

fn numbers(messages: &[Message]) -> Vec<u8> {
    messages
        .iter()
        .map(|message| message.as_bytes()[0])
        .collect()
}

async fn recv_many(
    socket: &mut WebSocket,
    messages: &mut Vec<Message>,
    limit: usize,
) -> Result<usize, RecvError> {
    timeout(GUARD, socket.recv_many(messages, limit))
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn receives_all_in_order_whatever_the_limit() {
    for limit in [1, 2, 7, 16, 64, 1000, usize::MAX] {
        for at_once in [1, 3, 100, usize::MAX] {
            let (mut socket, mut client) = pipe::socket(Config::new(), 256 * 1024);
            let bytes = numbered(200);
            let sending = tokio::spawn(async move {
                for piece in bytes.chunks(at_once.min(bytes.len())) {
                    write(&mut client, piece).await;
                    tokio::task::yield_now().await;
                }
                write(&mut client, &frame(FIN | CLOSE, &[])).await;
                client
            });
            let mut messages = Vec::new();
            loop {
                let before = messages.len();
                let received = recv_many(&mut socket, &mut messages, limit).await.unwrap();
                assert_eq!(messages.len(), before + received);
                assert!(received <= limit);
                if received == 0 {
                    break;
                }
            }
            assert_eq!(numbers(&messages), (0..200).collect::<Vec<u8>>());
            assert_eq!(
                recv_many(&mut socket, &mut messages, limit).await.unwrap(),
                0
            );
            drop(sending.await.unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn receives_many_at_once_and_answers_in_one_go() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 256 * 1024);
    write(&mut client, &numbered(64)).await;
    let mut messages = Vec::new();
    let mut calls = 0;
    while messages.len() < 64 {
        recv_many(&mut socket, &mut messages, 64).await.unwrap();
        calls += 1;
    }
    assert!(calls <= 8, "{calls} calls for 64 messages");
    for message in messages {
        socket.send(message).await.unwrap();
    }
    for number in 0..64 {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, [number]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_none_receives_nothing_and_does_not_wait() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 256 * 1024);
    let mut messages = Vec::new();
    assert_eq!(recv_many(&mut socket, &mut messages, 0).await.unwrap(), 0);
    write(&mut client, &numbered(1)).await;
    sleep(MOMENT).await;
    assert_eq!(recv_many(&mut socket, &mut messages, 0).await.unwrap(), 0);
    assert_eq!(recv_many(&mut socket, &mut messages, 5).await.unwrap(), 1);
}

fn code_of(fault: &RecvError) -> u16 {
    match fault {
        RecvError::Protocol(_) => 1002,
        RecvError::InvalidUtf8 => 1007,
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_waits_until_what_came_before_it_was_taken() {
    let violations = [
        (frame(FIN | CONTINUATION, b"x"), 1002),
        (frame(FIN | TEXT, &[0xff]), 1007),
        (frame(0xf0 | BINARY, b"x"), 1002),
    ];
    for (violation, code) in violations {
        for before in [0, 1, 20, 100] {
            for limit in [3, 64, 1000] {
                let (mut socket, mut client) = pipe::socket(Config::new(), 256 * 1024);
                write(&mut client, &[numbered(before), violation.clone()].concat()).await;
                let mut messages = Vec::new();
                let fault = loop {
                    match recv_many(&mut socket, &mut messages, limit).await {
                        Ok(received) => assert!(received > 0, "the end came before the error"),
                        Err(fault) => break fault,
                    }
                };
                assert_eq!(code_of(&fault), code, "{fault:?}");
                assert_eq!(numbers(&messages), (0..before).collect::<Vec<u8>>());
                assert_eq!(
                    recv_many(&mut socket, &mut messages, limit).await.unwrap(),
                    0
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn loses_nothing_when_it_is_dropped() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 256 * 1024);
    let mut messages = Vec::new();
    for number in 0..50 {
        {
            let mut dropped = pin!(socket.recv_many(&mut messages, 10));
            let poll = dropped
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
            write(&mut client, &frame(FIN | BINARY, &[number])).await;
            if number % 2 == 0 {
                sleep(MOMENT).await;
            }
        }
        assert_eq!(recv_many(&mut socket, &mut messages, 10).await.unwrap(), 1);
    }
    assert_eq!(numbers(&messages), (0..50).collect::<Vec<u8>>());
}

/// Receives without waiting, until something else than nothing is there.
async fn try_recv(socket: &mut WebSocket) -> Result<Message, TryRecvError> {
    for _ in 0..100 {
        match socket.try_recv() {
            Err(TryRecvError::Empty) => sleep(MOMENT).await,
            received => return received,
        }
    }
    panic!("nothing comes");
}

#[tokio::test(start_paused = true)]
async fn tells_nothing_yet_from_the_end_and_from_a_fault() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 256 * 1024);
    assert!(matches!(socket.try_recv(), Err(TryRecvError::Empty)));
    write(&mut client, &frame(BINARY, b"ha")).await;
    sleep(MOMENT).await;
    assert!(
        matches!(socket.try_recv(), Err(TryRecvError::Empty)),
        "half a message"
    );
    write(&mut client, &frame(FIN | CONTINUATION, b"lf")).await;
    assert_eq!(try_recv(&mut socket).await.unwrap().as_bytes(), b"half");

    // More messages than one poll decodes. `try_recv` receives all of them without waiting.
    write(&mut client, &numbered(200)).await;
    for number in 0..200 {
        assert_eq!(try_recv(&mut socket).await.unwrap().as_bytes(), [number]);
    }
    // Control frames are handled, too.
    write(&mut client, &frame(FIN | PING, b"?")).await;
    assert_eq!(
        timeout(GUARD, read_frame(&mut client))
            .await
            .unwrap()
            .unwrap()
            .first,
        FIN | PONG
    );
    assert!(matches!(socket.try_recv(), Err(TryRecvError::Empty)));

    write(
        &mut client,
        &[numbered(1), frame(FIN | CLOSE, &1000u16.to_be_bytes())].concat(),
    )
    .await;
    assert_eq!(try_recv(&mut socket).await.unwrap().as_bytes(), [0]);
    for _ in 0..3 {
        assert!(matches!(
            try_recv(&mut socket).await,
            Err(TryRecvError::Ended)
        ));
    }
    assert_eq!(read_frame(&mut client).await.unwrap().first, FIN | CLOSE);

    let (mut socket, mut client) = pipe::socket(Config::new(), 256 * 1024);
    write(
        &mut client,
        &[numbered(20), frame(FIN | TEXT, &[0xff])].concat(),
    )
    .await;
    for number in 0..20 {
        assert_eq!(try_recv(&mut socket).await.unwrap().as_bytes(), [number]);
    }
    let failed = try_recv(&mut socket).await;
    assert!(matches!(
        failed,
        Err(TryRecvError::Failed(RecvError::InvalidUtf8))
    ));
    assert!(matches!(
        try_recv(&mut socket).await,
        Err(TryRecvError::Ended)
    ));
    assert!(matches!(socket.recv().await, Ok(None)));
}

/// A handler in the connection's own task that never waits in `recv`.
#[tokio::test(start_paused = true)]
async fn a_handler_that_only_tries_is_served_as_well() {
    let (server, mut client) = duplex(4096);
    let mut socket = WebSocket::from_io(server, Config::new());
    let handler = tokio::spawn(async move {
        let mut tick = tokio::time::interval(MOMENT);
        loop {
            tick.tick().await;
            loop {
                match socket.try_recv() {
                    Ok(message) => socket.send(message).await.unwrap(),
                    Err(TryRecvError::Empty) => break,
                    Err(end) => return end,
                }
            }
        }
    });
    for number in 0..100 {
        write(&mut client, &frame(FIN | BINARY, &[number; 100])).await;
        let echoed = timeout(GUARD, read_frame(&mut client)).await.unwrap();
        assert_eq!(echoed.unwrap().payload, [number; 100]);
    }
    write(&mut client, &frame(FIN | CLOSE, &[])).await;
    assert!(matches!(
        timeout(GUARD, handler).await.unwrap().unwrap(),
        TryRecvError::Ended
    ));
    let end = timeout(GUARD, read_frame(&mut client)).await.unwrap();
    assert_eq!(end.unwrap().first, FIN | CLOSE);
}
