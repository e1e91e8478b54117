//! Many connections.

use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    time::{Instant, sleep},
};
use tower_websocket::{BoxError, Config, WebSocket, WebSocketLayer};

use super::{SECOND, run};
use crate::support::{
    memory::{Growth, KIB, MIB},
    pipe,
    wire::{self, BINARY, FIN, header, read_close, write},
};

/// Makes pipes whose memory is there already.
pub(crate) async fn pipes(count: usize) -> Vec<(DuplexStream, DuplexStream)> {
    let mut pipes = Vec::with_capacity(count);
    for _ in 0..count {
        let (mut server, mut client) = duplex(KIB);
        let mut bytes = [1; KIB];
        for _ in 0..2 {
            write(&mut server, &bytes).await;
            write(&mut client, &bytes).await;
            client.read_exact(&mut bytes).await.unwrap();
            server.read_exact(&mut bytes).await.unwrap();
        }
        pipes.push((server, client));
    }
    pipes
}

/// Declares a frame of 1 MiB on every connection, sends one byte of it, and waits for the Closes.
async fn declare(mut clients: Vec<DuplexStream>, mut growth: Growth) {
    let opened = growth.sample();
    let start = Instant::now();
    let mut bytes = header(FIN | BINARY, MIB, true);
    bytes.extend([1, 2, 3, 4, 5]);
    for client in &mut clients {
        write(client, &bytes).await;
    }
    for _ in 0..50 {
        sleep(SECOND).await;
        growth.sample();
    }
    println!("- open: {} bytes a connection", opened / clients.len());
    println!(
        "- declared: {} bytes more",
        (growth.most - opened) / clients.len()
    );
    let count = clients.len();
    for mut client in clients {
        assert_eq!(read_close(&mut client).await, Some(1008));
    }
    assert_eq!(start.elapsed(), 60 * SECOND);
    growth.most /= count;
    growth.assert_within(8 * KIB, "growth a connection");
}

pub(crate) fn declared_frames() {
    run(async {
        let mut sockets = Vec::with_capacity(1000);
        let mut clients = Vec::with_capacity(1000);
        let pipes = pipes(1000).await;
        let growth = Growth::start();
        for (server, client) in pipes {
            sockets.push(WebSocket::from_io(server, Config::new()));
            clients.push(client);
        }
        sleep(SECOND).await;
        declare(clients, growth).await;
    });
}

/// Does the opening handshake on a connection of its own, served by hyper.
pub(crate) async fn handshake(
    service: &impl pipe::Served,
    server: DuplexStream,
    client: &mut DuplexStream,
) {
    pipe::serve_on(server, service.clone());
    wire::upgrade(client, &wire::handshake("/")).await;
}

async fn opened(count: usize) -> (Vec<DuplexStream>, Growth) {
    let service = WebSocketLayer::new(async |mut socket: WebSocket| {
        while socket.recv().await?.is_some() {}
        Ok::<_, BoxError>(())
    })
    .into_service();
    let mut pipes = pipes(count + 1).await;
    // The first connection allocates more, so it is not measured.
    let (server, mut client) = pipes.pop().unwrap();
    handshake(&service, server, &mut client).await;
    let growth = Growth::start();
    let mut clients = Vec::with_capacity(count);
    for (server, mut client) in pipes {
        handshake(&service, server, &mut client).await;
        clients.push(client);
    }
    sleep(SECOND).await;
    (clients, growth)
}

pub(crate) fn declared_frames_after_a_handshake() {
    run(async {
        let (clients, growth) = opened(1000).await;
        declare(clients, growth).await;
    });
}

pub(crate) fn idle_connections() {
    run(async {
        let (clients, mut growth) = opened(1000).await;
        growth.sample();
        growth.most /= clients.len();
        growth.assert_within(8 * KIB, "growth a connection");
    });
}
