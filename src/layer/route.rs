//! The compiler's message if a layer is used as a service.

use std::{
    convert::Infallible,
    future::Ready,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::Service;

use super::{ResponseBody, ResponseFuture, UpgradeRequired, WebSocketLayer, WebSocketService};
use crate::handler::Handler;

/// A bound that no type meets: a layer is not a service. It exists for its message, which the compiler shows if a
/// framework gets a layer where it expects a service.
#[diagnostic::on_unimplemented(
    message = "a `WebSocketLayer` goes around a service, and is not one",
    label = "a layer in the place of a service",
    note = "`layer.into_service()` is a service for a route of its own, as in axum's \
            `route_service(\"/ws\", layer.into_service())`"
)]
#[expect(unnameable_types, reason = "nothing implements it")]
pub trait LayerThatIsService {}

#[doc(hidden)]
impl<H: Handler, A> Service<Request<A>> for WebSocketLayer<H>
where
    Self: LayerThatIsService,
{
    type Response = Response<ResponseBody<String>>;
    type Error = Infallible;
    type Future = ResponseFuture<Ready<Result<Response<String>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let mut service: WebSocketService<UpgradeRequired, H> = self.clone().into_service();
        service.call(request)
    }
}
