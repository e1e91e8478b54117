//! HTTP/2 servers in clear text, for clients with prior knowledge. All use the settings that our
//! documentation recommends, so only the code that serves the streams differs.

use std::time::Duration;

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http2,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower_websocket::Http2Executor;

use super::{Stack, ours, peers};
use crate::BoxError;

/// The maximum number of streams on one connection.
const STREAMS: u32 = 200;
/// The flow-control window of a stream.
const STREAM_WINDOW: u32 = 64 * 1024;

pub(super) async fn serve(listener: &TcpListener, stack: Stack) -> Result<(), BoxError> {
    match stack {
        Stack::Axum => accept(listener, TowerToHyperService::new(ours::echo())).await,
        Stack::AxumWs => accept(listener, TowerToHyperService::new(peers::axum_app(false))).await,
        Stack::Yawc => {
            let service = service_fn(async |mut request: Request<Incoming>| {
                peers::yawc_answer(&mut request, false)
            });
            accept(listener, service).await
        }
    }
}

async fn accept<S, B>(listener: &TcpListener, service: S) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut server = http2::Builder::new(Http2Executor::new());
    server
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAMS * STREAM_WINDOW)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move { drop(connection.await) });
    }
}
