//! Control frames.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_websocket::Config;

use super::{BUFFER, MIB, MILLI, assert_refused, seconds};
use crate::support::{
    pipe,
    wire::{FIN, PING, PONG, frame, read_frame, write},
};

#[tokio::test(start_paused = true)]
async fn refuses_a_flood_of_control_frames() {
    for (config, rate, burst) in [
        (Config::new(), 100, 200),
        (Config::new().max_control_frames(2, 15), 2, 15),
    ] {
        let (socket, mut client) = pipe::socket(config, 64 * 1024);
        // Pongs also count. They have no answers, so the test does not need to read any.
        write(&mut client, &frame(FIN | PONG, b"").repeat(burst)).await;
        sleep(seconds(1)).await;
        write(&mut client, &frame(FIN | PING, b"").repeat(rate)).await;
        for _ in 0..rate {
            let pong = read_frame(&mut client).await.unwrap();
            assert_eq!(pong.first, FIN | PONG);
        }
        write(&mut client, &frame(FIN | PING, b"")).await;
        assert_refused(socket, client, "TooManyControlFrames", 1008).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lets_pings_come_at_the_rate_for_ever() {
    let (_socket, mut client) = pipe::socket(Config::new().max_control_frames(10, 10), BUFFER);
    for _ in 0..1000 {
        write(&mut client, &frame(FIN | PING, b"")).await;
        let pong = read_frame(&mut client).await.unwrap();
        assert_eq!(pong.first, FIN | PONG);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_only_the_newest_ping_after_output_was_blocked() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_outbox(1, MIB), 256);
    let sending = tokio::spawn(async move {
        for _ in 0..3 {
            socket.send(vec![7; 1000]).await.unwrap();
        }
        socket
    });
    sleep(MILLI).await;
    let mut pings = Vec::new();
    for number in 0..20 {
        pings.extend(frame(FIN | PING, &[number]));
    }
    write(&mut client, &pings).await;
    let (mut pongs, mut messages) = (Vec::new(), 0);
    // To the end of the messages, and what follows them.
    while let Ok(frame) = timeout(seconds(1), read_frame(&mut client)).await {
        let frame = frame.unwrap();
        match frame.first {
            first if first == FIN | PONG => pongs.extend(frame.payload),
            _ => messages += 1,
        }
    }
    assert_eq!(messages, 3);
    assert_eq!(pongs, [19]);
    drop(sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn answers_a_ping_also_while_the_handler_sends_without_end() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let sending = tokio::spawn(async move { while socket.send(vec![7; 1000]).await.is_ok() {} });
    sleep(MILLI).await;
    write(&mut client, &frame(FIN | PING, b"when?")).await;
    // One mebibyte of messages waits to be written. The pong may follow it, but may not wait until the
    // handler stops sending.
    let mut bytes = 0;
    loop {
        let frame = read_frame(&mut client).await.unwrap();
        if frame.first == FIN | PONG {
            break;
        }
        bytes += frame.payload.len();
        assert!(bytes < 4 * MIB, "no pong after {bytes} bytes");
    }
    drop(client);
    sending.await.unwrap();
}
