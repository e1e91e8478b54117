//! Streams of HTTP/2: how they are written to, how they end, and how they are reset.
//!
//! A stream is no socket. [`Stream`] makes up for the difference, and [`Http2Executor`] gives it a way to
//! be reset.

#[cfg(feature = "http2")]
mod executor;
#[cfg(not(feature = "http2"))]
#[path = "without_executor.rs"]
mod executor;
mod stream;

#[cfg(feature = "http2")]
pub use self::executor::Http2Executor;
pub(crate) use self::{executor::ResetGuard, stream::Stream};
