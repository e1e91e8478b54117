//! Writing to a TCP socket without tokio's readiness.

use std::io::{self, IoSlice};

#[cfg(any(target_os = "android", target_os = "linux"))]
use socket2::SockRef;
use tokio::net::TcpStream;

/// Writes to a TCP socket, whether it is reported as writable or not. Returns 0 if it has no room.
#[cfg(any(target_os = "android", target_os = "linux"))]
#[inline]
pub(super) fn write(tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // A broken connection raises no signal. The value is the same on every architecture.
    const MSG_NOSIGNAL: i32 = 0x4000;
    let socket = SockRef::from(tcp);
    let written = match slices {
        [slice] => socket.send_with_flags(slice, MSG_NOSIGNAL),
        slices => socket.send_vectored_with_flags(slices, MSG_NOSIGNAL),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        written => written,
    }
}

/// Writes to a TCP socket. Returns 0 if it has no room.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub(super) fn write(tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match tcp.try_write_vectored(slices) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
