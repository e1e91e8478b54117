//! The opening handshake, decided on headers alone.
//!
//! [`request`] tells whether a request is ours and whether it is valid, [`Accept`] and [`Refusal`]
//! are what a handler may answer, and [`answer`] writes the response's head. Nothing here waits or
//! touches a connection.

pub(crate) mod answer;
pub(crate) mod kept;
pub(crate) mod key;
pub(crate) mod request;

mod accept;
mod refusal;

pub(crate) use self::refusal::RefusalParts;
pub use self::{accept::Accept, refusal::Refusal};
