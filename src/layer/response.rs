//! The response body: that of the inner service, or our own.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{handshake::Refusal, layer::guard::Sent};

pin_project! {
    /// The body of a [`WebSocketService`](crate::WebSocketService)'s response.
    ///
    /// It is the unchanged body `B` of the inner service, the short text of a refusal, or an empty body for
    /// a 101 or 200. The default is empty.
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
        // Boxed, to keep the enum as small as an inner body that holds a pointer. Each response moves
        // the enum several times, and frameworks that box bodies allocate it.
        Ours { body: Box<Ours> },
    }
}

/// The body of a response that this layer made.
#[derive(Debug)]
enum Ours {
    Text(Bytes),
    Switching(Sent),
}

impl<B> ResponseBody<B> {
    #[inline]
    pub(crate) const fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    pub(crate) fn text(text: Bytes) -> Self {
        Self::ours(Ours::Text(text))
    }

    pub(crate) fn switching(sent: Sent) -> Self {
        Self::ours(Ours::Switching(sent))
    }

    fn ours(body: Ours) -> Self {
        Self {
            kind: Kind::Ours {
                body: Box::new(body),
            },
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

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Ours { body } => Poll::Ready(body.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Ours { body } => body.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Ours { body } => SizeHint::with_exact(body.len()),
        }
    }
}

impl Ours {
    /// Takes the unsent text.
    fn take(&mut self) -> Option<Bytes> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(std::mem::take(text)),
            Self::Text(_) => None,
            Self::Switching(sent) => {
                // A layer that reads the body sends the response on. A replaced response is not read.
                sent.set();
                None
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Switching(sent) => {
                // The caller is about to send this body, and with it the 101.
                sent.set();
                true
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            // The hint is exact: otherwise a compressing layer would wrap the body without forwarding
            // `is_end_stream`.
            Self::Switching(_) => 0,
        }
    }
}

impl Refusal {
    /// Refuses with a response whose body has to be read first, such as one of axum's.
    ///
    /// The whole body is read into memory, and trailers are ignored. In all other respects this works like
    /// `Refusal::from(response)`. If reading the body fails, or the status is below 300, the refusal is a 500.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the response.
    ///
    /// # Examples
    ///
    /// Answers with the status and text of an axum extractor's rejection:
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use axum::{RequestPartsExt, extract::Query, response::IntoResponse};
    /// use http::request::Parts;
    /// use tower_websocket::{Accept, Refusal};
    ///
    /// async fn accept(request: &mut Parts) -> Result<Accept, Refusal> {
    ///     match request.extract::<Query<HashMap<String, String>>>().await {
    ///         Ok(query) => Ok(Accept::new().carry(query.0)),
    ///         Err(rejection) => Err(Refusal::collect(rejection.into_response()).await),
    ///     }
    /// }
    /// ```
    pub async fn collect<B: Body>(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let mut body = Box::pin(body);
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let Ok(frame) = frame else {
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR);
            };
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            while data.has_remaining() {
                let chunk = data.chunk();
                bytes.extend_from_slice(chunk);
                let len = chunk.len();
                data.advance(len);
            }
        }
        Response::from_parts(head, bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn is_as_large_as_the_inner_body() {
        // The type to which frameworks box every body.
        type Boxed = Pin<Box<dyn Body<Data = Bytes, Error = std::io::Error> + Send>>;
        assert_eq!(size_of::<ResponseBody<Boxed>>(), size_of::<Boxed>());
        assert_eq!(size_of::<ResponseBody<String>>(), size_of::<String>());
    }
}
