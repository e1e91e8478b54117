//! Values from the decision on a handshake to the handler: `Accept::carry` and `decide`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    cell::Cell,
    collections::HashMap,
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{RequestPartsExt, Router, extract::Query};
use http::{HeaderValue, StatusCode, header, request::Parts};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use pipe::{ask_as, greeting, until_open};
use support::{pipe, tcp, wire};
use tokio::{io::duplex, net::TcpStream, task::yield_now, time::timeout};
use tower_websocket::{
    Accept, BoxError, Config, Error, Handler, Refusal, WebSocket, WebSocketLayer, decide,
};
use wire::{handshake_with, read_close, read_frame, read_head, write};

const GUARD: Duration = Duration::from_secs(30);

fn user(request: &Parts) -> Result<String, Refusal> {
    let user = request
        .headers
        .get("x-user")
        .and_then(|user| user.to_str().ok());
    let user = user.filter(|user| !user.is_empty());
    Ok(user.ok_or_else(Refusal::unauthorized)?.to_owned())
}

/// A value that is neither `Clone` nor `Sync`.
struct User(Cell<String>);

impl User {
    fn of(request: &Parts) -> Result<Self, Refusal> {
        user(request).map(|name| Self(Cell::new(name)))
    }
}

struct Desk;

impl Handler for Desk {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        Ok(Accept::new().carry(User::of(request)?).carry(17_u8))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        assert!(socket.take_carried::<String>().is_none());
        let User(name) = socket.take_carried().ok_or("no user")?;
        assert!(socket.take_carried::<User>().is_none());
        let number: u8 = socket.take_carried().ok_or("no number")?;
        socket.send(format!("{} {number}", name.take())).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn carries_values_that_are_neither_clone_nor_sync_to_the_handler() {
    let layer = WebSocketLayer::new(Desk);
    assert_eq!(greeting(&layer, "/", "anna").await, "anna 17");
    assert_eq!(greeting(&layer, "/", "ben").await, "ben 17");
    let (head, _) = ask_as(&WebSocketLayer::new(Arc::new(Desk)), "/", "").await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
}

#[tokio::test(start_paused = true)]
async fn two_functions_serve_what_one_of_them_let_in() {
    let layer = WebSocketLayer::new(decide(
        async |request| {
            let user = User::of(request)?;
            yield_now().await;
            request
                .headers
                .insert("x-seen", HeaderValue::from_static("yes"));
            let accept = Accept::new().header(header::SERVER, HeaderValue::from_static("desk"));
            Ok((accept.carry("besides"), user))
        },
        async |mut socket, User(name)| {
            let seen = socket.request().header("x-seen").map(str::to_owned);
            let besides: &str = socket.take_carried().ok_or_else(|| Error::new("lost"))?;
            let line = format!("{} {seen:?} {besides}", name.take());
            socket.send(line).await?;
            Ok::<_, Error>(())
        },
    ));
    assert_eq!(
        greeting(&layer, "/", "anna").await,
        r#"anna Some("yes") besides"#
    );
    let (head, _client) = ask_as(&layer, "/", "anna").await;
    assert!(head.contains("\r\nserver: desk\r\n"), "{head}");
    let (head, _) = ask_as(&layer, "/", "").await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert_eq!(layer.connections().counts().refused_as("refused"), 1);
}

#[tokio::test(start_paused = true)]
async fn functions_may_carry_a_value_of_the_type_that_they_return() {
    let layer = WebSocketLayer::new(decide(
        async |_| Ok((Accept::new().carry(1), 2)),
        async |mut socket, returned: i32| {
            let carried = socket.take_carried::<i32>();
            socket.send(format!("{carried:?} {returned}")).await?;
            Ok::<_, Error>(())
        },
    ));
    assert_eq!(greeting(&layer, "/", "").await, "Some(1) 2");
}

async fn admit(request: &mut Parts) -> Result<(Accept, String), Refusal> {
    let query: Result<Query<HashMap<String, String>>, _> = request.extract().await;
    let Query(query) = query.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST))?;
    let room = query.get("room").ok_or_else(Refusal::forbidden)?;
    Ok((Accept::new(), format!("{} in {room}", user(request)?)))
}

async fn greet(mut socket: WebSocket, greeting: String) -> Result<(), BoxError> {
    socket.send(greeting).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn async_fns_are_a_pair_and_may_use_extractors() {
    let layer = WebSocketLayer::new(decide(admit, greet));
    assert_eq!(
        greeting(&layer, "/ws?room=blue", "anna").await,
        "anna in blue"
    );
    let (head, _) = ask_as(&layer, "/ws", "anna").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[tokio::test(start_paused = true)]
async fn closures_with_state_are_a_pair() {
    let visits = Arc::new(AtomicUsize::new(0));
    let words = Arc::new(String::from("visits of"));
    let layer = WebSocketLayer::new(decide(
        move |request: &mut Parts| {
            let (visits, mut request) = (Arc::clone(&visits), request.clone());
            async move {
                let (_, greeting) = admit(&mut request).await?;
                Ok((
                    Accept::new(),
                    (visits.fetch_add(1, Ordering::Relaxed) + 1, greeting),
                ))
            }
        },
        move |mut socket: WebSocket, (visits, greeting): (usize, String)| {
            let words = Arc::clone(&words);
            async move {
                socket.send(format!("{visits} {words} {greeting}")).await?;
                Ok::<_, Error>(())
            }
        },
    ));
    for visit in 1..=2 {
        let expected = format!("{visit} visits of anna in blue");
        assert_eq!(greeting(&layer, "/?room=blue", "anna").await, expected);
    }
}

/// The type of a hyper connection is checked as a whole here, where nothing is generic.
#[tokio::test]
async fn pairs_can_be_spawned_with_a_connection_of_hyper() {
    let service = WebSocketLayer::new(decide(
        async |request| {
            let user = user(request)?;
            yield_now().await;
            Ok((Accept::new(), format!("{user} {}", request.uri)))
        },
        async |mut socket, greeting| {
            socket.send(greeting).await?;
            Ok::<_, Error>(())
        },
    ));
    let (server, mut client) = duplex(4096);
    tokio::spawn(async move {
        let service = TowerToHyperService::new(service.into_service());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        connection.with_upgrades().await
    });
    assert_greeted(&mut client).await;
}

#[tokio::test]
async fn pairs_work_under_axum() {
    let layer = WebSocketLayer::new(decide(
        async |request| {
            let user = user(request)?;
            yield_now().await;
            Ok((Accept::new(), format!("{user} {}", request.uri)))
        },
        greet,
    ));
    let app = Router::new().layer(layer.path("/ws"));
    let address = tcp::serve(app).await;
    assert_greeted(&mut TcpStream::connect(address).await.unwrap()).await;
}

async fn assert_greeted(client: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    let greeted = async {
        write(client, handshake_with("/ws", "X-User: anna\r\n").as_bytes()).await;
        assert!(read_head(client).await.starts_with("HTTP/1.1 101 "));
        assert_eq!(read_frame(client).await.unwrap().payload, b"anna /ws");
        assert_eq!(read_close(client).await, Some(1000));
    };
    timeout(GUARD, greeted).await.unwrap();
}

#[tokio::test]
async fn a_pair_does_not_serve_a_socket_that_it_did_not_accept() {
    let handler = decide(admit, greet);
    let (server, mut client) = duplex(1024);
    let mut socket = WebSocket::from_io(server, Config::new());
    assert!(socket.take_carried::<String>().is_none());
    let error = handler.handle(socket).await.unwrap_err();
    assert!(
        error.to_string().contains("not accepted by this handler"),
        "{error}"
    );
    assert_eq!(read_close(&mut client).await, Some(1000));
}

/// Tells by its end that it was dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn drops_what_was_carried_when_the_handshake_fails_or_nobody_takes_it() {
    struct Careless(Arc<AtomicUsize>);

    impl Handler for Careless {
        async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
            Ok(Accept::new().carry(Counted(Arc::clone(&self.0))))
        }

        async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
            while socket.recv().await?.is_some() {}
            Ok(())
        }
    }

    let dropped = Arc::new(AtomicUsize::new(0));
    let layer = WebSocketLayer::new(Careless(Arc::clone(&dropped))).max_per_key(1, |_| Some(()));
    let (_, client) = ask_as(&layer, "/", "").await;
    let (head, _) = ask_as(&layer, "/", "").await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    drop(client);
    until_open(&layer.connections(), 0).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
}

/// A future that holds a reference to the socket is `Send`, even if the carried value is not `Sync`.
#[test]
fn sockets_and_acceptances_are_send_and_sync() {
    fn assert_both<T: Send + Sync>() {}
    assert_both::<WebSocket>();
    assert_both::<Accept>();
    fn is_send<F: Future + Send>(_: F) {}
    is_send(async {
        let accept = Accept::new().carry(Cell::new(1));
        let borrowed = &accept;
        pending::<()>().await;
        drop(format!("{borrowed:?}"));
    });
}
