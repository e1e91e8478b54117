//! Slow members of a room: the policies, and the reports of lost messages (feature `hub`).
//!
//! A client on a bad network takes less than its room sends. It slows neither the publisher nor the other members, and
//! its memory is bounded. So it may miss messages, and the room declares which:
//!
//! | Messages | [`Overflow`](crate::hub::Overflow) | What a slow client gets |
//! | --- | --- | --- |
//! | without a gap, such as changes of a document | `Disconnect` (the default) | a Close with 1013 and "too slow"; it connects again |
//! | a log whose newest lines matter | `DropOldest` | the newest 1,024, or the newest MiB |
//! | valid for a moment, such as a pointer's place | `DropNewest` | only messages that are sent after it reads again |
//! | states by key, such as prices | `Latest` | the newest message of each key |
//! | kept in a [history](super::history) | `CatchUp` (the default with a history) | the messages of the history, at its own speed |
//!
//! # When a member is slow
//!
//! A room queues at most 64 messages or 64 KiB in a connection, and at most half of its
//! [`max_outbox`](crate::Config::max_outbox). Further messages wait in the room, once for all slow members: up to 1,024
//! messages and 1 MiB ([`max_backlog`](crate::hub::RoomConfig::max_backlog)). When that is full, the policy decides. So
//! a client that is slow for a moment misses nothing, except with `DropNewest`.
//!
//! With every policy, a connection that takes nothing for [`write_timeout`](crate::Config::write_timeout) ends.
//!
//! # The newest of each key
//!
//! With `Latest`, a message says which older ones it replaces:
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "test-util"))] {
//! use tower_websocket::{
//!     BoxError, WebSocket,
//!     hub::{Hub, HubConfig, Overflow, Publication, RoomConfig},
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let latest = |_: &str| RoomConfig::new().overflow(Overflow::Latest);
//! let hub: Hub = Hub::with(HubConfig::new().rooms(latest));
//! let prices = hub.room("prices");
//!
//! // A client that reads nothing for a while.
//! let (socket, mut client) = WebSocket::pair();
//! let member = prices.join(&socket, ()).await?;
//! client.wire().pause_reading();
//! for cents in 0..10_000 {
//!     for stock in ["ACME", "INIT"] {
//!         prices.publish(Publication::new(format!("{stock} {cents}")).latest(stock))?;
//!     }
//!     tokio::task::yield_now().await;
//! }
//! assert_eq!(member.lag().behind, 2);
//!
//! // After the messages that were on their way, it gets the newest one of each key.
//! client.wire().resume_reading();
//! let mut last = String::new();
//! while last != "INIT 9999" {
//!     last = client.recv().await?.ok_or("the end")?.into_text()?.to_string();
//! }
//! # // The counts follow the delivery.
//! # tokio::time::sleep(std::time::Duration::from_millis(1)).await;
//! assert!(hub.counts().superseded > 10_000);
//! assert_eq!(hub.counts().lost, 0);
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! The keys of a slow member take turns: on a link that carries a tenth of the updates, each key comes with its newest
//! message, a tenth as often. Up to 1,024 keys are kept. The example `board` shows it in a page.
//!
//! A message in the outbox, in the kernel or in a proxy cannot be replaced. For fresh values on slow links make these
//! buffers small: `Config::new().max_outbox(16, 8 * 1024)`, and [`notsent_lowat`](crate::Config::notsent_lowat) on TCP.
//!
//! # Reports
//!
//! - The client: with the envelope [`Json`](crate::hub::Json), it gets `{"room":"a","gap":{"lost":12,"reason":"slow"}}`
//!   in the place of lost messages: `RoomConfig::new().overflow(Overflow::DropOldest).envelope(envelope)`, with that of
//!   [`presence`](super::presence#lists-in-the-clients). With [`Plain`](crate::hub::Plain), number your messages.
//! - The handler: [`Membership::lag`](crate::hub::Membership::lag) has how many messages wait for the member and how
//!   many it has lost.
//! - The operator: [`Hub::counts`](crate::hub::Hub::counts) and [`Room::counts`](crate::hub::Room::counts). Each
//!   message for each member ends as one of `delivered`, `lost`, `superseded` and `unsent`, and counts as `waiting`
//!   until then. What a stalled member has missed is in `waiting`, too, until it takes messages again or leaves;
//!   `Membership::lag` has it at once.
