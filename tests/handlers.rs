//! The values that a layer accepts as its handler, over real connections.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{StatusCode, request::Parts};
use tower::ServiceExt;
use tower_websocket::{
    Accept, BoxError, BoxHandler, Decide, Echo, Error, FnHandler, Handler, IntoHandler, Refusal,
    WebSocket, WebSocketLayer, WebSocketService, decide, with_state,
};

use crate::support::{
    raw::{handshake, handshake_head, text, upgrade},
    tcp::serve,
};

/// Greets users by the name in their request, and refuses requests without a name.
struct Greeter;

impl Handler for Greeter {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let name = request.headers.get("x-user").cloned();
        Ok(Accept::new().carry(name.ok_or_else(Refusal::unauthorized)?))
    }

    async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
        let name: http::HeaderValue = socket.take_carried().unwrap();
        socket.send(format!("Hello {}", name.to_str()?)).await?;
        Ok(())
    }
}

async fn greet(mut socket: WebSocket) -> Result<(), BoxError> {
    let name = socket.request().header("x-user").unwrap().to_owned();
    socket.send(format!("Hello {name}")).await?;
    Ok(())
}

/// Returns the first message that a layer's handler sends to the user Ada.
async fn greeting<H: Handler>(layer: WebSocketLayer<H>) -> String {
    let request = handshake().with("X-User", "Ada");
    let (mut client, _) = upgrade(serve(layer.into_service()).await, &request).await;
    client.text().await
}

async fn greeting_of<H: Handler, M>(handler: impl IntoHandler<M, Handler = H>) -> String {
    greeting(WebSocketLayer::new(handler)).await
}

#[tokio::test]
async fn handlers_and_pointers_to_them_serve_connections() {
    static SHARED: Greeter = Greeter;
    assert_eq!(greeting_of(Greeter).await, "Hello Ada");
    assert_eq!(greeting_of(Arc::new(Greeter)).await, "Hello Ada");
    assert_eq!(greeting_of(Box::new(Greeter)).await, "Hello Ada");
    assert_eq!(greeting_of(&SHARED).await, "Hello Ada");
    assert_eq!(greeting_of(Arc::new(Box::new(&SHARED))).await, "Hello Ada");
}

#[tokio::test]
async fn functions_serve_connections_in_every_form() {
    type Greeting = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
    let pointer: fn(WebSocket) -> Greeting = |socket| Box::pin(greet(socket));
    let boxed: Box<dyn Fn(WebSocket) -> Greeting + Send + Sync> = Box::new(pointer);
    assert_eq!(greeting_of(greet).await, "Hello Ada");
    assert_eq!(greeting_of(&greet).await, "Hello Ada");
    assert_eq!(greeting_of(pointer).await, "Hello Ada");
    assert_eq!(greeting_of(boxed).await, "Hello Ada");
    let closure = async |socket: WebSocket| greet(socket).await;
    assert_eq!(greeting_of(closure).await, "Hello Ada");
    let two = |socket: WebSocket| async move { greet(socket).await.map_err(Error::new) };
    assert_eq!(greeting_of(two).await, "Hello Ada");
}

#[tokio::test]
async fn a_boxed_handler_accepts_and_serves_like_its_inner_handler() {
    let handlers = [
        BoxHandler::new(Greeter),
        BoxHandler::new(greet),
        BoxHandler::new(BoxHandler::new(Box::new(Greeter))),
    ];
    for handler in &handlers {
        let layer: WebSocketLayer<BoxHandler> = WebSocketLayer::new(handler.clone());
        assert_eq!(greeting(layer).await, "Hello Ada", "{handler:?}");
    }
    let [refusing, open, _] = handlers;
    for (handler, status) in [
        (refusing, StatusCode::UNAUTHORIZED),
        // The handler accepts, but the request has no `OnUpgrade` of an HTTP server.
        (open, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let service = WebSocketService::new(handler);
        let response = service.oneshot(handshake_head()).await.unwrap();
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn a_boxed_handler_has_the_name_of_its_inner_handler() {
    let shown = format!("{:?}", BoxHandler::new(BoxHandler::new(greet)));
    assert!(shown.contains("handlers::greet"), "{shown}");
    let shown = format!("{:?}", BoxHandler::new(Greeter));
    assert!(shown.contains("handlers::Greeter"), "{shown}");
}

#[tokio::test]
async fn connections_share_the_state_of_their_handler() {
    let visits = Arc::new(AtomicUsize::new(0));
    let layer = WebSocketLayer::new(with_state(
        Arc::clone(&visits),
        async |mut socket, visits| {
            let before = visits.fetch_add(1, Ordering::Relaxed);
            socket.send(before.to_string()).await?;
            Ok::<_, Error>(())
        },
    ));
    for visit in ["0", "1", "2"] {
        assert_eq!(greeting(layer.clone()).await, visit);
    }
    assert_eq!(visits.load(Ordering::Relaxed), 3);

    // An `async fn` with a reference as its state.
    async fn join(mut socket: WebSocket, guests: &'static Mutex<Vec<u8>>) -> Result<(), BoxError> {
        guests.lock().unwrap().push(b'a');
        socket.send("welcome").await?;
        Ok(())
    }
    static GUESTS: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    assert_eq!(greeting_of(with_state(&GUESTS, join)).await, "welcome");
    assert_eq!(*GUESTS.lock().unwrap(), [b'a']);
}

#[tokio::test]
async fn the_types_of_layers_can_be_named() {
    let _: WebSocketLayer = WebSocketLayer::new(Echo::new());
    let _: WebSocketLayer<Arc<Greeter>> = WebSocketLayer::new(Arc::new(Greeter));
    type Silent = fn(WebSocket) -> Ready<Result<(), BoxError>>;
    let silent: Silent = |_| ready(Ok(()));
    let _: WebSocketLayer<FnHandler<Silent>> = WebSocketLayer::new(silent);
    let decided: Decide<_, _, ()> = decide(
        async |_| Ok((Accept::new(), ())),
        async |mut socket, ()| {
            socket.send("decided").await?;
            Ok::<_, Error>(())
        },
    );
    assert_eq!(greeting_of(decided).await, "decided");
}

#[tokio::test]
async fn a_service_takes_what_a_layer_takes() {
    let service = WebSocketService::new(async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok::<_, Error>(())
    });
    let (mut client, _) = upgrade(serve(service).await, &handshake()).await;
    client.write(text("Hello")).await;
    assert_eq!(client.text().await, "Hello");
}
