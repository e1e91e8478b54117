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
//! whole in the input is copied once, into a buffer of its exact length.
//!
//! One that arrives in pieces is gathered in a buffer that grows, and from 64 KiB on in buffers of
//! 64 KiB. They follow what has arrived, or was inflated, not what a head promises: after `n` bytes
//! of a message there is memory for at most `n + min(64 KiB, max(1 KiB, 16 n))`, for 192 KiB more
//! while a large payload is read to its place, and never for more than the message limit, which
//! counts in whole buffers if it is above 64 KiB. Room that was made for a read which brought nothing
//! is given up.
//!
//! For a handler the buffers are joined, once, into one of the message's exact length, and each is
//! given up as soon as it is copied. The growing buffer of a small message is cut to that length
//! instead, unless it is text, which is checked again as it is copied.
//!
//! A buffer of 64 KiB that is given up waits for its next use, by any connection: all that is readable
//! of it is what is written to it next. Each thread keeps 32 of them (2 MiB). When more are in use,
//! they are cut from slabs of 32 MiB, which all threads share, and a slab goes back to the system when
//! nothing of it is in use; one of which at most 1 MiB was ever used is kept (`buffers`). So the memory
//! of any number of large messages is gone with them, except for 2 MiB a thread and 1 MiB. A
//! connection holds nothing between messages.
//!
//! Frames that leave are gathered in buffers that the connections of a thread share, too: up to 64
//! of them, 1 MiB together, wait for their next use.

mod assembly;
mod buffers;
mod chunks;
mod control;
mod decoder;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "without_deflate.rs"]
mod deflate;
mod frame_pool;
mod frames;
mod head;
mod mask;
mod outgoing;
pub(crate) mod random;
mod rules;
mod segments;
#[cfg(test)]
mod tests;
mod utf8;

pub(crate) use assembly::Assembly;
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) use buffers::CHUNK;
pub(crate) use chunks::Rooms;
pub(crate) use control::Control;
pub(crate) use decoder::{Decoder, Event};
#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::Deflate;
#[cfg(feature = "deflate")]
pub use deflate::Deflate;
#[cfg(all(test, feature = "deflate"))]
pub(crate) use deflate::counted;
pub(crate) use deflate::{Compression, Deflation};
use mask::Mask;
pub(crate) use outgoing::{Load, Outgoing};
pub(crate) use rules::{Limits, Role, Rules, Violation};
