//! Documentation pages, without code.
//!
//! - [`layers`]: the effects of other layers on a [`WebSocketLayer`](crate::WebSocketLayer), and where to add
//!   auth.
//! - [`rooms`]: sending to many connections, slow members, and who is there.
//! - [`when_it_does_not_connect`]: the causes of each answer to a handshake, and their solutions.

pub mod layers;
pub mod rooms;
pub mod when_it_does_not_connect;
