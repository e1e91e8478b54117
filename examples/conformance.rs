//! The server that test suites and load generators are pointed at.
//!
//! ```text
//! cargo run --release --example conformance
//! cargo run --release --example conformance 9001 --max-message 1048576
//! cargo run --release --features http2 --example conformance 9001 --tls cert.pem key.pem
//! websocat ws://127.0.0.1:3000/any/path
//! ```
//!
//! A WebSocket on every path, every message echoed unchanged, subprotocol `chat` when offered, any
//! origin, messages up to 64 MiB unless told otherwise, in up to 1,048,576 fragments; a plain `GET`
//! on any path answers 200. With `--features deflate` every message is compressed as the client
//! wishes, context takeover included. `tests/autobahn/run` runs the Autobahn test suite against it.
//!
//! Clients choose the version: by ALPN with `--tls`, and by prior knowledge of HTTP/2 in clear text.
//! WebSockets over HTTP/2 take the feature `http2`.

use std::{
    env,
    error::Error,
    net::SocketAddr,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
#[cfg(not(feature = "http2"))]
use hyper_util::rt::TokioExecutor as Http2Executor;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        version,
    },
};
use tower::ServiceExt;
#[cfg(feature = "http2")]
use tower_websocket::Http2Executor;
use tower_websocket::{Config, Echo, OriginPolicy, WebSocketLayer};

const USAGE: &str =
    "usage: conformance [PORT | ADDRESS:PORT] [--max-message BYTES] [--tls CERT KEY]";

/// How long a client may take for the head of its first request.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// 64 MiB in pieces of 64 bytes: suites send messages in smaller fragments than clients do.
const MAX_FRAGMENTS: u32 = 1 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (address, max_message, tls) = arguments(env::args().skip(1))?;

    let config = Config::new()
        .max_message_size(max_message)
        .max_fragments(MAX_FRAGMENTS, 16);
    #[cfg(feature = "deflate")]
    let config = config.deflate(
        tower_websocket::Deflate::new()
            .min_size(0)
            .send_window_bits(15)
            .send_context_takeover()
            .receive_context_takeover(),
    );
    let websocket = WebSocketLayer::new(Echo::new())
        .subprotocol("chat")
        .origin(OriginPolicy::insecure_any())
        .config(config);
    let app = Router::new()
        .fallback(async || "a WebSocket echoes here\n")
        .layer(websocket);

    let listener = listen(address)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("listening on {scheme}://{}/", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The client has gone, or there is no room before others have.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (app, tls) = (app.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, app).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, app).await;
                    }
                }
            }
        });
    }
}

/// Serves a connection of either version of HTTP.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: Router) {
    let mut server = auto::Builder::new(Http2Executor::new());
    server.http1().timer(TokioTimer::new());
    let mut server = server.http2();
    server.timer(TokioTimer::new()).max_concurrent_streams(1000);
    if cfg!(feature = "http2") {
        server.enable_connect_protocol();
    }
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&has_asked);
    let app = app.map_request(move |request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request
    });
    let service = TowerToHyperService::new(app);
    let mut connection = pin!(server.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // The builder waits for ever for the bytes by which it tells HTTP/2 from HTTP/1.
    let first = timeout(FIRST_HEAD, connection.as_mut()).await;
    if first.is_err() && has_asked.load(Ordering::Relaxed) {
        // How it ends is for the client to judge.
        let _ = connection.await;
    }
}

/// Speaks TLS with a certificate and its key, from PEM files.
fn acceptor(
    certificate: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> Result<TlsAcceptor, Box<dyn Error>> {
    let certificates = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Where to listen, the largest message in bytes, and whether to speak TLS.
fn arguments(
    mut arguments: impl Iterator<Item = String>,
) -> Result<(SocketAddr, usize, Option<TlsAcceptor>), Box<dyn Error>> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut max_message = 64 << 20;
    let mut tls = None;
    while let Some(argument) = arguments.next() {
        if argument == "--max-message" {
            max_message = arguments.next().ok_or(USAGE)?.parse()?;
        } else if argument == "--tls" {
            let certificate = arguments.next().ok_or(USAGE)?;
            tls = Some(acceptor(certificate, arguments.next().ok_or(USAGE)?)?);
        } else if let Ok(port) = argument.parse() {
            address.set_port(port);
        } else {
            address = argument.parse().map_err(|_| USAGE)?;
        }
    }
    Ok((address, max_message, tls))
}

/// Listens with room for thousands of clients that connect in the same instant: tokio's default
/// of 128 would leave most of them to the kernel's retries, seconds apart.
fn listen(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(4096)?)
}
