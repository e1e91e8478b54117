//! Authentication: tokens in cookies, fields, subprotocols and queries.
//!
//! The decision is made before the 101, so a stranger gets no connection:
//!
//! ```
//! use http::{HeaderValue, header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE}, request::Parts};
//! use tower_websocket::{
//!     Accept, Error, Refusal, WebSocketLayer, decide, offered_subprotocols,
//! };
//!
//! struct User(u64);
//!
//! /// Asks a database, or checks a signature.
//! async fn user_of(token: &str) -> Option<User> {
//!     (token == "sesame").then_some(User(7))
//! }
//!
//! fn token(request: &Parts) -> Option<&str> {
//!     // A program sends a field: `Authorization: Bearer sesame`.
//!     if let Some(field) = request.headers.get(AUTHORIZATION) {
//!         return field.to_str().ok()?.strip_prefix("Bearer ");
//!     }
//!     // A browser sends the cookies of the host: `Cookie: lang=en; session=sesame`.
//!     let cookies = request.headers.get(COOKIE).and_then(|field| field.to_str().ok());
//!     let mut cookies = cookies.unwrap_or_default().split("; ");
//!     if let Some(session) = cookies.find_map(|cookie| cookie.strip_prefix("session=")) {
//!         return Some(session);
//!     }
//!     // A page of another host: `new WebSocket(url, ["chat.v1", "token.sesame"])`.
//!     offered_subprotocols(&request.headers).find_map(|name| name.strip_prefix("token."))
//! }
//!
//! let layer = WebSocketLayer::new(decide(
//!     async |request| {
//!         let user = match token(request) {
//!             Some(token) => user_of(token).await,
//!             None => None,
//!         };
//!         let bearer = HeaderValue::from_static("Bearer");
//!         let refusal = Refusal::unauthorized().header(WWW_AUTHENTICATE, bearer);
//!         let user = user.ok_or(refusal)?;
//!         // Answers with `chat.v1`, and never with the token.
//!         Ok((Accept::new().subprotocol("chat.v1"), user))
//!     },
//!     async |mut socket, User(number)| {
//!         socket.send(format!("Hello number {number}")).await?;
//!         Ok::<_, Error>(())
//!     },
//! ));
//! ```
//!
//! With [axum's extractors](super::handlers#with-axums-extractors) a user is an argument of the function, and the
//! extractor's rejection is the answer.
//!
//! # Where the token is
//!
//! A page cannot set header fields. So it has only the last four ways:
//!
//! | In | Good to know |
//! | --- | --- |
//! | `Authorization` | Only for programs. |
//! | a cookie | The browser also sends it from foreign pages. The [origin check](crate::OriginPolicy) refuses those, and is on by default. Set cookies with `HttpOnly`, `Secure` and `SameSite`. |
//! | a subprotocol | Only characters of a token (RFC 9110 §5.6.2), such as base64url. The page has to offer a real subprotocol as well, and the server has to choose it: a browser closes a connection whose answer names none. |
//! | the query | **It ends up in access logs**: nginx's `combined` format, haproxy's `httplog` and tower-http's `TraceLayer` log the query. Use a ticket that is valid once and for seconds, which a plain request with the cookie has fetched. The log of this crate has no query. |
//! | the first message | The connection is open before the check, and counts. Set [`first_message_timeout`](crate::Config::first_message_timeout), and close with a code of your own. |
//!
//! # How to refuse
//!
//! | Answer | Who can read it |
//! | --- | --- |
//! | [`Refusal`](crate::Refusal) with a status, a text, JSON, or any response | Programs. A page sees 1006 for every status. |
//! | [`Refusal::close`](crate::Refusal::close) with a code such as 4401 | Pages, too. The handshake succeeds first, so clients that reconnect have to check the code. |
//!
//! [`accept_timeout`](crate::WebSocketLayer::accept_timeout), 10 s by default, bounds the decision. Its future is
//! dropped when the client leaves.
//!
//! # A user's connections
//!
//! | Task | Use |
//! | --- | --- |
//! | end with the token's validity | [`Accept::configure`](crate::Accept::configure) and `max_lifetime`: 1001 when the time is over |
//! | limit their number | [`max_per_key`](crate::WebSocketLayer::max_per_key): 429 past it. Its function sees the request only, so `accept` also has to put the user into `request.extensions`. |
//! | log out everywhere | [`Accept::identify`](crate::Accept::identify) and [`Connections::close_where`](crate::Connections::close_where) |
//! | name the user in the log | [`make_span`](crate::WebSocketLayer::make_span), from the extensions as well |
//!
//! # With a layer
//!
//! An auth layer sees handshakes only if it is outside of the WebSocket:
//! [the order of layers](super::layers) has a table of both cases. `accept` sees the extensions that such a layer adds.
//! `examples/auth.rs` is a whole server.
