//! Streams that connections lend to rooms: TCP streams, or the peers of the models.

use std::io::{self, IoSlice};

#[cfg(not(all(test, tower_websocket_loom)))]
pub(super) type Stream = Box<tokio::net::TcpStream>;

#[cfg(not(all(test, tower_websocket_loom)))]
pub(super) use super::Transport as Lender;
#[cfg(all(test, tower_websocket_loom))]
pub(super) use super::loom::peer::{LentPeer as Stream, Peer as Lender};

/// Writes, whether the stream is reported as writable or not. Returns 0 if it has no room.
#[cfg(not(all(test, tower_websocket_loom)))]
#[inline]
pub(super) fn write(stream: &Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    super::tcp_write::write(stream, slices)
}

#[cfg(all(test, tower_websocket_loom))]
pub(super) fn write(stream: &Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    stream.write(slices)
}
