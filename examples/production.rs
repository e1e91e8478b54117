//! A server as it runs in production: TLS, metrics for Prometheus, a log in JSON, readiness, and a shutdown on SIGTERM.
//!
//! ```text
//! cargo run --release --features metrics --example production
//! websocat --insecure wss://127.0.0.1:3000/chat
//! curl http://127.0.0.1:9000/metrics
//! curl http://127.0.0.1:9000/ready
//! kill -TERM PID
//! ```
//!
//! The arguments are the addresses of the public and of the internal server. The public server has two layers, `/chat`
//! and `/feed`, in one registry: they share one limit, one set of metrics and one shutdown. The internal server has no
//! TLS and is for Prometheus and the orchestrator. `production/dashboard.json` shows the metrics in Grafana.
//!
//! Each log line of a connection has the id of its request, which a proxy sends in `X-Request-Id`. After a SIGTERM,
//! `/ready` answers 503, new handshakes are refused, and open connections are closed with 1012.
//!
//! The server makes its own certificate. Replace it with yours.

use std::{env, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{interval, sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer, version},
};
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};
use tower_websocket::{
    CloseCode, CloseFrame, Connections, Echo, Error as HandlerError, WebSocket, WebSocketLayer,
    metrics::MetricsObserver,
};
use tracing::{Level, info, info_span};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// The maximum time of a TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum time of a shutdown. It is shorter than the time after which an orchestrator kills the process
/// (Kubernetes: 30 s).
const GRACE: Duration = Duration::from_secs(25);

/// The upper bounds of the histograms, in seconds and in bytes.
const SECONDS: [f64; 8] = [0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0];
const BYTES: [f64; 6] = [0.0, 1024.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// The state of the internal server.
#[derive(Clone)]
struct Inside {
    prometheus: PrometheusHandle,
    stopping: watch::Receiver<bool>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut address = |usual: &str| arguments.next().unwrap_or_else(|| usual.to_owned());
    let public = address("127.0.0.1:3000");
    run(&public, &address("127.0.0.1:9000")).await
}

/// Serves until the process is asked to end.
pub(crate) async fn run(public: &str, inside: &str) -> Result<(), Box<dyn Error>> {
    // At debug level this crate logs how each connection ends.
    let levels = Targets::new()
        .with_default(Level::INFO)
        .with_target("tower_websocket", Level::DEBUG);
    tracing_subscriber::fmt()
        .json()
        .with_max_level(Level::DEBUG)
        .with_writer(io::stderr)
        .finish()
        .with(levels)
        .init();
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_queue_bytes".to_owned()), &BYTES)?
        .install_recorder()?;

    // The handlers of signals are set up before anybody learns that the server listens.
    let terminated = termination()?;
    let connections = Connections::new().observer(MetricsObserver::new());
    let (stop, stopping) = watch::channel(false);
    let public = TcpListener::bind(public).await?;
    let inside = TcpListener::bind(inside).await?;
    println!("listening on https://{}/", public.local_addr()?);
    println!("listening on http://{}/", inside.local_addr()?);

    let metrics = Router::new()
        .route("/metrics", get(scrape))
        .route("/live", get("alive\n"))
        .route("/ready", get(ready))
        .with_state(Inside {
            prometheus: prometheus.clone(),
            stopping,
        });
    tokio::spawn(async move { axum::serve(inside, metrics).await });
    tokio::spawn(async move {
        // Otherwise the samples of histograms accumulate between two scrapes.
        let mut often = interval(Duration::from_secs(5));
        loop {
            often.tick().await;
            prometheus.run_upkeep();
        }
    });
    let accepting = tokio::spawn(accept(public, acceptor()?, app(&connections)));

    terminated.await;
    info!("shutting down");
    stop.send_replace(true);
    connections.close_with(CloseFrame::new(CloseCode::SERVICE_RESTART, "")?);
    let report = connections.shutdown(GRACE).await;
    info!(report.clean, report.aborted, "shut down");
    accepting.abort();
    Ok(())
}

/// Returns a future that is ready when the process is asked to end.
#[cfg(unix)]
fn termination() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signal = signal(SignalKind::terminate())?;
    Ok(async move {
        signal.recv().await;
    })
}

/// Returns a future that is ready when the process is asked to end: by Ctrl-C, where there is no SIGTERM.
#[cfg(not(unix))]
fn termination() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler the process runs until it is killed.
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// The public service: two WebSockets in one registry, and a page.
fn app(connections: &Connections) -> Router {
    let chat = WebSocketLayer::new(Echo::new()).path("/chat");
    let feed = WebSocketLayer::new(feed).path("/feed");
    let trace = TraceLayer::new_for_http().make_span_with(|request: &Request| {
        let id = request.headers().get("x-request-id");
        let id = id.and_then(|id| id.to_str().ok());
        info_span!("request", request_id = id)
    });
    // The last layer is the outermost one.
    Router::new()
        .route("/", get("WebSockets are at /chat and /feed\n"))
        .layer(chat.connections_in(connections).max_per_peer(100, peer))
        .layer(feed.connections_in(connections).max_per_peer(100, peer))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(trace)
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

/// Returns the address of the peer. Behind a proxy, read the client's address from a field that the proxy sets.
fn peer(request: &http::request::Parts) -> Option<std::net::IpAddr> {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.ip())
}

/// Sends a number each second.
async fn feed(mut socket: WebSocket) -> Result<(), HandlerError> {
    socket.ignore_incoming();
    let mut ticks = interval(Duration::from_secs(1));
    for number in 0_u64.. {
        tokio::select! {
            _ = socket.closed() => break,
            _ = ticks.tick() => socket.send(number.to_string()).await?,
        }
    }
    Ok(())
}

async fn scrape(State(inside): State<Inside>) -> String {
    inside.prometheus.render()
}

/// Returns 200 while the server accepts new connections, and 503 during a shutdown.
async fn ready(State(inside): State<Inside>) -> (StatusCode, &'static str) {
    match *inside.stopping.borrow() {
        false => (StatusCode::OK, "ready\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
    }
}

fn acceptor() -> Result<TlsAcceptor, Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, app: Router) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // The client has left, or file descriptors are exhausted until a connection ends.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(serve(stream, peer, acceptor.clone(), app.clone()));
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, app: Router) {
    let Ok(Ok(stream)) = timeout(TLS_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let app = app.layer(axum::Extension(ConnectInfo(peer)));
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer, hyper has no timeout for the head of a request.
    server.http1().timer(TokioTimer::new());
    let service = TowerToHyperService::new(app);
    // An error concerns only this connection, so it is ignored.
    let _ = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}
