//! WebSockets on hyper itself, without a web framework.
//!
//! ```text
//! cargo run --example hyper
//! curl http://127.0.0.1:3000/
//! websocat ws://127.0.0.1:3000/ws
//! ```
//!
//! The one thing to remember is `serve_connection_with_upgrades`: after a plain `serve_connection`
//! a client sees the 101 and then the end of the connection, and the log says why.

use std::{
    convert::Infallible,
    env,
    error::Error,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, time::timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_websocket::{Echo, WebSocketLayer};

/// How long a client may take for the head of its first request.
const FIRST_HEAD: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let service = WebSocketLayer::new(Echo::new())
        .path("/ws")
        .layer(service_fn(plain));

    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);

    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: some connection has to end first.
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let has_asked = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&has_asked);
        let service = service.clone().map_request(move |request| {
            asked.store(true, Ordering::Relaxed);
            request
        });
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            // Without a timer a client may take as long as it likes for a head.
            server.http1().timer(TokioTimer::new());
            let service = TowerToHyperService::new(service);
            let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            // The builder waits for ever for the bytes by which it tells HTTP/2 from HTTP/1.
            let ended = match timeout(FIRST_HEAD, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) if has_asked.load(Ordering::Relaxed) => connection.await,
                Err(_) => return,
            };
            if let Err(error) = ended {
                eprintln!("connection: {error}");
            }
        });
    }
}

/// Answers every request that is not a WebSocket's.
async fn plain(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(format!(
        "{} {} over plain HTTP\n",
        request.method(),
        request.uri().path()
    )))
}
