//! The opening handshake: decisions on a request's head, without I/O.
//!
//! [`request`] decides whether a request is a handshake and whether it is valid, by the rules of
//! [`origin`], [`subprotocol`] and [`extension`]. [`answer`] writes the head of a response.
//! [`HandshakeRequest`] is the compact copy of a request that a connection keeps.

pub(crate) mod answer;
pub(crate) mod extension;
pub(crate) mod key;
pub(crate) mod origin;
pub(crate) mod request;
pub(crate) mod subprotocol;

mod carried;
mod compact;
mod error;
mod identity;
mod refusal;

pub(crate) use self::{carried::Carried, identity::Identity, refusal::RefusalParts};
pub use self::{
    compact::HandshakeRequest,
    error::HandshakeError,
    origin::{InvalidOrigin, OriginPolicy, TrustedProxies},
    refusal::Refusal,
    subprotocol::offered_subprotocols,
};
