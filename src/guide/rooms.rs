//! Rooms: sending to many connections, slow members, and who is there (feature `hub`).
//!
//! # A chat
//!
//! ```
//! # #[cfg(feature = "hub")] {
//! use tower_websocket::{BoxError, WebSocket, WebSocketLayer, hub::Hub, with_state};
//!
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
//! let layer = WebSocketLayer::new(with_state(Hub::<String>::new(), chat)).path("/chat");
//! # }
//! ```
//!
//! The membership ends when the handler returns, and at the latest when the connection ends. So keep it in a variable:
//! `let _ = room.join(..).await?` leaves at once.
//! `hub.room("lobby").send(..)` works from any task and thread, also outside of a handler. Joining and sending never
//! wait for a socket.
//!
//! What a handler sends before it joins comes before anything of the room. Later, its own messages may overtake
//! messages of rooms that wait for a slow client.
//!
//! # Slow members
//!
//! A room queues at most 64 messages or 64 KiB in a connection, and at most half of its
//! [`max_outbox`](crate::Config::max_outbox). What comes then waits in the room, once for all slow members: up to 1,024
//! messages and 1 MiB. Choose by the kind of messages what happens next:
//!
//! | Messages | [`Overflow`](crate::hub::Overflow) | What a slow client gets |
//! | --- | --- | --- |
//! | of which none may be missed | `Disconnect` (the default) | a Close with 1013 and "too slow"; it connects again |
//! | a log, of which the end matters | `DropOldest` | the newest 1,024 |
//! | of the moment, such as a pointer | `DropNewest` | what is sent once it reads again; nothing is kept |
//! | states by key, such as prices | `Latest` | the newest message of each key, in order |
//!
//! The envelope [`Json`](crate::hub::Json) tells a client how many messages it has missed, in their place. With
//! [`Plain`](crate::hub::Plain), which sends messages as they are, [`Membership::lag`](crate::hub::Membership::lag) and
//! [`Hub::counts`](crate::hub::Hub::counts) have the numbers. Whatever the policy, a connection that takes nothing for
//! [`write_timeout`](crate::Config::write_timeout) ends.
//!
//! A task that sends more than a backlog without a pause makes everybody slow: call `tokio::task::yield_now` in such a
//! loop.
//!
//! # Who is there
//!
//! [`Room::members_here`](crate::hub::Room::members_here) lists the members and their values.
//! [`Room::watch`](crate::hub::Room::watch) is a stream: first all members, then each change. A watch that is not read
//! gets a new list in the place of more than 1,024 changes.
//!
//! `join(..).key(user_id)` makes the connections of a user one: a second tab does not join again, and closing one of
//! two does not leave. `silent()` receives without being seen.
//!
//! With the envelope `Json` the members hear of each other: who joins gets a list, and changes are gathered for 200 ms.
//! In a room of more than 1,000 members, only their number is sent.
//!
//! # Rooms for pages
//!
//! A page or an app needs a protocol: to join, to send, to resume. [`json_rooms`](super::json_rooms) is one, with its
//! handler.
//!
//! # What it holds
//!
//! Measured by a test with a counting allocator: 232 bytes for a member beside its connection, 820 bytes for a room
//! with it. One stalled member among 200, at 5,000 messages of 100 bytes a second for a minute: 334 KiB. 300 stopped
//! ones among 1,000, with messages of 1 KiB: 21 MiB, of which 19 MiB are in their outboxes.
