//! The socket as a `Stream` and a `Sink`: with combinators, and split into halves.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{Sink, SinkExt, StreamExt, TryStreamExt, stream};
use support::{pipe, settle, wire};
use tokio::{
    io::{AsyncReadExt, BufWriter, duplex, split},
    time::timeout,
};
use tower_websocket::{
    CloseCode, Config, Message, Side, WebSocket,
    error::{RecvError, SendError, SocketError},
};
use wire::{BINARY, FIN, TEXT, close, exchange_numbers, frame, read_close, read_frame, write};

const GUARD: Duration = Duration::from_secs(10);

fn now() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn is_closed(result: &Result<(), SocketError>) -> bool {
    matches!(result, Err(SocketError::Send(SendError::Closed)))
}

#[tokio::test(start_paused = true)]
async fn yields_messages_and_then_the_end() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    write(&mut client, &frame(FIN | TEXT, b"one")).await;
    write(&mut client, &frame(FIN | BINARY, b"two")).await;
    write(&mut client, &close(1000, "")).await;
    let all: Vec<Message> = (&mut socket).try_collect().await.unwrap();
    assert_eq!(all, [Message::text("one"), Message::binary("two")]);
    assert!(socket.next().await.is_none());
    assert!(socket.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn yields_one_error_and_then_the_end() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    write(&mut client, &frame(FIN | TEXT, b"one")).await;
    write(&mut client, &frame(FIN | TEXT, b"\xff")).await;
    assert!(socket.next().await.unwrap().is_ok());
    let error = socket.next().await.unwrap().unwrap_err();
    let invalid = matches!(error, SocketError::Recv(RecvError::InvalidUtf8));
    assert!(invalid, "{error:?}");
    assert!(socket.next().await.is_none());
    assert!(socket.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn forwards_one_half_to_the_other() {
    let queues = [1, 2, 3, 16, 1000];
    for (buffer, inbox, outbox) in [1, 7, 1024, 64 * 1024]
        .into_iter()
        .flat_map(|buffer| queues.map(|inbox| (buffer, inbox)))
        .flat_map(|(buffer, inbox)| queues.map(|outbox| (buffer, inbox, outbox)))
    {
        let config = Config::new()
            .max_inbox(inbox, 64 * 1024)
            .max_outbox(outbox, 64 * 1024);
        let (socket, client) = pipe::socket(config, buffer);
        let sender = socket.sender();
        let (sink, stream) = socket.split();
        let echo = tokio::spawn(stream.forward(sink));
        let (mut reader, mut writer) = split(client);
        let writes = async {
            for number in 0..100 {
                write(&mut writer, &frame(FIN | BINARY, &[number; 9])).await;
            }
            write(&mut writer, &close(4000, "")).await;
        };
        let reads = async {
            for number in 0..100 {
                let frame = read_frame(&mut reader).await.unwrap();
                assert_eq!(frame.payload, [number; 9], "{buffer}, {inbox}, {outbox}");
            }
            assert_eq!(read_close(&mut reader).await, Some(4000));
        };
        let both = async { tokio::join!(writes, reads) };
        timeout(GUARD, both).await.expect("a wakeup was lost");
        // Closing what the peer has closed is no error.
        timeout(GUARD, echo).await.unwrap().unwrap().unwrap();
        assert_eq!(sender.closed().await.side(), Side::Remote);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_in_halves_that_live_in_different_tasks() {
    const EACH: u32 = 3000;
    let config = Config::new().max_inbox(2, 60).max_outbox(2, 60);
    let (socket, client) = pipe::socket(config, 16);
    let (mut sink, mut stream) = socket.split();
    let sends = tokio::spawn(async move {
        for number in 0..EACH {
            sink.send(Message::binary(number.to_be_bytes().to_vec()))
                .await?;
        }
        Ok::<_, SocketError>(sink)
    });
    let receives = tokio::spawn(async move {
        for number in 0..EACH {
            let message = stream.next().await.unwrap().unwrap();
            assert_eq!(message.as_bytes(), number.to_be_bytes());
        }
        stream
    });
    let client = tokio::spawn(exchange_numbers(client, EACH));
    let all = async { tokio::try_join!(sends, receives, client).unwrap() };
    let (sink, stream, mut client) = timeout(GUARD, all).await.expect("a wakeup was lost");
    // Both halves make a socket again.
    let socket = stream.reunite(sink.unwrap()).unwrap();
    drop(socket);
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn takes_all_of_another_stream() {
    let (mut socket, client) = pipe::socket(Config::new().max_outbox(2, 40), 16);
    let (mut reader, _writer) = split(client);
    let reads = tokio::spawn(async move {
        for number in 0..100 {
            let frame = read_frame(&mut reader).await.unwrap();
            assert_eq!(frame.payload, [number; 30]);
        }
    });
    let mut messages = stream::iter(0..100).map(|number| Ok(Message::binary(vec![number; 30])));
    let sent = timeout(GUARD, socket.send_all(&mut messages)).await;
    sent.expect("a wakeup was lost").unwrap();
    // It has flushed, too.
    assert_eq!(socket.sender().buffered(), Default::default());
    timeout(GUARD, reads).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn is_flushed_when_the_last_byte_is_written_and_not_before() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 10);
    // 8 bytes and a head, 5000 and a longer head.
    for len in [8, 8, 5000, 8] {
        socket.feed(Message::binary(vec![1; len])).await.unwrap();
    }
    let all = 3 * 10 + 5004;
    let sender = socket.sender();
    let mut flush = pin!(SinkExt::<Message>::flush(&mut socket));
    for read in 0..all {
        settle().await;
        let flushed = Future::poll(flush.as_mut(), &mut now());
        let written = read + 10 >= all;
        assert_eq!(
            flushed.is_ready(),
            written,
            "{read} of {all} bytes were read"
        );
        assert_eq!(sender.buffered().bytes == 0, written);
        if written {
            assert!(matches!(flushed, Poll::Ready(Ok(()))));
            return;
        }
        client.read_u8().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn sends_what_is_fed_also_without_a_flush() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 1024);
    socket.feed("fed".into()).await.unwrap();
    let frame = timeout(GUARD, read_frame(&mut client)).await.unwrap();
    assert_eq!(frame.unwrap().payload, b"fed");
    SinkExt::<Message>::flush(&mut socket).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn wakes_a_flush_that_waits() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 10);
    socket.feed(vec![1; 500].into()).await.unwrap();
    let flush = tokio::spawn(async move {
        SinkExt::<Message>::flush(&mut socket).await.unwrap();
        socket
    });
    settle().await;
    assert!(!flush.is_finished());
    assert_eq!(read_frame(&mut client).await.unwrap().payload, [1; 500]);
    let flush = timeout(GUARD, flush).await;
    flush.expect("a wakeup was lost").unwrap();
}

/// A stream that buffers, such as TLS, is flushed before the flush of the socket is ready.
#[tokio::test(start_paused = true)]
async fn is_not_flushed_before_the_stream_is() {
    let (server, mut client) = duplex(10);
    let mut socket = WebSocket::from_io(BufWriter::new(server), Config::new());
    socket.feed(vec![1; 98].into()).await.unwrap();
    let mut flush = pin!(SinkExt::<Message>::flush(&mut socket));
    for read in 0..90 {
        settle().await;
        let flushed = Future::poll(flush.as_mut(), &mut now());
        assert!(flushed.is_pending(), "only {read} of 100 bytes were read");
        client.read_u8().await.unwrap();
    }
    let flushed = timeout(GUARD, flush).await;
    flushed.expect("a wakeup was lost").unwrap();
}

#[tokio::test(start_paused = true)]
async fn is_ready_when_there_is_room() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_outbox(2, 1000), 10);
    let mut sink = pin!(&mut socket);
    for _ in 0..2 {
        let ready = sink.as_mut().poll_ready(&mut now());
        assert!(matches!(ready, Poll::Ready(Ok(()))));
        sink.as_mut().start_send(vec![1; 50].into()).unwrap();
    }
    assert!(sink.as_mut().poll_ready(&mut now()).is_pending());
    let reads = async {
        for _ in 0..2 {
            read_frame(&mut client).await.unwrap();
        }
    };
    let ready = poll_fn(|cx| sink.as_mut().poll_ready(cx));
    let both = async { tokio::join!(ready, reads) };
    let (ready, ()) = timeout(GUARD, both).await.expect("a wakeup was lost");
    ready.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closes_with_1000_behind_what_was_fed() {
    let (mut socket, mut client) = pipe::socket(Config::new(), 10);
    for number in 0..10 {
        socket.feed(vec![number; 20].into()).await.unwrap();
    }
    let sender = socket.sender();
    let closing = tokio::spawn(async move {
        SinkExt::<Message>::close(&mut socket).await.unwrap();
        assert!(socket.next().await.is_none());
        assert!(is_closed(&socket.feed("late".into()).await));
        // Closing twice is no error.
        SinkExt::<Message>::close(&mut socket).await.unwrap();
    });
    for number in 0..10 {
        assert_eq!(read_frame(&mut client).await.unwrap().payload, [number; 20]);
    }
    assert_eq!(read_close(&mut client).await, Some(1000));
    settle().await;
    assert!(!closing.is_finished(), "the peer has not answered");
    write(&mut client, &close(1000, "")).await;
    timeout(GUARD, closing).await.unwrap().unwrap();
    let closed = timeout(GUARD, sender.closed()).await.unwrap();
    assert_eq!(
        (closed.code(), closed.is_clean()),
        (Some(CloseCode::NORMAL), true)
    );
}

#[tokio::test(start_paused = true)]
async fn closes_from_one_half_and_ends_the_other() {
    let (socket, mut client) = pipe::socket(Config::new(), 1024);
    let (mut sink, mut stream) = socket.split();
    let receives = tokio::spawn(async move { stream.next().await.is_none() });
    settle().await;
    let closing = tokio::spawn(async move { sink.close().await });
    assert_eq!(read_close(&mut client).await, Some(1000));
    write(&mut client, &close(1000, "")).await;
    timeout(GUARD, closing).await.unwrap().unwrap().unwrap();
    assert!(timeout(GUARD, receives).await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn refuses_everything_after_the_end() {
    let (mut socket, client) = pipe::socket(Config::new(), 1024);
    let sender = socket.sender();
    drop(client);
    timeout(GUARD, sender.closed()).await.unwrap();
    assert!(matches!(
        socket.next().await,
        Some(Err(SocketError::Recv(RecvError::Io(_))))
    ));
    assert!(socket.next().await.is_none());
    assert!(is_closed(&socket.feed("late".into()).await));
    let sent = SinkExt::<Message>::send(&mut socket, "late".into()).await;
    assert!(is_closed(&sent));
    assert!(is_closed(&Pin::new(&mut socket).start_send("late".into())));
    // Nothing was left to be written.
    SinkExt::<Message>::flush(&mut socket).await.unwrap();
    SinkExt::<Message>::close(&mut socket).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fails_to_flush_and_to_close_when_what_was_fed_is_lost() {
    let (mut socket, client) = pipe::socket(Config::new(), 10);
    socket.feed(vec![1; 500].into()).await.unwrap();
    settle().await;
    let mut flush = pin!(SinkExt::<Message>::flush(&mut socket));
    assert!(Future::poll(flush.as_mut(), &mut now()).is_pending());
    drop(client);
    let flushed = timeout(GUARD, flush).await.expect("a wakeup was lost");
    assert!(is_closed(&flushed));
    // The trait allows `Ok` only if nothing is left in the buffer.
    let closed = timeout(GUARD, SinkExt::<Message>::close(&mut socket)).await;
    assert!(is_closed(&closed.unwrap()));
}

/// A sender as a sink waits for room in the same queue, and leaves it when it is dropped.
#[tokio::test(start_paused = true)]
async fn forwards_several_streams_to_senders() {
    let (socket, client) = pipe::socket(Config::new().max_outbox(1, 40), 16);
    let (mut reader, _writer) = split(client);
    let forwards = [0_u8, 1, 2].map(|from| {
        let messages = stream::iter(0..100).map(move |number| Ok(vec![from, number].into()));
        tokio::spawn(messages.forward(socket.sender()))
    });
    let mut waiting = socket.sender();
    let mut next = [0_u8; 3];
    for read in 0..300 {
        if read % 7 == 3 {
            let _ = Pin::new(&mut waiting).poll_ready(&mut now());
        }
        if read % 7 == 5 {
            waiting = socket.sender();
        }
        let frame = timeout(GUARD, read_frame(&mut reader)).await;
        let payload = frame.expect("a wakeup was lost").unwrap().payload;
        let next = &mut next[usize::from(payload[0])];
        assert_eq!(payload[1], *next);
        *next += 1;
    }
    for forward in forwards {
        timeout(GUARD, forward).await.unwrap().unwrap().unwrap();
    }
    // The end of a stream does not close the connection.
    waiting.try_send("open").unwrap();
    assert_eq!(read_frame(&mut reader).await.unwrap().payload, b"open");
}

#[tokio::test(start_paused = true)]
async fn a_ready_sender_that_is_not_fed_does_not_block_other_senders() {
    let (socket, mut client) = pipe::socket(Config::new().max_outbox(1, 10), 4);
    let (mut idle, sender) = (socket.sender(), socket.sender());
    sender.try_send(vec![0; 8]).unwrap();
    assert!(Pin::new(&mut idle).poll_ready(&mut now()).is_pending());
    let waits = tokio::spawn(async move { sender.send(vec![1; 8]).await });
    for number in 0..2 {
        let frame = timeout(GUARD, read_frame(&mut client)).await;
        assert_eq!(frame.expect("it hangs").unwrap().payload, [number; 8]);
    }
    timeout(GUARD, waits).await.unwrap().unwrap().unwrap();
}
