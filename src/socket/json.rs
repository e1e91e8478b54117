//! Sending and receiving JSON on a connection.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    ReadHalf, RecvError, SendError, Sender, WebSocket, WriteHalf,
    link::{Caller, Link, SendFuture},
};
use crate::words::{JsonError, Message, ToJsonError};

impl WebSocket {
    /// Receives the next message and reads its JSON, or returns `None` where [`recv`](Self::recv) does.
    ///
    /// JSON is text: a binary message is an error. For a message that may be either, call `recv` and
    /// [`Message::parse_json`].
    ///
    /// # Errors
    ///
    /// - [`RecvJsonError::Json`]: the message is not the expected JSON. It is taken, and the connection stays open: the
    ///   handler may answer and go on. A handler that returns the error closes with the code of the fault.
    /// - [`RecvJsonError::Recv`]: the errors of [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: a message is received completely or waits for the next call.
    ///
    /// # Examples
    ///
    /// ```
    /// use serde::Deserialize;
    /// use tower_websocket::{BoxError, WebSocket};
    ///
    /// #[derive(Deserialize)]
    /// struct Add {
    ///     left: i64,
    ///     right: i64,
    /// }
    ///
    /// async fn calculate(mut socket: WebSocket) -> Result<(), BoxError> {
    ///     while let Some(Add { left, right }) = socket.recv_json().await? {
    ///         socket.send_json(&left.saturating_add(right)).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn recv_json<T: DeserializeOwned>(
        &mut self,
    ) -> impl Future<Output = Result<Option<T>, RecvJsonError>> + Send {
        let message = self.recv();
        async {
            let message = message.await.map_err(RecvJsonError::Recv)?;
            let value = message.map(|message| message.parse_json()).transpose();
            Ok(value?)
        }
    }

    /// Queues one value to be written as JSON, in a text message.
    ///
    /// The call makes the JSON. The future only waits for room, as that of [`send`](Self::send), and does not borrow
    /// `value`.
    ///
    /// # Errors
    ///
    /// - [`SendJsonError::Json`]: the value cannot be JSON. Nothing is sent.
    /// - [`SendJsonError::Send`]: the errors of [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Like [`send`](Self::send).
    pub fn send_json<'a, T: Serialize + ?Sized>(&'a mut self, value: &T) -> SendingJson<'a> {
        SendingJson::new(&self.link, value, Caller::Holder)
    }
}

impl ReadHalf {
    /// Receives the next message and reads its JSON, like [`WebSocket::recv_json`].
    ///
    /// # Errors
    ///
    /// Like [`WebSocket::recv_json`].
    ///
    /// # Cancel safety
    ///
    /// Safe in `select!`: a message is received completely or waits for the next call.
    pub fn recv_json<T: DeserializeOwned>(
        &mut self,
    ) -> impl Future<Output = Result<Option<T>, RecvJsonError>> + Send {
        self.socket.recv_json()
    }
}

impl WriteHalf {
    /// Queues one value to be written as JSON, like [`WebSocket::send_json`].
    ///
    /// # Errors
    ///
    /// Like [`WebSocket::send_json`].
    ///
    /// # Cancel safety
    ///
    /// Like [`WebSocket::send`].
    pub fn send_json<'a, T: Serialize + ?Sized>(&'a mut self, value: &T) -> SendingJson<'a> {
        self.socket.send_json(value)
    }
}

impl Sender {
    /// Queues one value to be written as JSON, like [`WebSocket::send_json`].
    ///
    /// To send one value to many connections, make the message once by [`Message::json`] and send its clones.
    ///
    /// # Errors
    ///
    /// - [`SendJsonError::Json`]: the value cannot be JSON. Nothing is sent.
    /// - [`SendJsonError::Send`]: the errors of [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Like [`send`](Self::send).
    pub fn send_json<'a, T: Serialize + ?Sized>(&'a self, value: &T) -> SendingJson<'a> {
        SendingJson::new(&self.link, value, Caller::Sender)
    }
}

/// The future of `send_json` of [`WebSocket`], [`WriteHalf`] and [`Sender`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct SendingJson<'a>(Result<SendFuture<'a>, Option<ToJsonError>>);

impl<'a> SendingJson<'a> {
    #[inline]
    fn new<T: Serialize + ?Sized>(link: &'a Link, value: &T, caller: Caller) -> Self {
        Self(match Message::json(value) {
            Ok(message) => Ok(link.send(message, caller)),
            Err(error) => Err(Some(error)),
        })
    }
}

impl Future for SendingJson<'_> {
    type Output = Result<(), SendJsonError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(sending) => Pin::new(sending).poll(cx).map_err(SendJsonError::Send),
            Err(error) => {
                let error = error
                    .take()
                    .expect("a future that was ready is not polled again");
                Poll::Ready(Err(SendJsonError::Json(error)))
            }
        }
    }
}

/// Why [`WebSocket::recv_json`] returned no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvJsonError {
    /// No message will come.
    Recv(RecvError),
    /// The message is not the expected JSON. Later messages can be received.
    Json(JsonError),
}

impl fmt::Display for RecvJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recv(_) => "receiving failed",
            Self::Json(_) => "the peer sent a wrong message",
        })
    }
}

impl Error for RecvJsonError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Recv(error) => error,
            Self::Json(error) => error,
        })
    }
}

// Not from `RecvError`, and `SendJsonError` not from `SendError`: `SocketError` already is, and with a second type the
// compiler reports an `Ok(())` without a type twice.
impl From<JsonError> for RecvJsonError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

/// Why [`WebSocket::send_json`] did not queue a value.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendJsonError {
    /// The connection does not take messages any more.
    Send(SendError),
    /// The value cannot be JSON.
    Json(ToJsonError),
}

impl fmt::Display for SendJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sending json failed")
    }
}

impl Error for SendJsonError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Send(error) => error,
            Self::Json(error) => error,
        })
    }
}

impl From<ToJsonError> for SendJsonError {
    fn from(error: ToJsonError) -> Self {
        Self::Json(error)
    }
}
