//! The opening handshake, decided on headers alone.
//!
//! [`request`] tells whether a request is ours and whether it is valid, [`Accept`] and [`Refusal`]
//! are what a handler may answer, [`answer`] writes the response's head, and [`HandshakeRequest`] is
//! the form in which a request is kept. Nothing here waits or touches a connection.

pub(crate) mod answer;
pub(crate) mod key;
pub(crate) mod request;

mod accept;
mod carried;
mod compact;
mod error;
mod refusal;

pub use self::{
    accept::Accept, compact::HandshakeRequest, error::HandshakeError, refusal::Refusal,
};
pub(crate) use self::{accept::Configure, carried::Carried, refusal::RefusalParts};
