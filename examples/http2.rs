//! WebSockets over HTTP/2 and TLS, as browsers use them on a site that supports both.
//!
//! ```text
//! cargo run --release --features http2 --example http2
//! ```
//!
//! Then open <https://127.0.0.1:3000/>. The server makes its own certificate, so the browser shows a
//! warning. Ignore it, or trust the certificate file that the program prints. Text and binary come back
//! unchanged. The page shows the HTTP version of itself and of its WebSockets, which all share one TCP
//! connection. The same handler serves HTTP/1.1 clients:
//!
//! ```text
//! websocat --insecure wss://127.0.0.1:3000/ws
//! ```

use std::{
    env,
    error::Error,
    fs,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, response::Html, routing::get};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer, version},
};
use tower::ServiceExt;
use tower_websocket::{BoxError, Http2Executor, WebSocket, WebSocketLayer};

/// The timeout for the TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for the head of the first request.
const FIRST_HEAD: Duration = Duration::from_secs(10);

/// The maximum number of bytes that a WebSocket may send before its handler receives them.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The maximum number of open streams on one connection.
const STREAMS: u32 = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route("/", get(Html(PAGE)))
        .layer(WebSocketLayer::new(echo).path("/ws"));

    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address: SocketAddr = match argument.parse::<u16>() {
        Ok(port) => ([127, 0, 0, 1], port).into(),
        Err(_) => argument.parse()?,
    };
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;

    let certificate =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), address.ip().to_string()])?;
    let trusted = env::temp_dir().join(format!("tower-websocket-{}.pem", address.port()));
    fs::write(&trusted, certificate.cert.pem())?;
    let acceptor = acceptor(&certificate)?;

    println!("listening on https://{address}/");
    println!("its certificate is {}:", trusted.display());
    println!("  curl --cacert {} https://{address}/", trusted.display());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The client has left, or file descriptors are exhausted until a connection ends.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(serve(stream, acceptor.clone(), app.clone()));
    }
}

/// Sends the HTTP version, then echoes every message.
async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    let version = socket.request().version();
    socket.send(format!("connected by {version:?}")).await?;
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// Makes a TLS acceptor that offers HTTP/2 and HTTP/1.1.
fn acceptor(
    certificate: &rcgen::CertifiedKey<rcgen::KeyPair>,
) -> Result<TlsAcceptor, Box<dyn Error>> {
    let key = PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, app: Router) {
    // Nagle's algorithm would hold back small messages.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(TLS_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&has_asked);
    let app = app.map_request(move |request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request
    });
    // Works like hyper-util's `TokioExecutor`. In addition, it resets the stream of a WebSocket whose
    // client reads nothing or answers no ping.
    let mut server = auto::Builder::new(Http2Executor::new());
    server
        .http2()
        // Announces that browsers may open WebSockets on this connection (RFC 8441 §3). Otherwise they
        // open one HTTP/1.1 connection for each.
        .enable_connect_protocol()
        // Limits memory: each open WebSocket is a stream.
        .max_concurrent_streams(STREAMS)
        // Limits the bytes that hyper keeps in memory for a handler that does not receive.
        .initial_stream_window_size(STREAM_WINDOW)
        // Holds the windows of all streams. With a smaller window, a few handlers that do not receive
        // would block all other streams.
        .initial_connection_window_size(STREAMS * STREAM_WINDOW)
        // Limits the send buffer of a stream, for a client with a large window that reads nothing.
        .max_send_buf_size(64 * 1024)
        // Detects a dead client once for all of its WebSockets.
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20));
    // Without a timer, hyper has no timeout for the head of an HTTP/1 request.
    server.http1().timer(TokioTimer::new());
    let service = TowerToHyperService::new(app);
    let mut connection = pin!(server.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // The builder has no timeout for the first bytes, which show the HTTP version.
    let first = timeout(FIRST_HEAD, connection.as_mut()).await;
    if first.is_err() && has_asked.load(Ordering::Relaxed) {
        // The result has the error of the connection, which this example ignores.
        let _ = connection.await;
    }
}

/// The page at `/`: opens WebSockets and shows their messages.
const PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>WebSockets over HTTP/2</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; }
  body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
  form { display: flex; flex-wrap: wrap; gap: .5rem; }
  input { flex: 1 1 12rem; }
  input, button { font: inherit; padding: .4rem .8rem; }
  #log { padding: 0; list-style: none; font: .875rem/1.6 ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
<h1>WebSockets over HTTP/2</h1>
<p>The page was loaded over <b id="page"></b>. Its first WebSocket is <b id="state">connecting</b>.</p>
<form id="form">
  <input id="message" aria-label="Message" placeholder="Hello" autocomplete="off" autofocus>
  <button>Send to all</button>
  <button id="more" type="button">Open another</button>
  <button id="close" type="button">Close all</button>
</form>
<ol id="log" role="log" aria-label="Messages"></ol>
<script>
"use strict";
const byId = (id) => document.getElementById(id);
const sockets = [];
byId("page").textContent = performance.getEntriesByType("navigation")[0].nextHopProtocol;

function note(number, text) {
  const line = document.createElement("li");
  line.textContent = `${number}: ${text}`;
  byId("log").append(line);
}

function open() {
  const socket = new WebSocket(`wss://${location.host}/ws`);
  const number = sockets.push(socket);
  const state = (text) => { if (number === 1) byId("state").textContent = text; };
  socket.onmessage = ({ data }) => {
    if (data.startsWith("connected by")) state(data);
    note(number, data);
  };
  socket.onclose = ({ code, wasClean }) => {
    state(`closed ${code}`);
    note(number, `closed with ${code}, ${wasClean ? "clean" : "not clean"}`);
  };
}

byId("form").onsubmit = (event) => {
  event.preventDefault();
  for (const socket of sockets) {
    if (socket.readyState === WebSocket.OPEN) socket.send(byId("message").value);
  }
  byId("message").value = "";
};
byId("more").onclick = open;
byId("close").onclick = () => sockets.forEach((socket) => socket.close(1000));
open();
</script>
</html>
"##;
