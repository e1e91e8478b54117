//! Decisions of the handler on a handshake, and their time limit.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderValue, Request, StatusCode, header, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tower::{Service, ServiceExt, service_fn};
use tower_websocket::{Accept, BoxError, Handler, Refusal, WebSocket, error::HandshakeError};

use super::{layer, promised, refuse};
use crate::support::{
    handlers::Recorder,
    raw::{ANSWER, Client, KEY, handshake, handshake_head, upgrade},
    tcp::serve,
    within,
};

#[tokio::test]
async fn sends_what_the_handler_refused_with() {
    let handler = Recorder::deciding(|request| {
        let refusal = if request.uri.query() == Some("short") {
            Refusal::from(StatusCode::TOO_MANY_REQUESTS)
        } else {
            Refusal::unauthorized()
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
                .header(header::SET_COOKIE, HeaderValue::from_static("a=1"))
                .header(header::SET_COOKIE, HeaderValue::from_static("b=2"))
                // These are not a handler's to say.
                .header(header::CONNECTION, HeaderValue::from_static("keep-alive"))
                .header(header::CONTENT_LENGTH, HeaderValue::from_static("99"))
                .header(
                    header::TRANSFER_ENCODING,
                    HeaderValue::from_static("chunked"),
                )
                .message("who are you?")
        };
        Err(Box::new(refusal))
    });
    let layer = layer(handler.clone());

    let why = HandshakeError::Refused {
        status: StatusCode::UNAUTHORIZED,
    };
    let reply = refuse(layer.clone(), &handshake(), why).await;
    assert_eq!(reply.body, b"who are you?");
    assert_eq!(reply.field("www-authenticate"), Some("Bearer"));
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.field("connection"), Some("close"));

    let why = HandshakeError::Refused {
        status: StatusCode::TOO_MANY_REQUESTS,
    };
    let request = handshake().line("GET /ws?short HTTP/1.1");
    let reply = refuse(layer, &request, why).await;
    assert_eq!(reply.body, b"Too Many Requests");
    assert_eq!(handler.calls(), ["accept", "accept"]);
}

#[tokio::test]
async fn answers_500_when_the_handler_panics_while_accepting() {
    let handler = Recorder::deciding(|_| panic!("part of the test"));
    let why = HandshakeError::AcceptPanicked;
    let reply = refuse(layer(handler.clone()), &handshake(), why).await;
    assert_eq!(reply.status, 500);
    assert!(
        !String::from_utf8(reply.body)
            .unwrap()
            .contains("part of the test")
    );
    assert_eq!(handler.calls(), ["accept"]);
}

#[tokio::test]
async fn sends_the_headers_and_keeps_the_extensions_of_the_handler() {
    #[derive(Clone)]
    struct User(&'static str);

    struct Desk;

    impl Handler for Desk {
        async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
            request.extensions.insert(User("Ada"));
            request
                .headers
                .insert("x-seen", HeaderValue::from_static("yes"));
            Ok(Accept::new()
                .header(header::SET_COOKIE, HeaderValue::from_static("a=1"))
                .header(header::SET_COOKIE, HeaderValue::from_static("b=2"))
                .header(header::CONTENT_LENGTH, HeaderValue::from_static("7"))
                .header(
                    header::SEC_WEBSOCKET_ACCEPT,
                    HeaderValue::from_static("forged"),
                )
                .header(
                    header::SEC_WEBSOCKET_PROTOCOL,
                    HeaderValue::from_static("forged"),
                )
                .header(
                    header::SEC_WEBSOCKET_EXTENSIONS,
                    HeaderValue::from_static("forged"),
                ))
        }

        async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
            let request = socket.request();
            let outer = request.extensions().get::<&str>().unwrap();
            let User(user) = request.extensions().get().unwrap();
            let seen = request.header("x-seen").unwrap();
            let seen = format!("{} {outer} {user} {seen}", request.uri());
            socket.send(seen).await?;
            Ok(())
        }
    }

    let service = layer(Desk).into_service();
    let server = serve(service.map_request(|mut request: Request<Incoming>| {
        request.extensions_mut().insert("outer");
        request
    }));
    let request = handshake().line("GET /ws?room=1 HTTP/1.1");
    let (mut client, reply) = upgrade(server.await, &request).await;
    let names = [
        "connection",
        "sec-websocket-accept",
        "set-cookie",
        "set-cookie",
        "upgrade",
    ];
    assert_eq!(reply.names(), names);
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.field("sec-websocket-accept"), Some(ANSWER));
    assert_eq!(client.text().await, "/ws?room=1 outer Ada yes");
}

#[tokio::test]
async fn chooses_the_subprotocol_by_the_order_of_the_server() {
    /// Tells the client what was chosen, on the wire and to the handler.
    #[derive(Clone)]
    struct Speaking(&'static [&'static str]);

    impl Handler for Speaking {
        async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
            Ok(self
                .0
                .iter()
                .fold(Accept::new(), |accept, name| accept.subprotocol(*name)))
        }

        async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
            let chosen = format!("{:?}", socket.subprotocol());
            Ok(socket.send(chosen).await?)
        }
    }

    let none: &[&str] = &[];
    for (of_layer, of_handler, offered, chosen) in [
        (&["v2", "v1"][..], none, &["v1, v2"][..], Some("v2")),
        (&["v1", "v2"], none, &["v1, v2"], Some("v1")),
        (&["v1", "v2"], none, &["v3,v2"], Some("v2")),
        (&["v2", "v1"], none, &["v1", "v2"], Some("v2")),
        (&["v2", "v1"], none, &["v3"], None),
        (&["v2", "v1"], none, &["V2"], None),
        (&["v2", "v1"], none, none, None),
        (none, none, &["v1"], None),
        // The handler's list takes the place of the layer's.
        (&["v2"], &["v1"], &["v1, v2"], Some("v1")),
        (none, &["v2", "v1"], &["v1, v2"], Some("v2")),
        (&["v2"], &["v1"], &["v2"], None),
    ] {
        let case = format!("{of_layer:?}, {of_handler:?}, offered {offered:?}");
        let layer = of_layer
            .iter()
            .fold(layer(Speaking(of_handler)), |layer, name| {
                layer.subprotocol(*name)
            });
        let request = offered.iter().fold(handshake(), |request, line| {
            request.with("Sec-WebSocket-Protocol", line)
        });
        let (mut client, reply) = upgrade(serve(layer.into_service()).await, &request).await;
        assert_eq!(reply.field("sec-websocket-protocol"), chosen, "{case}");
        assert_eq!(client.text().await, format!("{chosen:?}"), "{case}");
    }
}

#[tokio::test]
async fn never_chooses_a_subprotocol_that_only_the_handler_put_into_the_request() {
    let handler = Recorder::deciding(|request| {
        let forged = HeaderValue::from_static("forged");
        request
            .headers
            .insert(header::SEC_WEBSOCKET_PROTOCOL, forged);
        Ok(Accept::new().subprotocol("forged"))
    });
    let server = serve(layer(handler).into_service()).await;
    let (_, reply) = upgrade(server, &handshake()).await;
    assert_eq!(reply.field("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn keeps_every_header_of_the_handshake_to_itself() {
    let handler = Recorder::deciding(|_| {
        Ok(Accept::new()
            .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"))
            .header(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static(KEY)))
    });
    let server = serve(layer(handler).into_service()).await;
    let (_, reply) = upgrade(server, &handshake()).await;
    assert_eq!(
        reply.names(),
        ["connection", "sec-websocket-accept", "upgrade"]
    );
}

/// Accepts after a while, and says when its future is dropped.
struct Slow {
    takes: Option<Duration>,
    pub(crate) asked: mpsc::UnboundedSender<oneshot::Receiver<()>>,
}

impl Handler for Slow {
    async fn accept(&self, _: &mut Parts) -> Result<Accept, Refusal> {
        let (_dropped, drops) = oneshot::channel();
        self.asked.send(drops).unwrap();
        match self.takes {
            Some(takes) => tokio::time::sleep(takes).await,
            None => pending().await,
        }
        Ok(Accept::new())
    }

    async fn handle(&self, _: WebSocket) -> Result<(), BoxError> {
        panic!("the handler was called");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_503_when_the_handler_takes_too_long_to_accept() {
    let limit = Duration::from_secs(3);
    for (set, limit) in [(None, Duration::from_secs(10)), (Some(limit), limit)] {
        let (asked, mut question) = mpsc::unbounded_channel();
        let mut slow = layer(Slow { takes: None, asked });
        if let Some(limit) = set {
            slow = slow.accept_timeout(limit);
        }
        let started = Instant::now();
        let response = slow
            .into_service()
            .call(promised(handshake_head()))
            .await
            .unwrap();
        assert_eq!(started.elapsed(), limit);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONNECTION], "close");
        assert!(!response.body().is_end_stream(), "a text says why");
        let why = response.extensions().get::<HandshakeError>();
        assert_eq!(why, Some(&HandshakeError::AcceptTimeout));
        let dropped = question.recv().await.unwrap();
        assert!(dropped.await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_the_handler_to_accept() {
    let (asked, _question) = mpsc::unbounded_channel();
    let takes = Duration::from_millis(9_999);
    let slow = layer(Slow {
        takes: Some(takes),
        asked,
    });
    let started = Instant::now();
    let response = slow
        .into_service()
        .call(promised(handshake_head()))
        .await
        .unwrap();
    assert_eq!(started.elapsed(), takes);
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(response.extensions().get::<HandshakeError>().is_none());
}

#[tokio::test]
async fn stops_asking_the_handler_when_the_client_goes_away() {
    let (asked, mut question) = mpsc::unbounded_channel();
    // Not the reason for the end.
    let hour = Duration::from_secs(3600);
    let slow = layer(Slow { takes: None, asked }).accept_timeout(hour);
    let mut client = Client::connect(serve(slow.into_service()).await).await;
    client.write(handshake().bytes()).await;
    let mut dropped = within(question.recv()).await.unwrap();
    assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    drop(client);
    assert!(within(dropped).await.is_err());
}

#[tokio::test]
async fn answers_only_after_the_handler_was_asked_once() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&order);
    let handler = Recorder::deciding(move |_| {
        noted.lock().unwrap().push("accept");
        Ok(Accept::new())
    });
    let noted = Arc::clone(&order);
    let service = layer(handler).into_service();
    let server = serve(service_fn(move |request: Request<Incoming>| {
        let (answer, noted) = (service.clone().oneshot(request), Arc::clone(&noted));
        async move {
            let answer = answer.await;
            noted.lock().unwrap().push("101");
            answer
        }
    }));
    upgrade(server.await, &handshake()).await;
    assert_eq!(*order.lock().unwrap(), ["accept", "101"]);
}
