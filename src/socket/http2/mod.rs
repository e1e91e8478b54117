//! Streams of HTTP/2: writing, ending and resetting them.
//!
//! A stream of HTTP/2 differs from a socket. [`Stream`] makes up for most of the difference, and
//! [`Http2Executor`] makes it possible to reset one.

#[cfg(feature = "http2")]
mod executor;
#[cfg(not(feature = "http2"))]
#[path = "without_executor.rs"]
mod executor;
mod stream;

#[cfg(feature = "http2")]
pub use self::executor::Http2Executor;
pub(crate) use self::{executor::ResetGuard, stream::Stream};
