//! Serves one connection of any service, with hyper.

use std::{
    future::poll_fn,
    io,
    sync::{Mutex, PoisonError},
};

use http::{Extensions, Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tower::Service;

use self::sealed::{Io, Serve};
use super::pipe::End;
use crate::words::BoxError;

/// A service that [`connect`](super::connect) drives: a tower service for the requests of hyper's HTTP server.
///
/// It takes `http::Request<hyper::body::Incoming>` and answers with `http::Response` and any body. Examples are
/// `axum::Router`, and a stack of layers whose innermost service takes any body. Wrap a service that takes another
/// body, such as `axum::body::Body`:
/// `ServiceBuilder::new().map_request(|r: Request<Incoming>| r.map(Body::new)).service(service)`. The service need not
/// be `Clone`.
///
/// The trait is sealed: implement [`tower::Service`].
#[diagnostic::on_unimplemented(
    message = "this is not an HTTP service that a test can drive",
    label = "not a service of `http::Request<hyper::body::Incoming>`",
    note = "it is a `tower::Service` from `http::Request<hyper::body::Incoming>` to `http::Response`, such as an \
            `axum::Router`. It is `Send` and `'static`, as are its future and the body of its response",
    note = "a router with state needs `.with_state(..)`, a layer `.into_service()`, and for a handler alone there is \
            `WebSocketLayer::new(handler).into_service()`",
    note = "a service that takes another body needs `.map_request(|r: Request<Incoming>| r.map(Body::new))` around it"
)]
pub trait HttpService: Serve {}

pub(super) mod sealed {
    use std::io;

    use http::Extensions;
    use tokio::task::JoinHandle;

    use super::End;

    /// Closes [`HttpService`](super::HttpService) to other crates.
    #[expect(unnameable_types, reason = "no other crate implements it")]
    pub trait Serve {
        /// Serves a connection in a task. The extensions are added to its request.
        #[doc(hidden)]
        fn serve(self, io: Io, extensions: Extensions) -> JoinHandle<io::Result<()>>;
    }

    /// The server's end of a connection.
    #[derive(Debug)]
    #[expect(unnameable_types, reason = "no other crate calls `serve`")]
    pub struct Io(pub(in crate::testing) End);
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
}

impl<S, B> Serve for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn serve(self, Io(end): Io, extensions: Extensions) -> JoinHandle<io::Result<()>> {
        let service = Mutex::new(Some(self));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let service = service
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            request.extensions_mut().extend(extensions.clone());
            async move {
                let mut service =
                    service.ok_or_else(|| io::Error::other("the client sends one request"))?;
                poll_fn(|cx| service.poll_ready(cx))
                    .await
                    .map_err(io::Error::other)?;
                service.call(request).await.map_err(io::Error::other)
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(end), service);
        tokio::spawn(async move { connection.with_upgrades().await.map_err(io::Error::other) })
    }
}
