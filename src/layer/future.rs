//! The response future: that of the inner service, or the answer to a handshake.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
};

use http::{Response, Version};
use pin_project_lite::pin_project;

use crate::{
    handler::Handler,
    handshake::{HandshakeError, answer},
    layer::{
        handshake::{Answer, Handshake},
        response::ResponseBody,
    },
};

pin_project! {
    /// The future of a [`WebSocketService`](crate::WebSocketService)'s response.
    ///
    /// `F` is the future of the inner service. A request for the inner service needs no allocation.
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Inner { #[pin] future: F },
        // Always boxed, to keep the enum about as small as the inner service's future.
        Ours { answer: Pin<Box<dyn Future<Output = Answer> + Send>> },
    }
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(crate) const fn inner(future: F) -> Self {
        Self {
            kind: Kind::Inner { future },
        }
    }

    pub(crate) fn refused(error: HandshakeError, version: Version) -> Self {
        let response = answer::without_connection_headers(answer::failed(error), version);
        Self::ours(ready(Answer::Refused(response)))
    }

    pub(crate) fn handshake<H: Handler>(handshake: Handshake<H>) -> Self {
        Self::ours(handshake.answer())
    }

    fn ours(answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self {
            kind: Kind::Ours {
                answer: Box::pin(answer),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Inner { future } => {
                let answer = future.poll(cx);
                answer.map_ok(|response| response.map(ResponseBody::inner))
            }
            KindProj::Ours { answer } => answer.as_mut().poll(cx).map(|answer| Ok(answer.into())),
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
