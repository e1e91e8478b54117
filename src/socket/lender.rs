//! Streams that lend their writing half: TCP streams, or the peers of the models.

use std::io::{self, IoSlice};

#[cfg(not(all(test, tower_websocket_loom)))]
pub(super) use tokio::net::tcp::OwnedWriteHalf as Writer;

#[cfg(not(all(test, tower_websocket_loom)))]
pub(super) use super::Transport as Lender;
#[cfg(all(test, tower_websocket_loom))]
pub(super) use super::loom::peer::{Peer as Lender, Writer};

/// Writes, whether the stream is reported as writable or not. Returns 0 if it has no room.
#[cfg(not(all(test, tower_websocket_loom)))]
pub(super) fn write(writer: &Writer, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    super::tcp_write::write(writer.as_ref(), slices)
}

#[cfg(all(test, tower_websocket_loom))]
pub(super) fn write(writer: &Writer, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    writer.write(slices)
}
