//! The future that the public `send` methods return.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::{SendError, link::SendFuture};

/// The future of `send` and `send_uncompressed` of [`WebSocket`](crate::WebSocket), [`WriteHalf`](crate::WriteHalf) and
/// [`Sender`](crate::Sender).
///
/// Its type does not depend on the type of the message, so the future borrows nothing from the message.
// It is not an `impl Future`: the compiler would report a wrong type of message twice.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct Sending<'a>(pub(super) SendFuture<'a>);

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}
