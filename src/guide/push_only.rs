//! Push-only handlers: feeds, tickers, streams of tokens.
//!
//! Such a handler makes two calls that others do not need: [`ignore_incoming`](crate::WebSocket::ignore_incoming), and
//! [`closed`](crate::WebSocket::closed) beside the source of its messages:
//!
//! ```
//! use tokio::sync::mpsc;
//! use tower_websocket::{BoxError, WebSocket};
//!
//! async fn push(mut socket: WebSocket, mut lines: mpsc::Receiver<String>) -> Result<(), BoxError> {
//!     socket.ignore_incoming();
//!     loop {
//!         tokio::select! {
//!             line = lines.recv() => match line {
//!                 Some(line) => socket.send(line).await?,
//!                 None => return Ok(()), // The source has ended: 1000.
//!             },
//!             _ = socket.closed() => return Ok(()), // The client has gone.
//!         }
//!     }
//! }
//! ```
//!
//! | Without | What happens |
//! | --- | --- |
//! | `ignore_incoming` | Messages of the client fill the [inbox](crate::Config::max_inbox). Then neither pings nor a Close are read, and after [`receive_timeout`](crate::Config::receive_timeout), 5 minutes, the connection is closed with 1008 and a warning. |
//! | `closed` | If the source is quiet, the handler does not notice that the client has gone. It keeps running until [`handler_grace`](crate::Config::handler_grace), 30 s, is over. |
//!
//! `ignore_incoming` applies to messages. Pings, Closes and the limits of [`Config`](crate::Config) stay.
//!
//! # The latest value only
//!
//! A `watch` channel keeps one value. With a queue of one message, a slow client skips values instead of getting all of
//! them late:
//!
//! ```
//! use tokio::sync::watch;
//! use tower_websocket::{Config, Error, WebSocketLayer, with_state};
//!
//! let (prices, latest) = watch::channel(100);
//! let feed = with_state(latest, async |mut socket, mut latest| {
//!     socket.ignore_incoming();
//!     loop {
//!         let price = *latest.borrow_and_update();
//!         socket.send(price.to_string()).await?;
//!         tokio::select! {
//!             changed = latest.changed() => if changed.is_err() { break },
//!             _ = socket.closed() => break,
//!         }
//!     }
//!     Ok::<_, Error>(())
//! });
//! let config = Config::new().max_outbox(1, 64 * 1024).notsent_lowat(16 * 1024);
//! let layer = WebSocketLayer::new(feed).config(config);
//! # let _ = prices;
//! ```
//!
//! [`notsent_lowat`](crate::Config::notsent_lowat) works on Linux and Android, on TCP without TLS. Elsewhere up to 4
//! MiB wait in the buffers of the system, out of reach.
//!
//! # Stop a generator that nobody reads
//!
//! An expensive generator should stop when its client leaves, or asks it to stop. `select!` drops it in the middle of
//! an `.await`:
//!
//! ```
//! use tower_websocket::{BoxError, WebSocket};
//!
//! /// Returns the next token, after a while.
//! async fn next_token() -> Option<String> {
//!     None
//! }
//!
//! async fn generate(mut socket: WebSocket) -> Result<(), BoxError> {
//!     let sender = socket.sender();
//!     let tokens = async {
//!         while let Some(token) = next_token().await {
//!             sender.send(token).await?;
//!         }
//!         Ok(())
//!     };
//!     tokio::select! {
//!         done = tokens => done,
//!         // Any message stops it, and so does the end of the connection.
//!         stop = socket.recv() => stop.map(|_| ()).map_err(BoxError::from),
//!     }
//! }
//! ```
