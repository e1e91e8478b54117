//! The inner services of our layer, and servers of plain requests without it.

use std::convert::Infallible;

use axum::{Router, body::Body, routing::get, serve::ListenerExt};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::{
    body::{Body as HttpBody, Incoming},
    server::conn::http1,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, layer::util::Identity, service_fn, util::MapResponseLayer};

use crate::BoxError;

pub(super) fn router() -> Router {
    Router::new().route("/", get(|| async { "hello over HTTP" }))
}

/// Returns a service with the same answer as [`router`].
pub(super) fn service()
-> impl Service<Request<Incoming>, Response = Response<String>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new("hello over HTTP".to_owned()))
    })
}

pub(super) async fn axum(listener: TcpListener) -> Result<(), BoxError> {
    serve_axum(listener, router()).await
}

pub(super) async fn axum_identity(listener: TcpListener) -> Result<(), BoxError> {
    serve_axum(listener, router().layer(Identity::new())).await
}

pub(super) async fn axum_body(listener: TcpListener) -> Result<(), BoxError> {
    // Any layer that answers some requests itself has such a body type.
    let wrap = |response: Response<Body>| response.map(Either::<Body, Full<Bytes>>::Left);
    serve_axum(listener, router().layer(MapResponseLayer::new(wrap))).await
}

pub(super) async fn hyper(listener: &TcpListener) -> Result<(), BoxError> {
    serve_hyper(listener, service()).await
}

pub(super) async fn serve_axum(listener: TcpListener, app: Router) -> Result<(), BoxError> {
    Ok(axum::serve(without_nagle(listener), app).await?)
}

pub(super) fn without_nagle(
    listener: TcpListener,
) -> impl axum::serve::Listener<Io = TcpStream, Addr: std::fmt::Debug> {
    listener.tap_io(|stream| drop(stream.set_nodelay(true)))
}

pub(super) async fn serve_hyper<S, B>(listener: &TcpListener, service: S) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: HttpBody<Data = Bytes, Error = Infallible> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(service.clone());
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move { drop(connection.await) });
    }
}
