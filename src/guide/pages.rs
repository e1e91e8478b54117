//! Building a page on rooms: the module for browsers (features `hub` and `json`).
//!
//! A page needs more than a WebSocket. It has to connect again, to ask for what it has missed, and to say so when
//! messages are gone. The module in `clients/rooms` of the repository does that. It has no dependencies, 6 KB minified,
//! and types for TypeScript. The example `chat` is a page that uses all of it:
//!
//! ```text
//! cargo run --features hub,json --example chat
//! ```
//!
//! # The server
//!
//! [`JsonRooms`](crate::hub::JsonRooms) is the handler. With a history, rooms can be resumed:
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "json"))] {
//! use tower_websocket::{
//!     WebSocketLayer,
//!     hub::{Admission, History, HubConfig, JsonRooms, RoomConfig},
//! };
//!
//! let room = |_: &str| RoomConfig::new().history(History::new().max_messages(500));
//! // A layer has put the name of the user into the extensions of the request.
//! let rooms = JsonRooms::new(HubConfig::new().rooms(room), async |user: String, _room| {
//!     Ok(Admission::new(user.clone()).key(user))
//! });
//! let layer = WebSocketLayer::new(rooms).path("/ws");
//! # }
//! ```
//!
//! A request without a `String` in its extensions is refused with 401.
//! [`JsonRooms::decide`](crate::hub::JsonRooms::decide) takes the identity from the request itself, as in
//! [rooms in JSON](super::json_rooms).
//!
//! The server decides who a member is. A message has the **key** of its sender, so pages know the author of an old
//! message even after the member has left. A name that the page writes into its messages could be that of anybody.
//!
//! # The page
//!
//! `rooms.js` is served like any other file, or bundled:
//!
//! ```js
//! import { connect } from "./rooms.js";
//!
//! const connection = connect("/ws", { onState: showState });
//! const lobby = connection.join("lobby", {
//!   last: 50,
//!   onMessage: ({ data, key, own, past }) => append(data, key, own),
//!   onMembers: () => showMembers(lobby.members),
//!   onGap: ({ reason }) => appendGap(reason),
//! });
//! await lobby.send({ text: "hello" });
//! ```
//!
//! Pages of another host or port are refused with 403, and see only 1006. With a development server for the page, let
//! that server pass `/ws` on, or allow it with [`allow_loopback`](crate::OriginPolicy::allow_loopback)
//! ([more causes](super::when_it_does_not_connect)).
//!
//! All rooms share one connection. Put texts of users into `textContent`, never into `innerHTML`.
//!
//! | Show | With |
//! | --- | --- |
//! | the newest messages after loading | `last: 50`. They come with `past: true` |
//! | who is here | `lobby.members`, in `onMembers`. In large rooms it is empty, and `lobby.count` has the number |
//! | who types | `lobby.send({ typing: true }, { fleeting: true, others: true })`, at most every two seconds; readers forget it after four |
//! | unread messages | `onMessage` while the room is not shown, or `document.hidden` |
//! | the connection | `onState`: `connecting`, `open`, `waiting` with the `delay`, `closed`. `connection.wake()` is for a button "connect now". It connects at most once a second |
//! | a message being sent | until the promise of `send` is settled |
//! | missing messages | a line in the log, in `onGap`. It is called in the place where they are missing |
//!
//! # Missed messages
//!
//! After each reconnect, the module resumes each room after the last message that it has seen. Either the page gets
//! exactly what it has missed, before anything new and nothing twice, or `onGap` is called, with the reason:
//!
//! | Reason | Cause |
//! | --- | --- |
//! | `epoch` | the server was restarted, and the history with it |
//! | `trimmed`, `too_much` | the page was away for longer than the [history](crate::hub::History) reaches back, or more than 300 messages |
//! | `slow` | the page, or its network, read too slowly. `lost` has the number |
//! | `no_history` | the room has no history: each reconnect may miss messages |
//! | `unknown`, `diverged`, `withheld` | the server cannot prove that nothing is missing |
//!
//! To resume after a reload, keep `lobby.at` in `sessionStorage` together with the messages, and pass it as `after`.
//!
//! # Messages without an answer
//!
//! A connection can break between a message and its answer. The module never sends such a message again, because it
//! could be there twice. In a room with history it looks for the message in what was missed, and fulfils the promise if
//! it is there. Otherwise the promise is rejected with the code `unknown`: show the message with a button that
//! sends it again. With any other code it was not sent.
//!
//! While there is no connection, up to 100 messages of each room wait for the next one.
//!
//! # Tokens
//!
//! Browsers send cookies with a handshake, but no other header. For a token, pass a function as the URL, or a
//! subprotocol. Each attempt calls the function again:
//!
//! ```js
//! connect(async () => `/ws?ticket=${await newTicket()}`, {
//!   onState: (state, { code }) => {
//!     if (code === 4401) showLogin();
//!   },
//! });
//! ```
//!
//! A page cannot see why a handshake was refused, only 1006. To be told, refuse with a Close
//! ([`Refusal::close`](crate::Refusal::close)). See [authentication](super::authentication).
//!
//! # Reading with a screen reader
//!
//! The messages are in an element with `role="log"` and a label. It is `aria-busy` while the newest 50 come, so that
//! they are not read aloud. The state of the connection has `role="status"`. The example's tests check the names of
//! all controls, the order of the focus, and all contrasts.
//!
//! # In Node
//!
//! Node has `WebSocket` from version 22 on. With older ones, pass that of npm's `ws`: `connect(url, { WebSocket })`.
//! The URL has to be absolute. The README of the module shows how to send header fields.
