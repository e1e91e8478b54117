//! Rooms: a message for many connections (feature `hub`).
//!
//! A [`Hub`](crate::hub::Hub) has rooms by name. A handler joins its connection to a room, and the hub delivers to it
//! until the connection ends:
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "test-util"))] {
//! use axum::Router;
//! use tower_websocket::{BoxError, WebSocket, WebSocketLayer, hub::Hub, with_state};
//!
//! /// The first message of a client is its name, and the others go to everybody.
//! async fn chat(mut socket: WebSocket, hub: Hub<String>) -> Result<(), BoxError> {
//!     let Some(name) = socket.recv().await? else { return Ok(()) };
//!     let name = name.into_text()?.to_string();
//!     let lobby = hub.room("lobby").join(&socket, name.clone()).await?;
//!     while let Some(message) = socket.recv().await? {
//!         lobby.send(format!("{name}: {}", message.into_text()?))?;
//!     }
//!     Ok(())
//! }
//!
//! fn app(hub: Hub<String>) -> Router {
//!     let layer = WebSocketLayer::new(with_state(hub, chat));
//!     Router::new().route_service("/chat", layer.into_service())
//! }
//!
//! async fn serve() -> std::io::Result<()> {
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app(Hub::new())).await
//! }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! #     let hub = Hub::new();
//! #     let mut ada = tower_websocket::testing::connect(app(hub.clone()), "/chat").await?;
//! #     ada.send("Ada").await?;
//! #     ada.send("hello").await?;
//! #     assert_eq!(ada.recv().await?.unwrap().as_text(), Some("Ada: hello"));
//! #     assert_eq!(hub.room("lobby").len_here(), 1);
//! #     Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! `T` of a `Hub<T>` is the value of a member, which [others see](super::presence). Without one, write `Hub` and join
//! with `()`. With axum's extractors, join in the closure of [`on_upgrade`](super::handlers).
//!
//! # Sending
//!
//! | To | Call |
//! | --- | --- |
//! | all members | [`membership.send(message)`](crate::hub::Membership::send) |
//! | all others, also other tabs of the same user | [`membership.send_others(message)`](crate::hub::Membership::send_others) |
//! | a room, from any task or thread | [`hub.room("lobby").send(message)`](crate::hub::Room::send) |
//! | one connection | [`socket.send`](crate::WebSocket::send), or its [`Sender`](super::sending) |
//!
//! Sending to a room is not async. It waits for no socket, and returns to how many members the message goes. An error
//! never means that a member is slow: the room's [policy](super::slow_members) decides about those.
//!
//! All members get the messages of a room in one order, each at most once. What a handler sends before it joins comes
//! before anything of the room. Later, its own messages may overtake messages of rooms that wait for a slow client.
//!
//! A task that sends more than 1,024 messages without a pause makes all members slow. Call `tokio::task::yield_now` in
//! such a loop.
//!
//! # The end of a membership
//!
//! It ends with the first of these:
//!
//! - The [`Membership`](crate::hub::Membership) is dropped, for example because the handler returns. So keep it in a
//!   variable: `let _ = room.join(..).await?` leaves at once. [`keep`](crate::hub::Membership::keep) stays until the
//!   connection ends.
//! - The connection ends, even if the handler goes on.
//! - [`Room::remove`](crate::hub::Room::remove), which leaves the connection open.
//! - The member is too slow, and the room disconnects those.
//!
//! A room begins with its first member or watch, and ends with its last one. With a [history](super::history) it stays
//! as long as it keeps messages. A handle, `hub.room("lobby")`, creates no room. The name is a `&str`, a `String` or an
//! `Arc<str>`, so a borrowed `String` is `hub.room(&*name)`.
//!
//! # Settings
//!
//! The settings of a room come from a function that gets its name:
//!
//! ```
//! # #[cfg(feature = "hub")] {
//! use tower_websocket::hub::{Hub, HubConfig, Overflow, RoomConfig};
//!
//! let config = HubConfig::new()
//!     .max_rooms_per_connection(20)
//!     .rooms(|name| match name.split_once('/') {
//!         Some(("prices", _)) => RoomConfig::new().overflow(Overflow::Latest),
//!         Some(("private", _)) => RoomConfig::new().max_members(2),
//!         _ => RoomConfig::new(),
//!     });
//! let hub: Hub = Hub::with(config);
//! # assert_eq!(hub.rooms(), []);
//! # }
//! ```
//!
//! | Limit | Default | Past it |
//! | --- | --- | --- |
//! | [`HubConfig::max_rooms`](crate::hub::HubConfig::max_rooms) | 100,000 | the join fails |
//! | [`HubConfig::max_rooms_per_connection`](crate::hub::HubConfig::max_rooms_per_connection) | 128 | the join fails |
//! | [`RoomConfig::max_members`](crate::hub::RoomConfig::max_members) | 100,000 | the join fails |
//! | [`RoomConfig::max_message_size`](crate::hub::RoomConfig::max_message_size) | 256 KiB | `send` fails |
//! | [`RoomConfig::max_backlog`](crate::hub::RoomConfig::max_backlog) | 1,024 messages, 1 MiB | the [policy](super::slow_members) decides |
//! | [`HubConfig::max_backlog`](crate::hub::HubConfig::max_backlog) of all rooms | 64 MiB | the policy decides |
//!
//! If clients choose the names, check a name before the join: each new one creates a room.
//!
//! # Compression
//!
//! With [`Config::deflate`](crate::Config::deflate), a message is compressed once for all members, not once for each.
//! This holds for members without context takeover, the default. Members with the same window and level share a
//! compression. Members with context takeover compress for themselves.
//! [`HubCounts::compressions`](crate::hub::HubCounts::compressions) counts the compressions. As long as a message waits
//! in the backlog, its compressed payloads count there, too.
//!
//! # Rooms for pages
//!
//! A page or an app needs a protocol: to join, to send, to resume. [`json_rooms`](super::json_rooms) is one, with its
//! handler.
//!
//! Next: [slow members](super::slow_members), [who is there](super::presence), [how many a machine
//! holds](super::capacity), [tests of rooms](super::testing#rooms).
