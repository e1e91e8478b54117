//! Rooms for pages and apps in JSON: the handler `JsonRooms`, and its protocol `rooms.v1.json` in full (features `hub`
//! and `json`).
//!
//! # The server
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "json"))] {
//! # fn app() -> Result<(), tower_websocket::hub::PublishError> {
//! use tower_websocket::{
//!     Accept, Refusal, WebSocketLayer,
//!     hub::{Admission, Denied, History, HubConfig, JsonRooms, RoomConfig},
//! };
//!
//! let config = HubConfig::new().rooms(|_| RoomConfig::new().history(History::new()));
//! let rooms = JsonRooms::decide(
//!     config,
//!     // Called once for each connection, before the 101. Here a proxy has checked the user and sets the field.
//!     async |request| {
//!         let user = request.headers.get("x-user").and_then(|user| user.to_str().ok());
//!         Ok((Accept::new(), user.ok_or_else(Refusal::unauthorized)?.to_owned()))
//!     },
//!     // Called for each join.
//!     async |user, room| match &*room {
//!         "staff" if user != "ann" => Err(Denied::forbidden()),
//!         "news" => Ok(Admission::new(user.clone()).key(user).read_only()),
//!         _ => Ok(Admission::new(user.clone()).key(user)),
//!     },
//! );
//! let hub = rooms.hub().clone();
//! let layer = WebSocketLayer::new(rooms).path("/rooms");
//!
//! hub.room("news").send(r#"{"text":"The doors are open."}"#)?;
//! # Ok(())
//! # }
//! # app().unwrap();
//! # }
//! ```
//!
//! The layer goes into a router like that of any handler: `Router::layer(layer)`, or `route_service` without `path`
//! ([start](super::start)). A room that nobody has joined needs no setup, and the server may send to it.
//!
//! Pages cannot set header fields: for them, take the user from a cookie or a ticket
//! ([authentication](super::authentication)). [`JsonRooms`](crate::hub::JsonRooms) shows how the identity comes from a
//! layer, from axum's extractors, or from nobody. [Rooms](super::rooms) has the settings for slow members, history and
//! lists of members.
//!
//! # Connecting
//!
//! The client offers the subprotocol `rooms.v1.json`. The server also accepts a client without it. Each message in both
//! directions is text with one JSON object. Both sides ignore fields that they do not know.
//!
//! A request has an `id` of the client's choice, a whole number from 0 to 2⁵³−1, and the answer has the same `id`.
//! Answers come in the order of the requests, but other objects come between them: messages and members of rooms. A
//! request without `id` has no answer if it succeeds, except that a join is always welcomed; if it fails, the answer
//! has no `id`. Any other `id` fails with `bad_request`, and this answer has no `id` either.
//!
//! Ids of members and positions are opaque strings. A position has at most 48 bytes.
//!
//! # Requests
//!
//! | Object | Asks |
//! | --- | --- |
//! | `{"join":"lobby","id":1}` | to be a member of a room |
//! | … `"after":"3e1v-c-9qk0"` | and for the messages after this position |
//! | … `"last":50` | and for the newest 50 messages, unless it gets all after its position. More than 300 count as 300. Default: none |
//! | … `"silent":true` | and not to be seen by others. The server may show it nevertheless |
//! | `{"leave":"lobby","id":2}` | to be a member no more |
//! | `{"send":"lobby","data":…,"id":3}` | to send any JSON to all members, also to itself |
//! | … `"others":true` | not to itself |
//! | … `"fleeting":true` | not to be kept for those who come later: typing, pointers. It has no position |
//! | … `"latest":"ACME"` | for slow members, a newer message with this key (at most 200 bytes) may take its place, if the room has [`Overflow::Latest`](crate::hub::Overflow::Latest) |
//! | `{"ping":true,"id":4}` | for an answer. For pages, which do not see the pings of WebSocket |
//!
//! An object has exactly one of `join`, `leave`, `send` and `ping`. Another field with `null` is the same as no field,
//! except `data`. The name of a room is any text of 1 to 200 bytes in UTF-8. `data` may have 124 levels of
//! nesting. Members get it as it was written, byte by byte.
//!
//! The server decides on the key of a member, on the value that others see, and on whether the member may send.
//!
//! # Objects from the server
//!
//! | Object | When |
//! | --- | --- |
//! | `{"room":"lobby","id":1,"welcome":{…}}` | the answer to a join, before all else of the room |
//! | `{"room":"lobby","by":"100000","key":"ann","data":…,"at":"3e1v-d-0x7m"}` | a message. `by` is the member that has sent it, `key` the key of that member's user. Without `by`: the server. `at` is its position, if the room has history and it is not fleeting |
//! | `{"room":"lobby","gap":{"lost":12,"reason":"slow"}}` | 12 messages were lost, in this place |
//! | `{"room":"lobby","members":[{"id":"100000","key":"ann","value":…}]}` | all members: soon after the welcome, and again when the client was too slow for changes |
//! | `{"room":"lobby","joined":[…],"updated":[…],"left":[{"id":"100000","key":"ann"}]}` | changes of the members, at least one of the three |
//! | `{"room":"lobby","count":1234}` | the number of members, in the place of both, in a room with more than 1,000 |
//! | `{"room":"lobby","id":3,"sent":{"at":"3e1v-d-0x7m","members":12}}` | the answer to `send`: the position of the message, and to how many members it goes |
//! | `{"room":"lobby","id":2,"left_room":"left"}` | the answer to `leave`: nothing more of the room follows |
//! | `{"room":"lobby","left_room":"removed"}` | the server has ended the membership. Do not join again on your own |
//! | `{"id":4,"pong":true}` | the answer to `ping` |
//! | `{"room":"lobby","id":3,"error":"not_joined"}` | a request has failed. Nothing has changed, and the connection stays |
//!
//! An answer may overtake messages of rooms that wait for a slow client. So the answer to `send` may come before or
//! after the message itself.
//!
//! # The welcome
//!
//! | Field | Holds |
//! | --- | --- |
//! | `me` | the id of this member: a new one for each join. A restarted server begins again, so another client may then have an old id |
//! | `at` | the position of the newest message of the room. Missing if the room has no history |
//! | `recovery` | `"fresh"`: the client did not say `after`. `"recovered"`: it gets exactly the messages after its position. `"gap"`: it may have missed messages that it does not get |
//! | `reason` | with `"gap"`, see below |
//! | `messages` | this many messages of the past follow, before new ones: all after the position if `"recovered"`, else the newest ones by `last`. Missing if 0 |
//! | `withheld` | with `"recovered"`: the number of messages that the server sent to all but one member, perhaps this one, and that are not among them. Missing if 0 |
//!
//! | `reason` | The history |
//! | --- | --- |
//! | `epoch` | is a new one: the server was restarted, or the room was empty for long |
//! | `trimmed` | does not reach back to the position |
//! | `unknown` | never had this position, or the room has none |
//! | `diverged` | has another message at the position |
//! | `too_much` | has more than 300 messages or 1 MiB after the position |
//!
//! After a gap, a client loads its data again from the source, or shows that messages are missing.
//!
//! Messages of the past look like others. The client's own ones are among them, also those with `others`: a client
//! that remembers the positions in its `sent` answers, or its former `me`, recognizes them. It forgets a former `me`
//! when the welcome has `"reason":"epoch"`, and in a room without history at each join.
//!
//! # Positions
//!
//! A client that wants to resume keeps one position for each room:
//!
//! 1. With a welcome: if `messages` is missing, its `at`. Otherwise it keeps the old one, and the messages that follow
//!    bring theirs.
//! 2. With each message: its `at`, if it has one.
//! 3. When it joins again: `"after"` with the position that it has kept.
//!
//! It can drop a message whose `at` it has already seen. Within one connection this does not happen.
//!
//! # Who is there
//!
//! A client keeps a map of the members: by `key`, or by `id` for a member without one. `members` replaces the map.
//! `joined` and `updated` both set an entry, whether or not it is there, and `left` removes it. After `count` the
//! members are not known, until the next `members`.
//!
//! All connections of a user with the same `key` are one member, with the id of the oldest one. So the own id need not
//! be in the map. When the oldest connection leaves, `updated` has the key with another id.
//!
//! # Errors
//!
//! | `error` | Means |
//! | --- | --- |
//! | `bad_request` | the object is none of the requests, a field has a wrong type or is there twice, `latest` is longer than 200 bytes, or `data` is nested too deep |
//! | `name` | the name of the room has not 1 to 200 bytes. The answer has no `room` |
//! | `forbidden` | the client may not join the room |
//! | `unavailable` | the server could not decide. Try again later |
//! | `room_full` | the room has its largest number of members |
//! | `too_many_rooms` | the server has its largest number of rooms |
//! | `too_many_memberships` | the connection is in 128 rooms, or what the server has set |
//! | `joined_already` | the connection is in the room |
//! | `not_joined` | the connection is not in the room |
//! | `read_only` | the member may not send |
//! | `too_large` | `data` is longer than 256 KiB, or what the room has set |
//!
//! An answer to an object that names no room has no `room`.
//!
//! # The end of a connection
//!
//! | Close | Cause | Then |
//! | --- | --- | --- |
//! | 1003 | a binary message | correct the client |
//! | 1007 | text that is not JSON | correct the client |
//! | 1008 | JSON that is not an object, or a limit on rates | correct the client |
//! | 1009 | a message longer than 1 MiB, or what the server has set | correct the client |
//! | 1001, 1012 | the server shuts down | connect again |
//! | 1013 | the client was too slow for a room with [`Overflow::Disconnect`](crate::hub::Overflow::Disconnect) | connect again |
//! | 1011, none | a failure | connect again |
//!
//! A client connects again after a random time between 0 and a limit that doubles with each failure, so that a
//! restarted server is not met by all at once. Then it joins its rooms with `after`.
//!
//! # A conversation
//!
//! `>` is what Ann's client sends, `<` what it gets. This text is a test of the crate.
//!
//! ```
//! # #[cfg(all(feature = "hub", feature = "json", feature = "test-util"))] {
//! # use tower_websocket::{BoxError, WebSocketLayer, hub::*, testing};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let config = HubConfig::new().rooms(|_| RoomConfig::new().history(History::new()));
//! # let rooms = JsonRooms::new(config, async |(), room| match &*room {
//! #     "staff" => Err(Denied::forbidden()),
//! #     _ => Ok(Admission::new("Ann").key("ann")),
//! # });
//! # let service = WebSocketLayer::new(rooms.clone()).into_service();
//! # let mut client = testing::connect(service, testing::Request::new("/").subprotocol("rooms.v1.json")).await?;
//! # let mut replaced = Vec::new();
//! # for line in r#"
//! > {"join":"lobby","last":50,"id":1}
//! < {"room":"lobby","id":1,"welcome":{"me":"100000","at":"AT","recovery":"fresh"}}
//! < {"room":"lobby","members":[{"id":"100000","key":"ann","value":"Ann"}]}
//! > {"send":"lobby","data":{"text":"hello"},"others":true,"id":2}
//! < {"room":"lobby","id":2,"sent":{"at":"AT","members":0}}
//! > {"send":"lobby","data":{"typing":true},"others":true,"fleeting":true}
//! > {"join":"staff","id":3}
//! < {"room":"staff","id":3,"error":"forbidden"}
//! > {"ping":true,"id":4}
//! < {"id":4,"pong":true}
//! > {"leave":"lobby","id":5}
//! < {"room":"lobby","id":5,"left_room":"left"}
//! > {"join":"lobby","after":"AT-OF-WELCOME","id":6}
//! < {"room":"lobby","id":6,"welcome":{"me":"200000","at":"AT","recovery":"recovered","messages":1}}
//! < {"room":"lobby","by":"100000","key":"ann","data":{"text":"hello"},"at":"AT"}
//! > {"join":"hall","after":"AT-OF-WELCOME","id":7}
//! < {"room":"hall","id":7,"welcome":{"me":"300000","at":"AT","recovery":"gap","reason":"epoch"}}
//! # "#.trim().lines() {
//! #     let (direction, line) = line.split_at(2);
//! #     if direction == "> " {
//! #         let line = line.replace("AT-OF-WELCOME", replaced.first().map_or("", String::as_str));
//! #         client.send(line).await?;
//! #         continue;
//! #     }
//! #     let mut heard = loop {
//! #         let heard = client.recv().await?.ok_or("the end")?.into_text()?.to_string();
//! #         // News of members come when they come.
//! #         let is_news = ["members\":[", "joined", "\"left\":["].iter().any(|word| heard.contains(word));
//! #         if !is_news || line.contains("\"members\":[") {
//! #             break heard;
//! #         }
//! #     };
//! #     if let Some((_, rest)) = heard.split_once("\"at\":\"") {
//! #         let at = rest.split('"').next().unwrap_or_default().to_owned();
//! #         heard = heard.replace(&at, "AT");
//! #         replaced.push(at);
//! #     }
//! #     assert_eq!(heard, line);
//! # }
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
