//! The socket and its senders as `Stream` and `Sink`, with one error type, so that they can be forwarded to each other.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};

use super::{ReadHalf, Sender, SocketError, WebSocket, WriteHalf};
use crate::words::{CloseCode, CloseFrame, Message};

/// Yields the results of [`WebSocket::recv`]: messages, at most one error, then the end.
impl Stream for WebSocket {
    type Item = Result<Message, SocketError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.link
            .poll_recv(cx)
            .map(|received| received.map_err(SocketError::Recv).transpose())
    }
}

/// Queues messages like [`WebSocket::send`].
///
/// Messages are written on their own, even without a flush. `poll_flush` is ready when all messages
/// are written that were sent before its first poll. `poll_close` closes with 1000, and is ready
/// when the connection is closed.
///
/// A flush that is dropped is continued by the next one. That one also waits for messages that the
/// `WebSocket` has sent since, but not for messages of a [`Sender`].
impl Sink<Message> for WebSocket {
    type Error = SocketError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        // A sink does not know the length of its next message.
        self.link.poll_room(1, cx).map_err(SocketError::Send)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SocketError> {
        self.link.push(message).map_err(SocketError::Send)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.link.poll_flushed(cx).map_err(SocketError::Send)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.link
            .close(CloseFrame::without_reason(CloseCode::NORMAL));
        self.link.poll_ended(cx).map_err(SocketError::Send)
    }
}

/// Yields the results of [`ReadHalf::recv`]: messages, at most one error, then the end.
impl Stream for ReadHalf {
    type Item = Result<Message, SocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.socket).poll_next(cx)
    }
}

/// Queues messages like [`WriteHalf::send`]. Flushes and closes like the `Sink` of [`WebSocket`].
impl Sink<Message> for WriteHalf {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), SocketError> {
        Pin::new(&mut self.socket).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// Queues messages like [`Sender::send`].
///
/// Messages are written on their own. `poll_flush` is ready at once, and so is `poll_close`: neither waits for the
/// peer, and neither closes the connection, because other senders may use it. [`Sender::close`] closes it.
impl Sink<Message> for Sender {
    type Error = SocketError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let this = self.get_mut();
        this.link
            .poll_room_from(&mut this.place, cx)
            .map_err(SocketError::Send)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SocketError> {
        let this = self.get_mut();
        this.link
            .push_from(message, &mut this.place)
            .map_err(SocketError::Send)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Poll::Ready(Ok(()))
    }
}
