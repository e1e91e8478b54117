//! The future that the public `send` methods return.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::{SendError, link::SendFuture};

/// The future of [`WebSocket::send`](crate::WebSocket::send) and [`Sender::send`](crate::Sender::send).
///
/// It has a name so that it does not depend on the type of the message: it borrows nothing from the message, and the
/// compiler reports a type that is no message once.
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
