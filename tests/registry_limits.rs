//! The limits of a registry: on connections from all sources, and on close codes that applications and peers choose.

#![cfg_attr(
    feature = "client",
    expect(clippy::unwrap_used, reason = "a test that cannot go on panics")
)]

#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, duplex},
    time::timeout,
};
use tower_websocket::{
    CloseCode, CloseFrame, Config, Connections, CountedCode, Echo, Side, WebSocketLayer,
    error::AdmitError,
};
use wire::{close, handshake, read_close, read_head, write};

const GUARD: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn has_one_limit_for_layers_and_streams() {
    let all = Connections::new().max_connections(2);
    let layer = WebSocketLayer::new(Echo::new()).connections_in(&all);
    let _client = pipe::open(layer.clone().into_service(), 4096).await;
    let (io, peer) = duplex(1024);
    let socket = all.from_io(io, Config::new()).unwrap();
    let (io, mut refused) = duplex(1024);
    let error = all.from_io(io, Config::new()).map(drop).unwrap_err();
    assert_eq!(
        (error, error.to_string().as_str()),
        (AdmitError::Full, "too many connections are open")
    );
    // Nothing is sent to the peer of the refused stream.
    assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);
    let mut asking = pipe::serve(layer.into_service(), 4096);
    write(&mut asking, handshake("/").as_bytes()).await;
    assert!(read_head(&mut asking).await.starts_with("HTTP/1.1 503"));
    let counts = all.counts();
    assert_eq!((counts.open(), counts.accepted()), (2, 2));
    assert_eq!(
        counts.refused_as("too_many_connections"),
        1,
        "only the refusal of the layer is counted"
    );

    // The end of the connection frees its place.
    drop((socket, peer));
    pipe::until_open(&all, 1).await;
    let (io, _peer) = duplex(1024);
    let _socket = all.from_io(io, Config::new()).unwrap();
    all.close();
    let (io, _peer) = duplex(1024);
    let error = all.from_io(io, Config::new()).map(drop).unwrap_err();
    assert_eq!(error, AdmitError::ShuttingDown);
}

#[cfg(feature = "client")]
mod clients {
    use tower_websocket::client::{ConnectError, Handshake, connect, connect_with};

    use super::*;

    fn handshake_in(all: &Connections) -> Handshake {
        let handshake = Handshake::new("ws://example.com/").unwrap();
        handshake.connections_in(all)
    }

    #[tokio::test(start_paused = true)]
    async fn are_refused_before_anything_is_sent() {
        let all = Connections::new().max_connections(0);
        let (io, mut server) = duplex(1024);
        let error = connect_with(handshake_in(&all), io)
            .await
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(error, ConnectError::NotAdmitted(AdmitError::Full)),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "no place for another connection: too many connections are open"
        );
        assert!(error.is_transient());
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        all.close();
        // `connect` returns before it looks up the name.
        let error = connect(handshake_in(&all)).await.map(drop).unwrap_err();
        assert!(
            matches!(error, ConnectError::NotAdmitted(AdmitError::ShuttingDown)),
            "{error}"
        );
        assert!(!error.is_transient());
        assert_eq!(all.counts().open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn free_their_place_when_they_fail_or_are_dropped() {
        let all = Connections::new().max_connections(1);
        let (io, server) = duplex(1024);
        let connecting = tokio::spawn(connect_with(handshake_in(&all), io));
        pipe::until_open(&all, 1).await;
        drop(server);
        assert!(connecting.await.unwrap().is_err());
        assert_eq!(all.counts().open(), 0);

        let (io, _server) = duplex(1024);
        let connecting = connect_with(handshake_in(&all), io);
        assert!(timeout(Duration::from_secs(1), connecting).await.is_err());
        assert_eq!(all.counts().open(), 0);
        timeout(GUARD, all.wait()).await.unwrap();
    }

    #[cfg(feature = "test-util")]
    #[tokio::test(start_paused = true)]
    async fn fail_when_a_shutdown_begins_meanwhile() {
        let all = Connections::new();
        let slow = WebSocketLayer::new(tower_websocket::decide(
            async |_: &mut http::request::Parts| {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok::<_, tower_websocket::Refusal>((tower_websocket::Accept::new(), ()))
            },
            async |_: tower_websocket::WebSocket, ()| Ok::<_, tower_websocket::BoxError>(()),
        ));
        let connecting = tower_websocket::testing::connect(slow.into_service(), handshake_in(&all));
        let connecting = tokio::spawn(connecting);
        pipe::until_open(&all, 1).await;
        let report = all.shutdown(GUARD).await;
        assert_eq!((report.clean, report.aborted), (0, 0));
        let error = connecting.await.unwrap().map(drop).unwrap_err();
        assert!(
            matches!(error, ConnectError::NotAdmitted(AdmitError::ShuttingDown)),
            "{error}"
        );
    }
}

/// Peers choose 2,000 codes, and this side chooses 1,000.
#[tokio::test(start_paused = true)]
async fn counts_codes_under_a_bounded_set_of_keys() {
    let all = Connections::new();
    for number in 3000..5000 {
        let (io, mut client) = duplex(1024);
        let socket = all.from_io(io, Config::new()).unwrap();
        write(&mut client, &close(number, "")).await;
        assert_eq!(
            timeout(GUARD, read_close(&mut client)).await.unwrap(),
            Some(number)
        );
        drop((client, socket));
    }
    for number in 4000..5000 {
        let (io, mut client) = duplex(1024);
        let socket = all.from_io(io, Config::new()).unwrap();
        let frame = CloseFrame::new(CloseCode::new(number).unwrap(), "").unwrap();
        assert_eq!(
            all.close_where(|connection| connection.id() == socket.id(), frame),
            1
        );
        assert_eq!(
            timeout(GUARD, read_close(&mut client)).await.unwrap(),
            Some(number)
        );
        write(&mut client, &close(number, "")).await;
        drop((client, socket));
    }
    timeout(GUARD, all.wait()).await.unwrap();
    let counts = all.counts();
    assert_eq!(counts.closed().count(), 2 * 65);
    assert_eq!(counts.closed().map(|(_, count)| count).sum::<u64>(), 3000);
    for (side, first, all) in [(Side::Remote, 3000, 2000), (Side::Local, 4000, 1000)] {
        assert_eq!(
            counts.closed_as(side, CountedCode::Other),
            all - 64,
            "{side:?}"
        );
        let code = CountedCode::Code(CloseCode::new(first).unwrap());
        assert_eq!(counts.closed_as(side, code), 1, "{side:?}");
    }
    assert_eq!((counts.open(), counts.accepted()), (0, 3000));
}
