//! History and resuming: a client that was away gets the messages that it has missed (feature `hub`).
//!
//! A phone goes through a tunnel: its connection is gone for a minute, and comes back as a new one. A room with
//! [`history`](crate::hub::RoomConfig::history) keeps its newest messages, by default 100 messages and 256 KiB of the
//! last 5 minutes. So the phone either gets exactly the messages that it has missed, once and in order, or is told that
//! it may have missed some. It is told of a gap unless the server can prove that there is none.
//!
//! # A room with history
//!
//! ```
//! # #[cfg(feature = "hub")] {
//! use tower_websocket::hub::{History, Hub, HubConfig, Json, RoomConfig};
//!
//! let hub: Hub<String> = Hub::with(HubConfig::new().rooms(|name| {
//!     let config = RoomConfig::new().envelope(Json::new(|name: &String| format!("{name:?}")));
//!     match name.starts_with("chat:") {
//!         true => config.history(History::new().max_messages(500)),
//!         false => config,
//!     }
//! }));
//! # }
//! ```
//!
//! Each message has a [`Position`](crate::hub::Position). With the envelope [`Json`](crate::hub::Json) the members get
//! it: `{"room":"chat:a","by":"100002","data":"Hello","at":"3e1vnm2eq8e1h-c-9qk0ulb5g0t6f"}`. The client keeps the last
//! `at` that it has seen, and sends it when it comes back. The text has no meaning for it.
//!
//! # Coming back
//!
//! [`Join::resume`](crate::hub::Join::resume) takes the position as the client sends it. A wrong position is not an
//! error: it is a gap. `paused` holds back all messages, so the handler can greet the client first. `start` delivers
//! the missed messages, and then the new ones:
//!
//! ```
//! # #[cfg(feature = "hub")] {
//! use tower_websocket::{BoxError, WebSocket, hub::{Hub, Recovery}};
//!
//! async fn chat(hub: Hub<String>, name: String, mut socket: WebSocket) -> Result<(), BoxError> {
//!     let mut join = hub.room("chat:a").join(&socket, name.clone()).key(name);
//!     // The first message of the client: empty, or the last position that it knows.
//!     let Some(since) = socket.recv().await? else { return Ok(()) };
//!     let since = since.into_text()?;
//!     join = match since.is_empty() {
//!         true => join.with_history(50),
//!         false => join.resume(&*since, None),
//!     };
//!     let paused = join.paused().await?;
//!     let missed = match paused.recovery() {
//!         Recovery::Fresh => "null".into(),
//!         Recovery::Recovered { messages, .. } => messages.to_string(),
//!         Recovery::Gap { reason, .. } => format!("{:?}", reason.as_str()),
//!         _ => "\"unknown\"".into(),
//!     };
//!     let at = paused.position().map(|at| at.to_string()).unwrap_or_default();
//!     socket.send(format!(r#"{{"missed":{missed},"at":"{at}"}}"#)).await?;
//!     let lobby = paused.start();
//!     while let Some(message) = socket.recv().await? {
//!         lobby.send(message)?;
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! The greeting has an `at` even before the first message, so a client can also resume in a room where nobody has sent
//! anything yet. It is the position of the newest message. A client that gets older messages must not keep it: these
//! messages bring their own positions.
//!
//! # The three outcomes
//!
//! | [`Recovery`](crate::hub::Recovery) | The client | Show |
//! | --- | --- | --- |
//! | `Fresh` | is new here. With `with_history(50)` it gets the last 50 | the messages that come |
//! | `Recovered { messages }` | gets these messages next, with the positions that they had, and has missed nothing | nothing, or "back again" |
//! | `Gap { reason }` | may have missed messages, and gets the new ones; with `with_history`, also the newest old ones | a line "messages are missing here", or load the page again |
//!
//! A gap has a [`GapReason`](crate::hub::GapReason):
//!
//! | Reason | When |
//! | --- | --- |
//! | `Trimmed` | it was away for longer than the history reaches back |
//! | `TooMuch` | it has missed more than 300 messages or 1 MiB |
//! | `Epoch` | the server was restarted, or the room had ended since, or its history was cleared |
//! | `Diverged`, `Unknown` | the position is not one of this room: a fault of the client, or a forged one |
//!
//! A room with history stays without members as long as it keeps messages: a phone that was alone in it finds them.
//! Meanwhile it counts towards [`max_rooms`](crate::hub::HubConfig::max_rooms).
//!
//! # Messages without a replay
//!
//! - [`fleeting`](crate::hub::Publication::fleeting) messages, such as typing or the place of a pointer. They have no
//!   position.
//! - Joins and leaves. A member that joins gets a list of the members.
//! - A message that has left out a member ([`send_others`](crate::hub::Membership::send_others),
//!   [`except`](crate::hub::Publication::except)), if the hub does not know whether this is that member. The handler
//!   names the member by [`key`](crate::hub::Join::key), or by the `was` of `resume`. Both have to come from its own
//!   authentication, not from the client. A page that leaves out its own messages by their `by` needs none of this:
//!   then use [`send`](crate::hub::Membership::send).
//!
//! # Slow clients
//!
//! In a room with history the default for slow clients is [`CatchUp`](crate::hub::Overflow::CatchUp): they read on from
//! the history. If the history has lost messages that a client needs, the envelope `Json` sends one
//! `{"gap":{"lost":12,"reason":"slow"}}` in their place. `Plain` cannot tell of a gap, so the connection is closed with
//! 4000, and the client connects again.
//!
//! # Trying it
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "test-util"))]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tower_websocket::{WebSocket, hub::{GapReason, History, Hub, HubConfig, Recovery, RoomConfig}};
//!
//! let history = |_: &str| RoomConfig::new().history(History::new().max_messages(2));
//! let hub: Hub = Hub::with(HubConfig::new().rooms(history));
//! let room = hub.room("a");
//! let (socket, _client) = WebSocket::pair();
//!
//! let member = room.join(&socket, ()).await?;
//! let at = member.send("one")?.position.unwrap();
//! drop(member);
//! room.send("two")?;
//!
//! let mut paused = room.join(&socket, ()).resume(at, None).paused().await?;
//! assert!(matches!(paused.recovery(), Recovery::Recovered { messages: 1, .. }));
//! assert_eq!(paused.replay().next().unwrap().message, "two");
//!
//! room.send("three")?;
//! room.send("four")?;
//! let late = room.join(&socket, ()).resume(at, None).await?;
//! assert_eq!(late.recovery(), Recovery::Gap { reason: GapReason::Trimmed });
//! # Ok::<_, tower_websocket::BoxError>(())
//! # }).unwrap();
//! ```
