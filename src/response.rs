//! The body of the responses: the inner service's, or one of ours.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::upgrade::Sent;

pin_project! {
    /// The body of a [`WebSocketService`](crate::WebSocketService)'s response: that of the inner
    /// service `B`, unchanged, or the short text of a refusal, or nothing for a 101 or 200.
    ///
    /// The default one is empty.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Text { text: Bytes },
        Switching { sent: Sent },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) const fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    pub(crate) const fn text(text: Bytes) -> Self {
        Self {
            kind: Kind::Text { text },
        }
    }

    pub(crate) const fn switching(sent: Sent) -> Self {
        Self {
            kind: Kind::Switching { sent },
        }
    }
}

impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::text(Bytes::new())
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Text { text } if text.is_empty() => Poll::Ready(None),
            KindProj::Text { text } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            KindProj::Switching { .. } => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Text { text } => text.is_empty(),
            Kind::Switching { sent } => {
                // Whoever asks is about to send this body, and so the 101 that it belongs to.
                sent.note();
                true
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Text { text } => SizeHint::with_exact(text.len() as u64),
            // Exactly zero: else a compressing layer would wrap the body, in one that does not
            // forward `is_end_stream`.
            Kind::Switching { .. } => SizeHint::with_exact(0),
        }
    }
}
