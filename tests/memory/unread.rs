//! A peer that never reads what is echoed to it, or sent without end.

use std::time::Duration;

use tokio::{
    io::{AsyncWriteExt, duplex},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{
    Config, Echo, Message, WebSocket, WebSocketLayer,
    error::{RecvError, SendError},
};

use super::{PIPE, SECOND, many::handshake, run};
use crate::support::{
    memory::{Growth, KIB, MIB},
    tap::{Tap, Tapped},
    wire::{FIN, TEXT, frame, read_frame, write},
};

pub(crate) fn echo_behind(prefix: usize, frames: &[u8]) {
    run(async {
        let prefix = "x".repeat(prefix);
        let service = WebSocketLayer::new(Echo::prefixed(prefix)).into_service();
        let (server, mut client) = duplex(PIPE);
        handshake(&service, server, &mut client).await;
        let bytes = frames.repeat(64 * KIB / frames.len());
        let mut growth = Growth::start();
        let start = Instant::now();
        let mut sent = 0;
        while let Ok(Ok(written)) =
            timeout(SECOND, client.write(&bytes[sent % bytes.len()..])).await
        {
            sent += written;
            growth.sample();
        }
        growth.sample();
        println!("- sent {} KiB", sent / KIB);
        growth.assert_within(1088 * KIB, "growth");
        assert!(sent < MIB, "reading stops");
        assert!(start.elapsed() < 3 * SECOND);
    });
}

/// Whether what is written goes nowhere.
pub(crate) struct Swallows(pub(crate) bool);

impl Tap for Swallows {
    fn swallows(&self) -> bool {
        self.0
    }
}

pub(crate) fn send_without_end(len: usize, vectored: bool) {
    /// Enough for the allocator's grain to be small against what each of them holds.
    const CONNECTIONS: usize = 16;

    run(async {
        let (server, mut neighbour) = duplex(PIPE);
        let mut socket = WebSocket::from_io(server, Config::new());
        tokio::spawn(async move {
            while let Ok(Some(message)) = socket.recv().await {
                socket.send(message).await.unwrap();
            }
        });
        let pipes: Vec<_> = (0..CONNECTIONS).map(|_| duplex(PIPE)).collect();

        let mut growth = Growth::start();
        let start = Instant::now();
        let mut clients = Vec::new();
        let mut tasks = Vec::new();
        for (server, client) in pipes {
            let mut socket = if vectored {
                WebSocket::from_io(server, Config::new())
            } else {
                let stream = Tapped::new(server, Swallows(false));
                WebSocket::from_io(stream, Config::new())
            };
            clients.push(client);
            tasks.push(tokio::spawn(async move {
                let mut sent = 0;
                loop {
                    let message = Message::binary(vec![1; len]);
                    match socket.send(message).await {
                        Ok(()) => sent += 1,
                        Err(SendError::Closed) => return (sent, socket.recv().await),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }));
        }
        for _ in 0..9 {
            sleep(SECOND).await;
            growth.sample();
            // The neighbour is answered without any time passing.
            let asked = Instant::now();
            write(&mut neighbour, &frame(FIN | TEXT, b"there?")).await;
            let answer = read_frame(&mut neighbour).await.unwrap();
            assert_eq!(answer.payload, b"there?");
            assert_eq!(asked.elapsed(), Duration::ZERO);
        }
        assert!(
            tasks.iter().all(|task| !task.is_finished()),
            "all of them wait"
        );
        let mut most = 0;
        for task in tasks {
            let (sent, result) = task.await.unwrap();
            assert!(matches!(result, Err(RecvError::Stalled)), "{result:?}");
            most = most.max(sent);
        }
        assert_eq!(start.elapsed(), 10 * SECOND);
        drop(clients);
        println!("- {most} messages were taken");
        // The message that waits is in the handler's hands, and the pipe's bytes are the pipe's.
        growth.most = (growth.most / CONNECTIONS).saturating_sub(len + PIPE);
        growth.assert_within(MIB + 64 * KIB, "growth a connection");
    });
}
