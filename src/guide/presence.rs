//! Presence: who is in a room, without ghosts (feature `hub`).
//!
//! A member is there from its join until its [membership ends](super::rooms#the-end-of-a-membership). A connection that
//! breaks ends its memberships at once, and one that vanishes does so within 40 s, by the
//! [`keepalive`](crate::Config::keepalive).
//!
//! | To know | Use |
//! | --- | --- |
//! | who is there now | [`Room::members_here`](crate::hub::Room::members_here) |
//! | how many connections there are | [`Room::len_here`](crate::hub::Room::len_here) |
//! | what changes, in the server | [`Room::watch`](crate::hub::Room::watch) |
//! | the same, in the clients | the envelope [`Json`](crate::hub::Json) |
//!
//! # Users with several tabs
//!
//! With a [`key`](crate::hub::Join::key), all connections of a user are one: a second tab does not join again, and
//! closing one of two does not leave. A watch sees each user come and go once:
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "test-util"))] {
//! use futures_util::StreamExt;
//! use tower_websocket::{BoxError, WebSocket, hub::{Event, Hub}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let hub = Hub::<String>::new();
//! let lobby = hub.room("lobby");
//! let mut watch = lobby.watch()?;
//! // The list is made at the moment in which it is read.
//! let Some(Event::Snapshot(all)) = watch.next().await else { return Err("no list".into()) };
//! assert!(all.is_empty());
//!
//! let (first, _tab) = WebSocket::pair();
//! let (second, _other_tab) = WebSocket::pair();
//! let first = lobby.join(&first, "Ada".into()).key("user 7").await?;
//! let second = lobby.join(&second, "Ada".into()).key("user 7").await?;
//! assert_eq!((lobby.members_here().len(), lobby.len_here()), (1, 2));
//!
//! first.leave();
//! assert!(lobby.members_here().by_key("user 7").is_some());
//! second.leave();
//! assert!(lobby.members_here().is_empty());
//!
//! let mut seen = Vec::new();
//! while seen.last() != Some(&"left") {
//!     match watch.next().await.ok_or("the end")? {
//!         Event::Joined(user) => {
//!             assert_eq!(user.value(), "Ada");
//!             seen.push("joined");
//!         }
//!         Event::Left { .. } => seen.push("left"),
//!         _ => {} // A value has changed, or another tab stands for the user.
//!     }
//! }
//! assert_eq!(seen, ["joined", "left"]);
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! A watch begins with all members, and then has each change: nobody is missing or twice. In a watch that is not read,
//! one new list replaces more than 1,024 changes.
//!
//! [`Membership::set`](crate::hub::Membership::set) changes a member's value, such as "is typing".
//! [`silent`](crate::hub::Join::silent) joins without being seen.
//!
//! # Lists in the clients
//!
//! With the envelope `Json`, every message is an object, and the members hear of each other. The text of a message has to
//! be JSON, otherwise sending fails with [`NotJson`](crate::hub::PublishError::NotJson). So make JSON of a client's text,
//! for example with `serde_json`:
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "test-util"))] {
//! use serde_json::{Value, json};
//! use tower_websocket::{BoxError, WebSocket, hub::{Hub, HubConfig, Json, RoomConfig}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let envelope = Json::new(|name: &String| json!(name).to_string());
//! let rooms = move |_: &str| RoomConfig::new().envelope(envelope.clone());
//! let hub = Hub::with(HubConfig::new().rooms(rooms));
//!
//! let (socket, mut client) = WebSocket::pair();
//! let ada = hub.room("tea").join(&socket, "Ada".into()).key("7").await?;
//! let id = ada.id().to_string();
//! let mut next = async || -> Result<Value, BoxError> {
//!     let message = client.recv().await?.ok_or("the end")?;
//!     Ok(serde_json::from_str(&message.into_text()?)?)
//! };
//! let list = json!({"room": "tea", "members": [{"id": id, "key": "7", "value": "Ada"}]});
//! assert_eq!(next().await?, list);
//!
//! ada.send(json!("hello").to_string())?;
//! assert_eq!(next().await?, json!({"room": "tea", "by": id, "key": "7", "data": "hello"}));
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! The list has the member itself, too. [`Json`](crate::hub::Json) shows the text of all changes.
//!
//! A page keeps a map by `key`, or by `id` without one: `members` replaces it, `joined` and `updated` set entries,
//! `left` removes them. Changes are gathered for 200 ms
//! ([`presence_interval`](crate::hub::RoomConfig::presence_interval)), so a thousand joins make one message. In a room
//! of more than 1,000 members ([`max_listed`](crate::hub::RoomConfig::max_listed)), clients get the number of members
//! only.
