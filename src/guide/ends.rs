//! How a connection ends, and its close code.
//!
//! A handler ends its connection by its result. A [`CloseFrame`](crate::CloseFrame) as the error is sent to the peer:
//!
//! ```
//! use tower_websocket::{BoxError, CloseCode, CloseFrame, WebSocket};
//!
//! async fn quiz(mut socket: WebSocket) -> Result<(), BoxError> {
//!     socket.send("6 times 7?").await?;
//!     let Some(answer) = socket.recv().await? else {
//!         return Ok(()); // The peer has closed.
//!     };
//!     match answer.as_text() {
//!         Some("42") => Ok(()), // 1000
//!         Some(_) => Err(CloseFrame::truncated(CloseCode::of::<4000>(), "wrong").into()),
//!         None => Err(CloseFrame::truncated(CloseCode::UNSUPPORTED_DATA, "text, please").into()),
//!     }
//! }
//! ```
//!
//! [`WebSocket::close`](crate::WebSocket::close) closes in the middle of a handler, and
//! [`Sender::close`](crate::Sender::close) from elsewhere.
//!
//! # Codes
//!
//! A connection ends with the code of its first cause
//! ([RFC 6455 §7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4)):
//!
//! | Code | When |
//! | --- | --- |
//! | 1000 | The handler returned `Ok`, and its `WebSocket` is dropped. |
//! | the handler's | The handler called [`WebSocket::close`](crate::WebSocket::close), or returned a [`CloseFrame`](crate::CloseFrame) as its error. |
//! | 1001 | The [`Connections`](crate::Connections) were closed, or [`Config::max_lifetime`](crate::Config::max_lifetime) has passed. |
//! | the peer's | The peer closed first. |
//! | 1002 | The peer broke the protocol, or ended its half of the stream without a Close. |
//! | 1003 | The peer sent binary instead of text, and the handler returned [`NotText`](crate::error::NotText); or text to a [`ByteStream`](crate::ByteStream). |
//! | 1007 | The peer sent text that is not UTF-8, or the handler returned the error of text that is not [JSON](super::messages#json). |
//! | 1008 | The peer exceeded another limit of [`Config`](crate::Config), the handler took no message in time, or it returned the error of JSON of another shape. |
//! | 1009 | The peer sent a message over the size limit. |
//! | 1011 | The handler returned another error, or panicked. |
//! | 1013 | All connections hold more than [`Connections::max_buffered`](crate::Connections::max_buffered), and this one most. |
//!
//! Applications use 4000 to 4999, libraries register 3000 to 3999. [`CloseCode`](crate::CloseCode) has the numbers that
//! may be sent. A reason has at most 123 bytes: [`truncated`](crate::CloseFrame::truncated) cuts a longer one.
//!
//! A connection is dropped without a close code in three cases: the peer is gone or reads nothing, the time given to
//! [`Connections::shutdown`](crate::Connections::shutdown) has passed, or
//! [`Connections::max_buffered`](crate::Connections::max_buffered) is exceeded while a large frame is being written.
//!
//! # Who closed, and why
//!
//! After the end, [`closed`](crate::WebSocket::closed) returns the side, the code, the reason, and whether both sides
//! sent a Close:
//!
//! ```
//! use tower_websocket::{BoxError, Side, WebSocket};
//!
//! async fn listen(mut socket: WebSocket) -> Result<(), BoxError> {
//!     let end = socket.closed();
//!     while let Some(message) = socket.recv().await? {
//!         println!("{} bytes", message.len());
//!     }
//!     drop(socket);
//!     let end = end.await;
//!     let who = if end.side() == Side::Remote { "the peer" } else { "we" };
//!     println!("{who} closed with {:?}, {:?}, clean: {}", end.code(), end.reason(), end.is_clean());
//!     Ok(())
//! }
//! ```
//!
//! If the peer closes first, our Close follows when `recv` has returned `None`, or a second after the last message that
//! the handler took. Until then the handler can reply.
//!
//! In a browser, `event.code` is 1005 if the Close had no code, and 1006 if there was no Close. Neither code is ever
//! sent. `code()` returns `None` for both.
//!
//! # The handler
//!
//! | Event | What the handler sees |
//! | --- | --- |
//! | The peer closes. | [`recv`](crate::WebSocket::recv) returns the messages before the Close, then `None`. |
//! | The connection breaks, or a limit is exceeded. | `recv` returns a [`RecvError`](crate::error::RecvError), then `None`. With `?` the close code does not change. |
//! | The connection is closing. | [`send`](crate::WebSocket::send) returns [`SendError::Closed`](crate::error::SendError::Closed). |
//! | The connection ended while the handler waits for something else. | Nothing, unless it waits for [`closed`](crate::WebSocket::closed) too. After [`Config::handler_grace`](crate::Config::handler_grace), 30 s by default, its future is dropped. |
//!
//! So clean up in a `Drop` ([an example](super::sending)). It also runs after `?`, after a panic, and when
//! a shutdown aborts the handler.
//!
//! # Time limits of an end
//!
//! | Wait | At most |
//! | --- | --- |
//! | for the peer's Close, and for the end of its stream | [`Config::close_timeout`](crate::Config::close_timeout): 5 s, and 1 s for each 16 KiB that are unwritten |
//! | for a peer that takes no data | [`Config::write_timeout`](crate::Config::write_timeout): 10 s, at most ten times that |
//! | for a peer that vanished | [`Config::keepalive`](crate::Config::keepalive): 20 s until the ping, 20 s for its answer |
//! | for a handler that takes no messages | [`Config::receive_timeout`](crate::Config::receive_timeout): 5 minutes |
