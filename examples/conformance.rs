//! The server for test suites and load generators.
//!
//! ```text
//! cargo run --release --example conformance
//! cargo run --release --example conformance 9001 --max-message 1048576
//! cargo run --release --features http2 --example conformance 9001 --tls cert.pem key.pem
//! websocat ws://127.0.0.1:3000/any/path
//! ```
//!
//! - It accepts a WebSocket on every path, from any origin, and echoes every message unchanged.
//! - It chooses the subprotocol `chat` if the client offers it.
//! - A message may have up to 64 MiB (`--max-message`), in up to 1,048,576 fragments.
//! - A plain `GET` on any path answers 200.
//! - With `--features deflate` it compresses every message with the parameters that the client offers,
//!   including context takeover.
//!
//! `tests/autobahn/run` runs the Autobahn test suite against it.
//!
//! The client chooses the HTTP version: by ALPN with `--tls`, by prior knowledge in clear text.
//! WebSockets over HTTP/2 need the feature `http2`.

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

/// The timeout for the head of the first request.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// Allows a message of 64 MiB in fragments of 64 bytes, as test suites send them.
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
            // The client has left, or file descriptors are exhausted until a connection ends.
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

/// Serves a connection over HTTP/1.1 or HTTP/2.
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
    // The builder has no timeout for the first bytes, which show the HTTP version.
    let first = timeout(FIRST_HEAD, connection.as_mut()).await;
    if first.is_err() && has_asked.load(Ordering::Relaxed) {
        // The test suite judges the end of the connection, so errors are ignored here.
        let _ = connection.await;
    }
}

/// Makes a TLS acceptor from PEM files of a certificate and its key.
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

/// Returns the address to listen on, the maximum message size in bytes, and the TLS acceptor.
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

/// Listens with a backlog for thousands of clients that connect at the same time.
///
/// With a small backlog the kernel drops most of these connections, and clients retry after seconds.
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
