//! The future of a response, and what happens in it when the request is ours.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, request::Parts};
use pin_project_lite::pin_project;
use tokio::runtime::Handle;

use crate::{
    config::Config,
    error::HandshakeError,
    handler::Handler,
    handshake::{Accept, Refusal, answer},
    report,
    response::ResponseBody,
    socket, subprotocol,
    upgrade::{Handover, Sent},
};

pin_project! {
    /// The future of a [`WebSocketService`](crate::WebSocketService)'s response.
    ///
    /// `F` is the future of the inner service; a request that is passed on boxes nothing.
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Inner { #[pin] future: F },
        Handshake { answer: Pin<Box<dyn Future<Output = Answer> + Send>> },
        Refused { response: Option<Response<Bytes>> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) const fn inner(future: F) -> Self {
        Self {
            kind: Kind::Inner { future },
        }
    }

    pub(crate) fn refused(error: HandshakeError) -> Self {
        Self {
            kind: Kind::Refused {
                response: Some(answer::failed(error)),
            },
        }
    }

    pub(crate) fn handshake<H: Handler>(handshake: Handshake<H>) -> Self {
        Self {
            kind: Kind::Handshake {
                answer: Box::pin(handshake.answer()),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project().kind.project() {
            KindProj::Inner { future } => ready!(future.poll(cx))?.map(ResponseBody::inner),
            KindProj::Handshake { answer } => match ready!(answer.as_mut().poll(cx)) {
                Answer::Switching(response, sent) => {
                    response.map(|()| ResponseBody::switching(sent))
                }
                Answer::Refused(response) => response.map(ResponseBody::text),
            },
            KindProj::Refused { response } => response
                .take()
                .expect("a future is not polled after it was ready")
                .map(ResponseBody::text),
        };
        Poll::Ready(Ok(response))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// How a valid handshake is answered.
enum Answer {
    Switching(Response<()>, Sent),
    Refused(Response<Bytes>),
}

/// A valid handshake that waits for the handler's word.
pub(crate) struct Handshake<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) config: Config,
    pub(crate) subprotocols: Arc<[Cow<'static, str>]>,
    pub(crate) request: Parts,
    pub(crate) accept_key: HeaderValue,
    pub(crate) handover: Handover,
}

impl<H: Handler> Handshake<H> {
    async fn answer(mut self) -> Answer {
        let accept = accept(&*self.handler, &mut self.request);
        let accept = match tokio::time::timeout(self.config.accept_limit(), accept).await {
            Err(_) => return Answer::Refused(answer::failed(HandshakeError::AcceptTimeout)),
            Ok(None) => return Answer::Refused(answer::failed(HandshakeError::AcceptPanicked)),
            Ok(Some(Err(refusal))) => return Answer::Refused(answer::refused(refusal)),
            Ok(Some(Ok(accept))) => accept,
        };
        let subprotocol = self.choose(&accept);
        let response = answer::switching(self.accept_key.clone(), subprotocol.clone(), accept);
        // The 101 is ready, and leaves with this poll: only now is there something to wait for.
        let sent = Sent::default();
        tokio::spawn(self.serve(subprotocol, sent.clone()));
        Answer::Switching(response, sent)
    }

    fn choose(&self, accept: &Accept) -> Option<HeaderValue> {
        let preferred = match accept.subprotocols.as_slice() {
            [] => &self.subprotocols,
            names => names,
        };
        // The list was well formed when the handshake was checked; a handler may have changed it.
        let offered = subprotocol::offered(&self.request.headers).unwrap_or_default();
        let chosen = subprotocol::choose(preferred, &offered)?;
        HeaderValue::from_str(chosen).ok()
    }

    async fn serve(self, subprotocol: Option<HeaderValue>, sent: Sent) {
        match self
            .handover
            .complete(&sent, self.config.upgrade_limit())
            .await
        {
            Err(error) => report::upgrade_failed(&error),
            Ok(io) => {
                let handle = |socket| self.handler.handle(socket);
                socket::serve(io, &self.config, self.request, subprotocol, handle).await;
            }
        }
    }
}

/// Asks the handler; `None` if it panics.
///
/// A panic here would take down the HTTP connection without an answer, and with it, on HTTP/2,
/// every other request on it.
async fn accept<H: Handler>(handler: &H, request: &mut Parts) -> Option<Result<Accept, Refusal>> {
    let mut accept = pin!(async move { handler.accept(request).await });
    std::future::poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| accept.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => {
                report::accept_panicked();
                Poll::Ready(None)
            }
        },
    )
    .await
}

/// Tells whether a task can be spawned here.
pub(crate) fn runs_in_tokio() -> bool {
    Handle::try_current().is_ok()
}
