//! Sending from elsewhere: rooms, and other tasks and threads.
//!
//! A [`Sender`](crate::Sender) is a clonable handle to a connection. The feature `hub` has [rooms](super::rooms). A
//! small one is a map of senders:
//!
//! ```
//! use std::{collections::HashMap, sync::{Mutex, MutexGuard, PoisonError}};
//! use tower_websocket::{
//!     BoxError, CloseCode, ConnectionId, Handler, Message, Sender, WebSocket, error::TrySendError,
//! };
//!
//! #[derive(Default)]
//! struct Room {
//!     members: Mutex<HashMap<ConnectionId, Sender>>,
//! }
//!
//! impl Room {
//!     fn members(&self) -> MutexGuard<'_, HashMap<ConnectionId, Sender>> {
//!         self.members.lock().unwrap_or_else(PoisonError::into_inner)
//!     }
//!
//!     /// Sends to all members but one. A member that reads too slowly has to connect again.
//!     fn say(&self, from: ConnectionId, message: &Message) -> Result<(), BoxError> {
//!         for (id, member) in self.members().iter().filter(|(id, _)| **id != from) {
//!             if let Err(TrySendError::Full(_)) = member.try_send(message.clone()) {
//!                 member.close(CloseCode::TRY_AGAIN_LATER, format!("{id} reads too slowly"))?;
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! /// A place in the room. Its `Drop` frees it, however the handler ends: by `?`, by a panic, by a shutdown.
//! struct Seat<'a>(&'a Room, ConnectionId);
//!
//! impl Drop for Seat<'_> {
//!     fn drop(&mut self) {
//!         self.0.members().remove(&self.1);
//!     }
//! }
//!
//! impl Handler for Room {
//!     async fn handle(&self, mut socket: WebSocket) -> Result<(), BoxError> {
//!         self.members().insert(socket.id(), socket.sender());
//!         let seat = Seat(self, socket.id());
//!         while let Some(message) = socket.recv().await? {
//!             self.say(seat.1, &message)?;
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! # Two tasks for one connection
//!
//! [`into_split`](crate::WebSocket::into_split) makes two halves for two tasks, each with the socket's methods for its
//! direction:
//!
//! ```
//! use futures_util::StreamExt;
//! use tower_websocket::{BoxError, WebSocket};
//!
//! async fn echo(socket: WebSocket) -> Result<(), BoxError> {
//!     let (write, read) = socket.into_split();
//!     read.forward(write).await?;
//!     Ok(())
//! }
//! ```
//!
//! | Handle | Keeps the connection open | Good for |
//! | --- | --- | --- |
//! | [`Sender`](crate::Sender) | no | rooms, and everything that outlives a connection |
//! | [`WriteHalf`](crate::WriteHalf), [`ReadHalf`](crate::ReadHalf) | until both are dropped | a task for each direction. A dropped `ReadHalf` discards what arrives. |
//! | `split` of `futures_util` | until both are dropped | code that has it already: its halves have `Stream` and `Sink` only |
//!
//! `Stream` and `Sink` have one error, [`SocketError`](crate::error::SocketError). `recv` and `send` keep their own.
//!
//! # From one connection to another
//!
//! A gateway dials in [`accept`](crate::Handler::accept) and [carries](crate::Accept::carry) the socket to the handler.
//! Then the client can get the upstream's refusal: `Refusal::from(*response)` makes one from the response of a
//! [`ConnectError::Refused`](crate::client::ConnectError::Refused).
//!
//! At its end `forward` closes its sink, with 1000. A [`Sender`](crate::Sender) as the sink closes nothing, so the
//! gateway can pass on the code of the other side:
//!
//! ```
//! use futures_util::StreamExt;
//! use tower_websocket::{CloseCode, Closed, Error, Sender, WebSocket};
//!
//! fn pass_on(end: &Closed, to: &Sender, lost: CloseCode) -> Result<(), Error> {
//!     match end.code() {
//!         Some(code) => to.close(code, end.reason())?,
//!         None if end.is_clean() => to.close_without_code(),
//!         None => to.close(lost, "")?, // The network failed.
//!     }
//!     Ok(())
//! }
//!
//! async fn relay(mut client: WebSocket, mut upstream: WebSocket) -> Result<(), Error> {
//!     let (down, up) = (client.sender(), upstream.sender());
//!     let upwards = async {
//!         // An error is the end of one side, which `closed` returns.
//!         let _ = client.by_ref().forward(up.clone()).await;
//!         pass_on(&down.closed().await, &up, CloseCode::GOING_AWAY)
//!     };
//!     let downwards = async {
//!         let _ = upstream.by_ref().forward(down.clone()).await;
//!         pass_on(&up.closed().await, &down, CloseCode::BAD_GATEWAY)
//!     };
//!     tokio::try_join!(upwards, downwards)?;
//!     Ok(())
//! }
//! # #[cfg(not(feature = "test-util"))]
//! # fn main() {}
//! # #[cfg(feature = "test-util")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error> {
//! # let (client, mut page) = WebSocket::pair();
//! # let (upstream, mut server) = WebSocket::pair();
//! # let relaying = tokio::spawn(relay(client, upstream));
//! # page.send("up").await?;
//! # assert_eq!(server.recv().await?.unwrap(), "up");
//! # server.send("down").await?;
//! # server.close(CloseCode::of::<4321>(), "over").await?;
//! # assert_eq!(page.recv().await?.unwrap(), "down");
//! # assert_eq!(page.recv().await?, None);
//! # let end = page.closed().await;
//! # assert_eq!((end.code(), end.reason()), (Some(CloseCode::of::<4321>()), "over"));
//! # relaying.await?
//! # }
//! ```
//!
//! # A member that reads slowly
//!
//! | Policy | Call |
//! | --- | --- |
//! | wait for it, and make everybody wait | [`send`](crate::Sender::send) |
//! | close it, as above | [`try_send`](crate::Sender::try_send), and [`close`](crate::Sender::close) for `Full` |
//! | wait for a while | [`send_timeout`](crate::Sender::send_timeout), which returns the message |
//! | skip the message | [`try_send`](crate::Sender::try_send), and nothing for `Full` |
//! | send it the latest value only | a `watch` channel to a [push-only handler](super::push_only#the-latest-value-only) |
//!
//! `Full` comes at [`Config::max_outbox`](crate::Config::max_outbox): 1,024 messages or 1 MiB.
//! [`buffered`](crate::Sender::buffered) returns the load before that. Up to 4 MiB more are in the system's buffers
//! ([`notsent_lowat`](crate::Config::notsent_lowat)).
//!
//! # Facts
//!
//! - A `Sender` does not keep the connection open. After the end `send` returns
//!   [`Closed`](crate::error::SendError::Closed).
//! - Messages of one task arrive in order. Those of several tasks are whole, and in any order.
//! - A clone of a [`Message`](crate::Message) shares its payload.
//! - [`try_send`](crate::Sender::try_send) and [`close`](crate::Sender::close) are not `async`: any thread can call
//!   them, also one without a runtime.
//! - [`Sender::closed`](crate::Sender::closed) waits for the end, and returns the code.
//! - The lock of the room is never held across an `.await`, so it can be a lock of `std`.
//! - [`Connections`](crate::Connections) lists and closes connections, but does not send.
