//! The codec: converts bytes to messages and control frames, and back.
//!
//! It checks the rules for incoming frames ([RFC 6455 §5](https://www.rfc-editor.org/rfc/rfc6455#section-5)),
//! and bounds the memory for them. `socket` reads the bytes, answers pings, runs the closing handshake, and
//! reports violations to the peer. Nothing here is async or does I/O. The caller passes the current time.
//!
//! # Memory
//!
//! A frame's head is checked before any of its payload is stored. A message that is complete in the input is
//! copied once, into a buffer of its exact length.
//!
//! A message that arrives in pieces is collected in a growing buffer, and from 64 KiB on in buffers of
//! 64 KiB. The memory follows the bytes that have arrived or were inflated, not the length in a head: after
//! `n` bytes of a message, at most `n + min(64 KiB, max(1 KiB, 16 n))` bytes are allocated. A direct read
//! into a large payload adds 192 KiB. The total never exceeds the message limit, rounded up to whole buffers
//! if it is above 64 KiB. Buffers for a read that returned no bytes are freed.
//!
//! On each thread, one message above 64 KiB at a time goes to its final buffer as it arrives (`placed`). Its length
//! has to be known when at most 64 KiB of it were collected, and `n` is at least a sixteenth of what is missing. Then
//! at most `17 n` bytes are allocated, also during a direct read.
//!
//! For a handler other buffers are joined once, into one buffer of the message's exact length. Each of them is
//! freed as soon as it is copied. The growing buffer of a small binary message is shrunk instead. A text is
//! always copied, because it is validated again.
//!
//! A freed buffer of 64 KiB is reused by any connection. Its old content is never readable. Each thread keeps
//! 32 of them (2 MiB). Further buffers are cut from slabs of 32 MiB, which all threads share. A slab is
//! returned to the system when none of its buffers is in use. One slab is kept if at most 1 MiB of it was
//! ever used (`buffers`). So large messages leave behind at most 2 MiB a thread and 1 MiB in all. A
//! connection holds no buffer between messages.
//!
//! Outgoing frames are collected in buffers that the connections of a thread share as well. Up to 64 idle
//! ones, 1 MiB together, are kept.

mod assembly;
mod begun;
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
mod load;
mod mask;
mod outgoing;
mod placed;
pub(crate) mod random;
mod rules;
mod segments;
#[cfg(feature = "hub")]
mod shared;
#[cfg(feature = "hub")]
mod shared_frames;
#[cfg(test)]
mod tests;
mod utf8;

#[cfg(feature = "hub")]
pub(crate) use assembly::SMALL;
pub(crate) use assembly::{Assembly, ReadInto};
pub(crate) use begun::Begun;
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) use buffers::CHUNK;
pub(crate) use control::Control;
pub(crate) use decoder::{Decoder, Event, Rules};
#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::Deflate;
#[cfg(feature = "deflate")]
pub use deflate::Deflate;
#[cfg(feature = "hub")]
pub(crate) use deflate::Sharing;
#[cfg(all(test, feature = "deflate"))]
pub(crate) use deflate::counted;
pub(crate) use deflate::{Compression, Deflation};
pub(crate) use load::{Bound, Load};
use mask::Mask;
pub(crate) use outgoing::Outgoing;
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) use placed::hold_turn;
pub(crate) use rules::{Limits, Role, Violation};
#[cfg(feature = "hub")]
pub(crate) use shared::{Compressing, SharedMessage};
#[cfg(feature = "hub")]
pub(crate) use shared_frames::SharedFrames;
