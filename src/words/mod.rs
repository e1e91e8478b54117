//! The words of the protocol: messages, the ends of a connection, header fields, errors of any kind.
//!
//! Everything else uses them, and they use nothing of the crate.

mod any_error;
mod close;
mod connection_id;
pub(crate) mod header;
mod message;
mod text;

pub use self::{
    any_error::{BoxError, Error},
    close::{CloseCode, CloseFrame, Closed, InvalidClose, Side},
    connection_id::ConnectionId,
    message::{Message, NotText},
    text::Utf8Bytes,
};
