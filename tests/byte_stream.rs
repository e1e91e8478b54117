//! A socket as a stream of bytes: reads, writes, flushes, and the result of each kind of end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::{Pin, pin},
    time::Duration,
};

use support::{
    pipe,
    schedule::{Random, poll_once},
    settle,
    wire::{BINARY, CONTINUATION, FIN, TEXT, close, frame, read_close, read_frame, write},
    within,
};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex,
        split,
    },
    time::timeout,
};
use tower_websocket::{
    ByteStream, CloseCode, CloseFrame, Config, Connections,
    error::{RecvError, SendError},
};

const KIB: usize = 1024;

fn stream(config: Config, capacity: usize) -> (ByteStream, DuplexStream) {
    let (socket, client) = pipe::socket(config, capacity);
    (socket.into_io(), client)
}

const _: () = {
    const fn is_stream<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>() {}
    is_stream::<ByteStream>();
};

/// Bytes without a pattern that a lost or repeated message would keep.
fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 31 + (i >> 8) * 7 + (i >> 16)) as u8)
        .collect()
}

fn source<E: std::error::Error + 'static>(error: &io::Error) -> &E {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

#[tokio::test(start_paused = true)]
async fn joins_messages_and_skips_empty_ones() {
    let (mut stream, mut client) = stream(Config::new(), KIB);
    write(&mut client, &frame(FIN | BINARY, b"one")).await;
    write(&mut client, &frame(FIN | BINARY, b"")).await;
    write(&mut client, &frame(BINARY, b"tw")).await;
    write(&mut client, &frame(FIN | CONTINUATION, b"o")).await;
    write(&mut client, &close(1000, "")).await;
    let mut all = Vec::new();
    within(stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"onetwo");
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(read_close(&mut client).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn reads_into_buffers_of_any_size() {
    let (mut stream, mut client) = stream(Config::new(), 64 * KIB);
    write(&mut client, &frame(FIN | BINARY, b"abcdefgh\nij\n")).await;
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(
        stream.read(&mut []).await.unwrap(),
        0,
        "no bytes were asked for"
    );
    // Reads without a copy, and then up to a delimiter.
    assert_eq!(stream.fill_buf().await.unwrap(), b"bcdefgh\nij\n");
    stream.consume(3);
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await.unwrap();
    assert_eq!(line, b"efgh\n");
    let mut rest = [0; 3];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"ij\n");
    assert!(poll_once(pin!(stream.read(&mut byte))).is_pending());
}

#[tokio::test(start_paused = true)]
async fn ends_at_an_ordinary_close_and_fails_at_others() {
    for (code, is_end) in [
        (Some(1000), true),
        (Some(1001), true),
        (None, true),
        (Some(1002), false),
        (Some(1008), false),
        (Some(1011), false),
        (Some(4000), false),
    ] {
        let (mut stream, mut client) = stream(Config::new(), KIB);
        write(&mut client, &frame(FIN | BINARY, b"data")).await;
        match code {
            Some(code) => write(&mut client, &close(code, "why")).await,
            None => write(&mut client, &frame(FIN | 0x8, b"")).await,
        }
        // Bytes before the Close are read first.
        let mut data = [0; 4];
        within(stream.read_exact(&mut data)).await.unwrap();
        for repeated in [false, true] {
            let end = within(stream.read(&mut data)).await;
            if is_end {
                assert_eq!(end.unwrap(), 0, "{code:?}");
                continue;
            }
            let error = end.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{code:?}");
            if !repeated {
                let frame: &CloseFrame = source(&error);
                assert_eq!(Some(frame.code().get()), code);
                assert_eq!(frame.reason(), "why");
            }
        }
        settle().await;
        let error = within(stream.write(b"late")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let _: &SendError = source(&error);
    }
}

#[tokio::test(start_paused = true)]
async fn fails_with_a_kind_for_each_fault() {
    let mut ends = Vec::new();
    for case in 0..5 {
        let config = Config::new().max_message_size(100);
        let (mut stream, mut client) = stream(config, KIB);
        write(&mut client, &frame(FIN | BINARY, b"data")).await;
        match case {
            0 => drop(client),
            1 => write(&mut client, &frame(FIN | BINARY, &[0; 101])).await,
            2 => write(&mut client, &frame(FIN | 0x7, b"")).await,
            // The keepalive gets no answer.
            3 => {}
            _ => write(&mut client, &frame(FIN | TEXT, b"text")).await,
        }
        stream.read_exact(&mut [0; 4]).await.unwrap();
        let first = timeout(Duration::from_secs(60), stream.read(&mut [0; 4])).await;
        let first = first.unwrap().unwrap_err();
        let again = stream.read(&mut [0; 4]).await.unwrap_err();
        assert_eq!(first.kind(), again.kind());
        if case < 4 {
            let _: &RecvError = source(&first);
        }
        ends.push(first.kind());
    }
    assert_eq!(
        ends,
        [
            ErrorKind::UnexpectedEof,
            ErrorKind::InvalidData,
            ErrorKind::InvalidData,
            ErrorKind::TimedOut,
            ErrorKind::InvalidData,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn refuses_text_with_1003() {
    let (mut stream, mut client) = stream(Config::new(), KIB);
    write(&mut client, &frame(FIN | TEXT, b"text")).await;
    let error = within(stream.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!(error.to_string(), "the peer sent text in a stream of bytes");
    assert_eq!(read_close(&mut client).await, Some(1003));
}

/// A shutdown of the server may cut off data, so a read fails instead of returning the end.
#[tokio::test(start_paused = true)]
async fn fails_when_this_side_closes_elsewhere() {
    let connections = Connections::new();
    let (server, mut client) = duplex(KIB);
    let socket = connections.from_io(server, Config::new()).unwrap();
    let mut stream = socket.into_io();
    write(&mut client, &frame(FIN | BINARY, b"data")).await;
    connections.close();
    let error = within(stream.read_to_end(&mut Vec::new()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(source::<CloseFrame>(&error).code(), CloseCode::GOING_AWAY);
    // A later shutdown of the stream does not turn the error into an end.
    let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
    assert!(stream.read(&mut [0; 4]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_write_is_one_message_of_at_most_64_kib() {
    let (mut stream, mut client) = stream(Config::new(), 1 << 20);
    let all = bytes(150 * KIB);
    assert_eq!(stream.write(b"").await.unwrap(), 0, "no message");
    assert_eq!(stream.write(b"small").await.unwrap(), 5);
    stream.write_all(&all).await.unwrap();
    let mut lens = Vec::new();
    let mut payloads = Vec::new();
    for _ in 0..4 {
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert_eq!(frame.first, FIN | BINARY);
        lens.push(frame.payload.len());
        payloads.extend(frame.payload);
    }
    assert_eq!(lens, [5, 64 * KIB, 64 * KIB, 22 * KIB]);
    assert!(payloads[5..] == all);
}

#[tokio::test(start_paused = true)]
async fn a_vectored_write_is_one_message() {
    let (mut stream, mut client) = stream(Config::new(), 1 << 20);
    assert!(stream.is_write_vectored());
    let long = bytes(100 * KIB);
    let slices = [
        IoSlice::new(b"head "),
        IoSlice::new(b""),
        IoSlice::new(b"body"),
    ];
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 9);
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"head body");
    let slices = [
        IoSlice::new(b"head "),
        IoSlice::new(&long),
        IoSlice::new(b"tail"),
    ];
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 64 * KIB);
    let payload = read_frame(&mut client).await.unwrap().payload;
    assert_eq!(payload[..5], *b"head ");
    assert!(payload[5..] == long[..64 * KIB - 5]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_until_the_last_byte_is_written() {
    let (mut stream, mut client) = stream(Config::new(), 10);
    stream.write_all(&[1; 98]).await.unwrap();
    let mut flush = pin!(stream.flush());
    for read in 0..90 {
        settle().await;
        let flushed = poll_once(flush.as_mut());
        assert!(flushed.is_pending(), "only {read} of 100 bytes were read");
        client.read_u8().await.unwrap();
    }
    within(flush).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_room_and_fails_at_the_end() {
    let (mut stream, mut client) = stream(Config::new().max_outbox(10, 8 * KIB), 64);
    let sender = stream.get_ref().sender();
    stream.write_all(&[1; 6 * KIB]).await.unwrap();
    {
        // A write that is dropped has written nothing.
        let mut waits = pin!(stream.write(&[2; 6 * KIB]));
        assert!(poll_once(waits.as_mut()).is_pending());
    }
    assert_eq!(sender.buffered().messages, 1);
    // There is room for a smaller one, and a larger one waits again.
    assert_eq!(stream.write(&[3; KIB]).await.unwrap(), KIB);
    let (mut reading, mut writing) = split(stream);
    let writes =
        tokio::spawn(async move { writing.write_all(&[4; 6 * KIB]).await.map(|()| writing) });
    for (number, len) in [(1, 6), (3, 1), (4, 6)] {
        let frame = within(read_frame(&mut client)).await.unwrap();
        assert!(frame.payload == vec![number; len * KIB], "{number}");
    }
    let mut writing = within(writes).await.unwrap().unwrap();
    let writes = tokio::spawn(async move { writing.write_all(&[5; 90 * KIB]).await });
    settle().await;
    drop(client);
    let error = within(writes).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let kind = within(reading.read(&mut [0])).await.unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe),
        "{kind:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_closes_with_1000_after_everything() {
    let (mut stream, mut client) = stream(Config::new(), 10);
    stream.write_all(&[1; 500]).await.unwrap();
    let shuts = tokio::spawn(async move {
        stream.shutdown().await.unwrap();
        // The end of both directions. Shutting down twice is no error.
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        stream.shutdown().await.unwrap();
        stream.write(b"late").await.unwrap_err().kind()
    });
    assert_eq!(read_frame(&mut client).await.unwrap().payload, [1; 500]);
    assert_eq!(read_close(&mut client).await, Some(1000));
    settle().await;
    assert!(!shuts.is_finished(), "the peer has not answered");
    write(&mut client, &close(1000, "")).await;
    assert_eq!(within(shuts).await.unwrap(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_fails_if_bytes_were_lost() {
    let (mut stream, client) = stream(Config::new(), 10);
    stream.write_all(&[1; 500]).await.unwrap();
    settle().await;
    drop(client);
    let error = within(stream.shutdown()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

/// The rest of a partly read message can be read after a shutdown.
#[tokio::test(start_paused = true)]
async fn a_shutdown_keeps_received_bytes() {
    let (mut stream, mut client) = stream(Config::new(), KIB);
    write(&mut client, &frame(FIN | BINARY, b"data")).await;
    stream.read_exact(&mut [0]).await.unwrap();
    assert!(poll_once(pin!(stream.shutdown())).is_pending());
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"ata");
}

/// Reads and writes that are dropped at random lose no byte and repeat none.
#[tokio::test(start_paused = true)]
async fn dropped_futures_lose_no_bytes() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let outbox = random.pick(&[(1, 1), (2, 100), (8, 4 * KIB)]);
        let capacity = random.pick(&[1, 7, 300, 5000]);
        let config = Config::new()
            .max_outbox(outbox.0, outbox.1)
            .max_inbox(1, 1)
            .without_keepalive();
        let (mut stream, client) = stream(config, capacity);
        let data = bytes(20_000);
        let (mut reader, mut writer) = split(client);
        let out = data.clone();
        let writes = tokio::spawn(async move {
            for chunk in out.chunks(333) {
                write(&mut writer, &frame(FIN | BINARY, chunk)).await;
            }
            writer
        });
        let len = data.len();
        let reads = tokio::spawn(async move {
            let mut all = Vec::new();
            while all.len() < len {
                all.extend(read_frame(&mut reader).await.unwrap().payload);
            }
            (all, reader)
        });
        let (mut read, mut written) = (Vec::<u8>::new(), 0);
        for step in 0.. {
            assert!(step < 1_000_000, "it hangs at seed {seed}");
            if read.len() == len && written == len {
                break;
            }
            let mut buffer = vec![0; random.below(500) + 1];
            if let std::task::Poll::Ready(count) = poll_once(pin!(stream.read(&mut buffer))) {
                read.extend(&buffer[..count.unwrap()]);
            }
            let end = len.min(written + random.below(700));
            if let std::task::Poll::Ready(count) =
                poll_once(pin!(stream.write(&data[written..end])))
            {
                written += count.unwrap();
            }
            if random.below(4) == 0 {
                let _ = poll_once(pin!(stream.flush()));
            }
            if random.below(2) == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(read == data, "seed {seed}");
        let (all, _reader) = within(reads).await.unwrap();
        assert!(all == data, "seed {seed}");
        drop(writes);
    }
}

#[cfg(feature = "client")]
#[tokio::test(start_paused = true)]
async fn carries_a_tunnel_both_ways() {
    use tower_websocket::{Error, WebSocket, WebSocketLayer, client::connect_with};

    for capacity in [100, 64 * KIB] {
        let layer = WebSocketLayer::new(async |socket: WebSocket| {
            let (mut reading, mut writing) = split(socket.into_io());
            tokio::io::copy(&mut reading, &mut writing).await?;
            Ok::<_, Error>(())
        });
        let io = pipe::serve(layer.into_service(), capacity);
        let (socket, _) = within(connect_with("ws://example.com/", io)).await.unwrap();
        let (application, mut near) = duplex(capacity);
        let mut far = socket.into_io();
        let carries =
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        let data = bytes(1 << 20);
        let (mut reader, mut writer) = split(application);
        let sent = data.clone();
        let writes = tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer
        });
        let mut received = vec![0; data.len()];
        timeout(Duration::from_secs(100), reader.read_exact(&mut received))
            .await
            .unwrap()
            .unwrap();
        assert!(received == data);
        let mut writer = writes.await.unwrap();
        writer.shutdown().await.unwrap();
        let copied = within(carries).await.unwrap().unwrap();
        assert_eq!(copied, (1 << 20, 1 << 20));
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    }
}

#[cfg(feature = "http2")]
#[tokio::test(start_paused = true)]
async fn carries_bytes_over_http2() {
    use support::http2::{Session, serve};
    use tower_websocket::{Error, WebSocket, WebSocketLayer};

    let layer = WebSocketLayer::new(async |socket: WebSocket| {
        let (mut write_half, mut read_half) = socket.into_split();
        let ping = write_half.ping().await?;
        let first = read_half.recv().await?.unwrap();
        write_half.send(first).await?;
        write_half
            .send_timeout(format!("{ping:?}"), Duration::from_secs(1))
            .await?;
        let mut stream = read_half.reunite(write_half)?.into_io();
        let mut five = [0; 5];
        stream.read_exact(&mut five).await?;
        stream.write_all(&five).await?;
        stream.shutdown().await?;
        Ok::<_, Error>(())
    });
    let session = Session::new(serve(layer.into_service())).await;
    let mut tunnel = session.open().await;
    let ping = within(read_frame(&mut tunnel)).await.unwrap();
    write(&mut tunnel, &frame(FIN | 0xa, &ping.payload)).await;
    write(&mut tunnel, &frame(FIN | TEXT, b"first")).await;
    assert_eq!(
        within(read_frame(&mut tunnel)).await.unwrap().payload,
        b"first"
    );
    assert_eq!(
        within(read_frame(&mut tunnel)).await.unwrap().payload,
        b"0ns"
    );
    for part in [&b"he"[..], b"llo"] {
        write(&mut tunnel, &frame(FIN | BINARY, part)).await;
    }
    assert_eq!(
        within(read_frame(&mut tunnel)).await.unwrap().payload,
        b"hello"
    );
    assert_eq!(read_close(&mut tunnel).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_closes_as_a_socket_does() {
    let (mut stream, mut client) = stream(Config::new(), KIB);
    stream.write_all(b"last").await.unwrap();
    drop(stream);
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"last");
    assert_eq!(read_close(&mut client).await, Some(1000));
}

/// `poll_write` may be called with other bytes after it was pending.
#[tokio::test(start_paused = true)]
async fn a_write_may_go_on_with_other_bytes() {
    let (mut stream, mut client) = stream(Config::new().max_outbox(1, 100), 4);
    stream.write_all(&[1; 90]).await.unwrap();
    for len in [5, 80 * KIB, 1] {
        assert!(poll_once(pin!(stream.write(&vec![9; len]))).is_pending());
    }
    assert_eq!(read_frame(&mut client).await.unwrap().payload, [1; 90]);
    settle().await;
    let mut stream = Pin::new(&mut stream);
    assert_eq!(
        within(stream.write(&[2; 70 * KIB])).await.unwrap(),
        64 * KIB
    );
    assert_eq!(
        read_frame(&mut client).await.unwrap().payload.len(),
        64 * KIB
    );
    within(stream.flush()).await.unwrap();
    assert_eq!(stream.get_ref().sender().buffered(), Default::default());
}
