//! The basic types: messages, Close frames, header fields, and errors of any kind.
//!
//! Every other module may use them. They use no other module of the crate.

mod any_error;
mod close;
mod connection_id;
pub(crate) mod header;
#[cfg(feature = "json")]
mod json;
mod message;
mod panicked;
mod text;

#[cfg(feature = "json")]
pub use self::json::{JsonError, JsonFault, ToJsonError};
pub(crate) use self::panicked::{Panicked, catch_panic};
pub use self::{
    any_error::{BoxError, Error},
    close::{CloseCode, CloseFrame, Closed, InvalidClose, Side},
    connection_id::ConnectionId,
    message::{IntoMessage, Message, NotText},
    text::Utf8Bytes,
};
