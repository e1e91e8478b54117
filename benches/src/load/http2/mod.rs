//! WebSockets as streams of HTTP/2 connections (RFC 8441), in clear text.
//!
//! An HTTP/2 library would make the client as slow as the server. This client only parses the heads of
//! frames and counts the other bytes.

mod frames;
mod session;

use std::{
    io::{ErrorKind, Read, Write},
    net::{self, SocketAddr},
    time::Instant,
};

use mio::{Poll, net::TcpStream};

use self::session::Session;
use super::{Client, Common, client, watch};
use crate::BoxError;

/// A TCP connection and its streams.
pub(super) struct Connection {
    stream: TcpStream,
    session: Session,
}

/// Opens the connections, and distributes the WebSockets evenly over them.
pub(super) fn open(
    server: SocketAddr,
    sockets: usize,
    connections: usize,
    poll: &Poll,
) -> Result<Vec<Connection>, BoxError> {
    let mut opened = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut stream = client::connect(server, number)?;
        let streams = sockets / connections + usize::from(number < sockets % connections);
        let session = shake_hands(&mut stream, streams)?;
        let stream = watch(stream, number, poll)?;
        opened.push(Connection { stream, session });
    }
    Ok(opened)
}

/// Opens all streams of one connection, and waits until the server has accepted them.
fn shake_hands(stream: &mut net::TcpStream, streams: usize) -> Result<Session, BoxError> {
    let mut session = Session::new(streams);
    let mut buffer = [0; 4096];
    loop {
        stream.write_all(session.unwritten())?;
        session.written(session.unwritten().len());
        if session.is_open() {
            return Ok(session);
        }
        match stream.read(&mut buffer)? {
            0 => return Err("the server has closed a connection".into()),
            read => session.shake_hands(&buffer[..read])?,
        }
    }
}

impl Client for Connection {
    fn begin(&mut self, now: Instant, common: &Common) -> Result<(), BoxError> {
        self.session.begin(now, common);
        self.write(common)
    }

    fn turn(&mut self, readable: bool, common: &mut Common) -> Result<u64, BoxError> {
        let mut answers = 0;
        if readable {
            answers = self.read(common)?;
            self.session.renew(Instant::now(), common);
        }
        self.write(common)?;
        Ok(answers)
    }
}

impl Connection {
    /// Reads all available bytes and returns the number of answers they complete.
    fn read(&mut self, common: &mut Common) -> Result<u64, BoxError> {
        let mut answers = 0;
        loop {
            match self.stream.read(&mut common.scratch) {
                Ok(0) => return Err("the server has closed a connection".into()),
                Ok(read) => {
                    answers += self.session.receive(read, common)?;
                    // A short read has emptied the socket. New bytes cause a new event.
                    if read < common.scratch.len() {
                        return Ok(answers);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&mut self, common: &Common) -> Result<(), BoxError> {
        loop {
            self.session.fill(&common.pattern);
            let bytes = self.session.unwritten();
            if bytes.is_empty() {
                return Ok(());
            }
            match self.stream.write(bytes) {
                Ok(written) => self.session.written(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
