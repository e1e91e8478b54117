//! The protocol on the wire, without the wire: bytes in, messages and control frames out.
//!
//! Decides what the peer may send ([RFC 6455 §5](https://www.rfc-editor.org/rfc/rfc6455#section-5))
//! and how much of it is held. Reading the bytes, answering pings, the closing handshake and
//! telling the peer of its violations are left to `socket`. Nothing here is async or does I/O, and
//! time is an argument.
//!
//! # Memory
//!
//! A frame's head is checked, and refused, before any of its payload is kept. A message that is
//! whole in the input is copied once, into a buffer of its exact length. One that arrives in
//! pieces is put together in a buffer that follows what has arrived, not what a head promises: its
//! capacity is at most the bytes received plus the larger of these bytes and 64 KiB (plus 1 KiB
//! for the first of them), and never over the message limit. A delivered message owns exactly its
//! length; between messages nothing is held.

mod assembly;
mod chunks;
mod control;
mod decoder;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "without_deflate.rs"]
mod deflate;
mod head;
mod mask;
mod outgoing;
mod repeat;
#[cfg(test)]
mod tests;
mod utf8;

pub(crate) use assembly::{Assembly, Whole};
#[cfg(any(test, fuzzing))]
pub(crate) use chunks::CHUNK;
pub(crate) use control::Control;
pub(crate) use decoder::{Decoder, Event, Limits, Next, Role, Rules, Violation};
#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::Deflate;
#[cfg(feature = "deflate")]
pub use deflate::Deflate;
pub(crate) use deflate::{Compression, Deflation, Turn};
use mask::Mask;
pub(crate) use outgoing::{Load, Outgoing};
