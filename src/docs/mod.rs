//! Pages about what several items have in common. There is no code here.
//!
//! - [`layers`]: what other layers do around a [`WebSocketLayer`](crate::WebSocketLayer), and where auth
//!   belongs.
//! - [`when_it_does_not_connect`]: what each answer to a handshake means, and what to do.

pub mod layers;
pub mod when_it_does_not_connect;
