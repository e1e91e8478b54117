//! Clients that each have their own TCP connection.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{self, SocketAddr},
    time::Instant,
};

use mio::{Poll, net::TcpStream};

use super::{Client, Common, Pattern, client, watch};
use crate::BoxError;

/// A TCP connection and the state of its client.
pub(super) struct Connection {
    stream: TcpStream,
    /// The number of bytes to send.
    unsent: usize,
    /// The offset of the next byte in its frame.
    at: usize,
    /// The number of received bytes of an incomplete answer.
    partial: usize,
    /// The number of answers for which no new message was sent yet.
    due: usize,
    /// The time at which the outstanding messages were sent.
    sent: Instant,
}

/// Opens this many connections. `begin` makes the handshake of each.
pub(super) fn open(
    server: SocketAddr,
    clients: usize,
    poll: &Poll,
    mut begin: impl FnMut(&mut net::TcpStream) -> Result<(), BoxError>,
) -> Result<Vec<Connection>, BoxError> {
    let mut connections = Vec::with_capacity(clients);
    for number in 0..clients {
        let mut stream = client::connect(server, number)?;
        begin(&mut stream)?;
        connections.push(Connection {
            stream: watch(stream, number, poll)?,
            unsent: 0,
            at: 0,
            partial: 0,
            due: 0,
            sent: Instant::now(),
        });
    }
    Ok(connections)
}

impl Client for Connection {
    fn begin(&mut self, now: Instant, common: &Common) -> Result<(), BoxError> {
        self.unsent = common.depth * common.pattern.frame;
        self.sent = now;
        Ok(self.write(&common.pattern)?)
    }

    fn turn(&mut self, readable: bool, common: &mut Common) -> Result<u64, BoxError> {
        let mut came = 0;
        if readable {
            came = self.read(&common.pattern, &mut common.scratch)?;
            if came > 0 {
                self.due += came;
                if self.due >= common.refill {
                    let now = Instant::now();
                    common.histogram.add(now - self.sent, self.due);
                    self.sent = now;
                    self.unsent += self.due * common.pattern.frame;
                    self.due = 0;
                }
            }
        }
        self.write(&common.pattern)?;
        Ok(came as u64)
    }
}

impl Connection {
    /// Reads all available bytes and returns the number of answers they complete.
    fn read(&mut self, pattern: &Pattern, scratch: &mut [u8]) -> Result<usize, BoxError> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err("the server has closed a connection".into()),
                Ok(read) => {
                    self.partial += read;
                    // A short read has emptied the socket. New bytes cause a new event.
                    if read < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let complete = self.partial / pattern.answer.len();
        self.partial %= pattern.answer.len();
        Ok(complete)
    }

    fn write(&mut self, pattern: &Pattern) -> io::Result<()> {
        while self.unsent > 0 {
            let end = pattern.bytes.len().min(self.at + self.unsent);
            match self.stream.write(&pattern.bytes[self.at..end]) {
                Ok(written) => {
                    self.unsent -= written;
                    self.at = (self.at + written) % pattern.frame;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
