//! From npm's `ws`.
//!
//! `ws` calls functions for events. Here a function runs from the first to the last message of a connection. A server
//! that sends to all other clients, with `ws` and here:
//!
//! ```text
//! const wss = new WebSocketServer({ server, path: "/ws" });
//! wss.on("connection", (ws) => {
//!   ws.on("error", console.error);
//!   ws.on("message", (data, isBinary) => {
//!     for (const client of wss.clients) {
//!       if (client !== ws && client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
//!     }
//!   });
//! });
//! ```
//!
//! ```
//! use std::{collections::HashMap, sync::{Arc, Mutex, PoisonError}};
//! use tower_websocket::{ConnectionId, Error, Message, Sender, WebSocketLayer, with_state};
//!
//! #[derive(Default)]
//! struct Clients(Mutex<HashMap<ConnectionId, Sender>>);
//!
//! impl Clients {
//!     fn with<T>(&self, change: impl FnOnce(&mut HashMap<ConnectionId, Sender>) -> T) -> T {
//!         change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
//!     }
//!
//!     fn send_to_others(&self, own: ConnectionId, message: &Message) {
//!         self.with(|clients| {
//!             // Forgets clients that have closed.
//!             clients.retain(|id, client| *id == own || client.try_send(message.clone()).is_ok());
//!         });
//!     }
//! }
//!
//! let clients = Arc::new(Clients::default());
//! let layer = WebSocketLayer::new(with_state(clients, async |mut socket, clients| {
//!     let id = socket.id();
//!     clients.with(|all| all.insert(id, socket.sender()));
//!     while let Some(message) = socket.recv().await? {
//!         clients.send_to_others(id, &message);
//!     }
//!     Ok::<_, Error>(())
//! })).path("/ws");
//! ```
//!
//! [Sending from elsewhere](super::sending) has a room that also frees places at once, and closes slow members.
//!
//! # Server
//!
//! | `ws` 8 | here |
//! | --- | --- |
//! | `new WebSocketServer({ server, path })` | [`WebSocketLayer::new(handler).path(..)`](crate::WebSocketLayer::path) around a router, or a route |
//! | `verifyClient`, or `handleUpgrade` in `server.on("upgrade")` | [`Handler::accept`](crate::Handler::accept), [`decide`](crate::decide) |
//! | `handleProtocols` | [`subprotocol`](crate::WebSocketLayer::subprotocol), in order of preference |
//! | `maxPayload`, 100 MiB | [`Config::max_message_size`](crate::Config::max_message_size), 1 MiB |
//! | `maxFragments`, 16,384 | [`Config::max_fragments`](crate::Config::max_fragments), the same |
//! | `perMessageDeflate`, off | [`Config::deflate`](crate::Config::deflate), off |
//! | `closeTimeout`, 30 s | [`Config::close_timeout`](crate::Config::close_timeout), 5 s |
//! | `wss.clients` | [`Connections::iter`](crate::Connections::iter) to look at and close, a map of [`Sender`](crate::Sender)s to send |
//! | `wss.close()` | [`Connections::shutdown`](crate::Connections::shutdown), which also closes the clients |
//! | `noServer` and several paths | a route for each |
//!
//! # A connection
//!
//! | `ws` 8 | here |
//! | --- | --- |
//! | `ws.on("message", (data, isBinary) => ..)` | [`recv`](crate::WebSocket::recv) returns text or binary |
//! | `ws.on("close", (code, reason) => ..)` | `recv` returns `None`; [`closed`](crate::WebSocket::closed) has code, reason and side |
//! | `ws.on("error", ..)` | `recv` returns a [`RecvError`](crate::error::RecvError) |
//! | `ws.send(data)` | [`send`](crate::WebSocket::send), or [`Sender::try_send`](crate::Sender::try_send) outside of `async` code |
//! | `ws.send(data, callback)` | `send` returns when there is room; [`flush`](crate::WebSocket::flush) when it is written |
//! | `ws.bufferedAmount` | [`Sender::buffered`](crate::Sender::buffered), which has a limit |
//! | `ws.close(4000, "reason")` | [`close(CloseCode::of::<4000>(), "reason")`](crate::WebSocket::close) |
//! | `ws.terminate()` | return from the handler, or drop the socket: it is closed within a time limit |
//! | `ws.ping()` on a timer, `isAlive` | on by default: [`Config::keepalive`](crate::Config::keepalive) |
//! | `ws.ping()`, and the time to its pong | [`ping().await`](crate::WebSocket::ping) |
//! | `ws.pause()` | do not call `recv` |
//! | `ws.protocol` | [`subprotocol`](crate::WebSocket::subprotocol) |
//! | `request` of the event | [`request`](crate::WebSocket::request) |
//!
//! # Client
//!
//! With the feature `client`: `new WebSocket(url, protocols, { headers })` is
//! [`client::connect`](crate::client::connect) with a [`Handshake`](crate::client::Handshake).
//! [`client::Reconnect`](crate::client::Reconnect) connects again.
//!
//! # What behaves differently
//!
//! | | `ws` 8 | here |
//! | --- | --- | --- |
//! | A page of another origin | connects. | 403 |
//! | A client that reads nothing | Memory grows until it leaves. | [Bounded](super::limits) |
//! | A handler that is slow | Messages go on to arrive. | Reading stops after 16, until it receives. |
//! | An exception, or a panic | ends the process. | closes its connection with 1011. |
//! | A machine that is gone | stays in `wss.clients`, without a timer of yours. | is pinged after 20 s of silence. |
