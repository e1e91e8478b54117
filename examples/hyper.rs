//! WebSockets on hyper, without a web framework.
//!
//! ```text
//! cargo run --example hyper
//! curl http://127.0.0.1:3000/
//! websocat ws://127.0.0.1:3000/ws
//! ```
//!
//! Use `serve_connection_with_upgrades`. With a plain `serve_connection` the client gets the 101 and then
//! the end of the connection. The log names the reason.

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

/// The timeout for the head of the first request.
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
                // Most likely, file descriptors are exhausted until a connection ends.
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
            // Without a timer, hyper has no timeout for the head of a request.
            server.http1().timer(TokioTimer::new());
            let service = TowerToHyperService::new(service);
            let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            // The builder has no timeout for the first bytes, which show the HTTP version.
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

/// Answers plain requests.
async fn plain(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(format!(
        "{} {} over plain HTTP\n",
        request.method(),
        request.uri().path()
    )))
}
