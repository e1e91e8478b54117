//! Limits on the connections of one key: a peer address, or a user.

use std::{
    hash::{Hash, Hasher},
    net::SocketAddr,
};

use axum::{Router, extract::ConnectInfo};
use http::request::Parts;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::yield_now,
    time::timeout,
};
use tower_websocket::{Accept, BoxError, Echo, Handler, Refusal, WebSocket, WebSocketLayer};

use super::{GUARD, ask, assert_is_free, leave, narrow};
use crate::support::{
    pipe::{knock, open_at, serve, until_open},
    tcp,
    wire::{read_close, status},
};

/// Connects from an address of the loopback network.
async fn connect_from(source: [u8; 4], server: SocketAddr) -> (u16, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    let mut stream = timeout(GUARD, socket.connect(server))
        .await
        .unwrap()
        .unwrap();
    let head = ask(&mut stream, "/").await;
    (status(&head), stream)
}

fn per_peer(max: usize) -> WebSocketLayer {
    WebSocketLayer::new(Echo::new()).max_per_peer(max, |request| {
        let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(peer.ip())
    })
}

#[tokio::test]
async fn refuses_everybody_when_the_server_does_not_provide_the_address_of_the_peer() {
    let layer = per_peer(2);
    let connections = layer.connections();
    let server = tcp::serve(layer.into_service()).await;

    for _ in 0..2 {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let head = ask(&mut stream, "/").await;
        assert_eq!(status(&head), 500, "{head}");
    }
    let counts = connections.counts();
    assert_eq!((counts.open(), counts.accepted()), (0, 0));
    assert_eq!(counts.refused_as("unknown_peer"), 2);
}

#[tokio::test(start_paused = true)]
async fn counts_a_network_of_ipv6_as_one_peer() {
    let layer = WebSocketLayer::new(Echo::new()).max_per_peer(2, |request| {
        let address = request.uri.path().strip_prefix('/')?;
        address.parse().ok()
    });
    let _first = open_at(&layer, "/2001:db8::1").await;
    let second = open_at(&layer, "/2001:db8::2:0:0:1").await;
    assert_eq!(knock(&layer, "/2001:db8::3").await.0, 429);
    let _neighbour = open_at(&layer, "/2001:db8:0:1::1").await;
    leave(second).await;
    until_open(&layer.connections(), 2).await;
    let _second = open_at(&layer, "/2001:db8::3").await;

    let _mapped = open_at(&layer, "/::ffff:192.0.2.1").await;
    let _same = open_at(&layer, "/192.0.2.1").await;
    let _other = open_at(&layer, "/::ffff:192.0.2.2").await;
    assert_eq!(knock(&layer, "/192.0.2.1").await.0, 429);
}

// Only Linux has all addresses of 127.0.0.0/8 by default.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn limits_the_connections_of_a_peer_address() {
    const ANNA: [u8; 4] = [127, 0, 0, 2];
    const BEN: [u8; 4] = [127, 0, 0, 3];
    let layer = per_peer(2);
    let connections = layer.connections();
    let app = Router::new().fallback_service(layer.into_service());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let (listener, server) = tcp::listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let (first, client) = connect_from(ANNA, server).await;
    let (second, _client) = connect_from(ANNA, server).await;
    assert_eq!((first, second), (101, 101));
    assert_eq!(connect_from(ANNA, server).await.0, 429);
    let (other, _other) = connect_from(BEN, server).await;
    assert_eq!(other, 101);

    leave(client).await;
    let left = async {
        while connections.counts().open() > 2 {
            yield_now().await;
        }
    };
    timeout(GUARD, left).await.unwrap();
    let (again, _again) = connect_from(ANNA, server).await;
    assert_eq!(again, 101);
    assert_eq!(connect_from(ANNA, server).await.0, 429);
    assert_eq!(connections.counts().refused_as("too_many_of_key"), 2);
}

/// Identifies users by the path. `/` has no user.
struct Desk;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct User(String);

impl Handler for Desk {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let name = request.uri.path().trim_start_matches('/').to_owned();
        if !name.is_empty() {
            request.extensions.insert(User(name));
        }
        Ok(Accept::new())
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        while socket.recv().await?.is_some() {}
        Ok(())
    }
}

fn per_user(max: usize) -> WebSocketLayer<Desk> {
    WebSocketLayer::new(Desk).max_per_key(max, |request| request.extensions.get::<User>().cloned())
}

#[tokio::test(start_paused = true)]
async fn limits_the_connections_of_a_user_whom_accept_has_found_out() {
    let layer = per_user(1);
    let connections = layer.connections();
    let anna = open_at(&layer, "/anna").await;
    let mut again = serve(layer.clone().into_service(), 1024);
    let head = ask(&mut again, "/anna").await.to_ascii_lowercase();
    assert_eq!(status(&head), 429);
    assert!(head.contains("\r\nretry-after: 10\r\n"), "{head}");
    let _ben = open_at(&layer, "/ben").await;
    assert_eq!(
        connections.counts().open(),
        2,
        "a refused one holds no place"
    );

    leave(anna).await;
    until_open(&connections, 1).await;
    let _anna = open_at(&layer, "/anna").await;
}

#[tokio::test(start_paused = true)]
async fn does_not_limit_requests_without_a_key() {
    let layer = per_user(1);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(open_at(&layer, "/").await);
    }
    assert_eq!(layer.connections().counts().open(), 5);
}

#[tokio::test(start_paused = true)]
async fn answers_500_when_a_key_panics_and_holds_nothing() {
    let layer = narrow(Echo::new()).max_per_key(1, |request| {
        assert_ne!(request.uri.path(), "/panic");
        Some(())
    });
    for _ in 0..3 {
        assert_eq!(knock(&layer, "/panic").await.0, 500);
        assert_eq!(layer.connections().counts().open(), 0);
    }
    assert_is_free(&layer).await;
    assert_eq!(
        layer.connections().counts().refused_as("accept_panicked"),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn answers_500_when_the_hash_or_eq_of_a_key_panics() {
    #[derive(Debug)]
    struct Bad(String);

    impl Hash for Bad {
        fn hash<S: Hasher>(&self, _: &mut S) {
            assert_ne!(self.0, "/hash");
        }
    }

    impl PartialEq for Bad {
        fn eq(&self, other: &Self) -> bool {
            assert!([&self.0, &other.0].iter().all(|path| *path != "/eq"));
            self.0 == other.0
        }
    }

    impl Eq for Bad {}

    // In this order, so that a panic in the second one finds a place of the first.
    let layer = WebSocketLayer::new(Echo::new()).max_per_key(2, |_| Some("everybody"));
    let layer = layer.max_per_key(1, |request| Some(Bad(request.uri.path().to_owned())));
    let anna = open_at(&layer, "/anna").await;
    for path in ["/hash", "/eq", "/hash", "/eq"] {
        assert_eq!(knock(&layer, path).await.0, 500, "{path}");
    }
    assert_eq!(knock(&layer, "/anna").await.0, 429);
    let _ben = open_at(&layer, "/ben").await;
    leave(anna).await;
    until_open(&layer.connections(), 1).await;
    let _anna = open_at(&layer, "/anna").await;
    assert_eq!(
        layer.connections().counts().refused_as("accept_panicked"),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn gives_back_the_place_of_one_key_when_another_one_has_none() {
    let layer = per_user(1).max_per_key(1, |_| Some("everybody"));
    let ben = open_at(&layer, "/ben").await;
    assert_eq!(knock(&layer, "/anna").await.0, 429, "for everybody");
    leave(ben).await;
    until_open(&layer.connections(), 0).await;
    let _anna = open_at(&layer, "/anna").await;
}

#[tokio::test(start_paused = true)]
async fn limits_by_key_survive_many_connections_that_end_in_every_way() {
    let layer = per_user(3);
    let connections = layer.connections();
    for round in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(open_at(&layer, "/anna").await);
        }
        assert_eq!(knock(&layer, "/anna").await.0, 429, "round {round}");
        leave(clients.pop().unwrap()).await;
        // Breaks the protocol.
        clients[0].write_all(&[0xff; 8]).await.unwrap();
        assert_eq!(read_close(&mut clients[0]).await, Some(1002));
        drop(clients);
        until_open(&connections, 0).await;
    }
    assert_eq!(connections.counts().accepted(), 60);
}
