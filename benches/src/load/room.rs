//! The load on a room: one member sends, and every member has to receive.
//!
//! All members are clients of one thread with one `epoll`. The next message is sent when every member has received
//! one, so the slowest member sets the pace, and each server has as many messages in flight as the others.

use std::{
    collections::VecDeque,
    fmt,
    io::{ErrorKind, Read, Write},
    mem, net, thread,
    time::{Duration, Instant},
};

use mio::{Events, Poll, net::TcpStream};

use super::{
    MAX_WAIT, Outcome, client,
    frames::{self, Size},
    latency::Histogram,
    wait, watch,
};
use crate::{BoxError, process::Process};

/// The members of a room, and the messages for them.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The members that read.
    pub members: usize,
    /// Further members, which never read.
    pub stopped: usize,
    /// The size of a message.
    pub size: Size,
    /// The number of messages in flight.
    pub depth: usize,
}

/// The protocol of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// A message is a WebSocket message, and every connection is a member.
    WebSocket,
    /// A message is an event of Socket.IO with one argument, a text.
    SocketIo,
}

/// The opening handshake of Socket.IO, by Engine.IO's WebSocket transport.
const SOCKET_IO: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    Connection: Upgrade\r\n\
    Upgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The start of a Socket.IO event with one text.
const EVENT: &str = "42[\"m\",\"";

impl Protocol {
    /// Returns the frame that a member sends, and the frame that every member gets.
    fn frames(self, size: Size) -> (Vec<u8>, Vec<u8>) {
        let mut payload = frames::payload(size.0);
        let text = self == Self::SocketIo;
        if text {
            payload = [EVENT.as_bytes(), &payload, b"\"]"].concat();
        }
        (
            frames::masked(text, &payload),
            frames::unmasked(text, &payload),
        )
    }

    /// Opens a connection.
    fn begin(self, stream: &mut net::TcpStream) -> Result<(), BoxError> {
        match self {
            Self::WebSocket => client::shake_hands(stream),
            Self::SocketIo => {
                // Engine.IO opens and sends a ping, then the client connects to the default namespace.
                stream.write_all(SOCKET_IO)?;
                let opened = read_to(stream, b'}')?;
                stream.write_all(&frames::masked(true, b"40"))?;
                let connected = read_to(stream, b'}')?;
                let connects = connected.windows(3).any(|part| part == b"40{");
                match opened.starts_with(b"HTTP/1.1 101 ") && connects {
                    true => Ok(()),
                    false => Err("not an answer of Socket.IO".into()),
                }
            }
        }
    }
}

/// Reads up to a byte, and nothing behind it.
fn read_to(stream: &mut net::TcpStream, end: u8) -> Result<Vec<u8>, BoxError> {
    let mut read = Vec::new();
    while read.last() != Some(&end) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        read.extend(byte);
    }
    Ok(read)
}

/// Reads a frame. A ping of Engine.IO may precede it: the first one is sent soon after the opening handshake.
fn read_frame(stream: &mut net::TcpStream, frame: &mut [u8]) -> Result<(), BoxError> {
    const PING: &[u8] = &[0x81, 1, b'2'];
    let (head, rest) = frame.split_at_mut(PING.len());
    stream.read_exact(head)?;
    if head == PING {
        stream.read_exact(head)?;
    }
    Ok(stream.read_exact(rest)?)
}

struct Member {
    stream: TcpStream,
    received: usize,
}

/// A message that some members have not received.
struct InFlight {
    sent: Instant,
    missing: usize,
}

/// A room whose members are connected.
pub struct Session<'a> {
    server: &'a Process,
    room: Room,
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    /// They are only kept open.
    _stopped: Vec<net::TcpStream>,
    request: Vec<u8>,
    reply: Vec<u8>,
    /// The messages that were received by all.
    complete: usize,
    in_flight: VecDeque<InFlight>,
    histogram: Histogram,
    scratch: Vec<u8>,
}

impl<'a> Session<'a> {
    /// Connects all members, and sends one message.
    ///
    /// # Errors
    ///
    /// If a connection fails, or a member gets a wrong message.
    pub fn open(server: &'a Process, protocol: Protocol, room: Room) -> Result<Self, BoxError> {
        let (request, reply) = protocol.frames(room.size);
        let address = server.address();
        let mut streams = Vec::with_capacity(room.members);
        for number in 0..room.members {
            let mut stream = client::connect(address, number)?;
            protocol.begin(&mut stream)?;
            streams.push(stream);
        }
        let mut stopped = Vec::with_capacity(room.stopped);
        for number in room.members..room.members + room.stopped {
            let mut stream = client::connect_to_stop(address, number)?;
            protocol.begin(&mut stream)?;
            stopped.push(stream);
        }
        // Then all handlers have joined.
        server.wait_until_idle()?;
        let poll = Poll::new()?;
        if let Some(first) = streams.first_mut() {
            first.write_all(&request)?;
        }
        let mut members = Vec::with_capacity(room.members);
        let mut received = vec![0; reply.len()];
        for (number, mut stream) in streams.into_iter().enumerate() {
            read_frame(&mut stream, &mut received)?;
            if received != reply {
                return Err(format!("member {number} gets a wrong message").into());
            }
            members.push(Member {
                stream: watch(stream, number, &poll)?,
                received: 0,
            });
        }
        Ok(Self {
            server,
            room,
            poll,
            events: Events::with_capacity(1024),
            members,
            _stopped: stopped,
            request,
            reply,
            complete: 0,
            in_flight: VecDeque::new(),
            histogram: Histogram::new(),
            scratch: vec![0; 256 * 1024],
        })
    }

    /// Measures for `time` after `warm_up`. Afterwards nothing is in flight.
    ///
    /// # Errors
    ///
    /// If a connection fails, or a member misses a message.
    pub fn measure(&mut self, warm_up: Duration, time: Duration) -> Result<Outcome, BoxError> {
        self.run(warm_up)?;
        self.server.wait_until_idle()?;
        self.histogram = Histogram::new();
        let cpu = self.server.cpu_time()?;
        let took = self.run(time)?;
        self.server.wait_until_idle()?;
        let cpu = self.server.cpu_time()?.saturating_sub(cpu);
        Outcome::new(self.histogram.count(), took, cpu, &self.histogram)
    }

    /// Sends WebSocket messages of another size one by one, which all members but the stopped ones receive.
    ///
    /// # Errors
    ///
    /// If a connection fails, or a member misses a message.
    pub fn fill(&mut self, messages: usize, size: Size) -> Result<(), BoxError> {
        let (request, reply) = Protocol::WebSocket.frames(size);
        let usual = (
            mem::replace(&mut self.request, request),
            mem::replace(&mut self.reply, reply),
        );
        self.count_anew();
        for _ in 0..messages {
            self.send(1)?;
            self.receive(|_, _| Ok(()))?;
        }
        (self.request, self.reply) = usual;
        self.count_anew();
        self.server.wait_until_idle()
    }

    fn count_anew(&mut self) {
        self.complete = 0;
        for member in &mut self.members {
            member.received = 0;
        }
    }

    /// Keeps messages in flight for `time`, and then waits until all have arrived. Returns how long that took.
    fn run(&mut self, time: Duration) -> Result<Duration, BoxError> {
        let begun = Instant::now();
        self.send(self.room.depth)?;
        self.receive(|session, complete| match begun.elapsed() < time {
            true => session.send(complete),
            false => Ok(()),
        })?;
        Ok(begun.elapsed())
    }

    /// Receives until nothing is in flight. `then` gets the number of messages that every member has received since
    /// its last call.
    fn receive(
        &mut self,
        mut then: impl FnMut(&mut Self, usize) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let mut progress = Instant::now();
        while !self.in_flight.is_empty() {
            wait(&mut self.poll, &mut self.events)?;
            let before = self.complete;
            self.read_all()?;
            if self.complete > before {
                progress = Instant::now();
                then(self, self.complete - before)?;
            } else if progress.elapsed() > 10 * MAX_WAIT {
                return Err("a member has missed a message".into());
            }
        }
        Ok(())
    }

    /// Sends this many messages in one write.
    fn send(&mut self, messages: usize) -> Result<(), BoxError> {
        let sent = Instant::now();
        for _ in 0..messages {
            self.in_flight.push_back(InFlight {
                sent,
                missing: self.members.len(),
            });
        }
        let bytes = self.request.repeat(messages);
        let mut unsent = &bytes[..];
        while !unsent.is_empty() {
            match self.members[0].stream.write(unsent) {
                Ok(written) => unsent = &unsent[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(20));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads from all members that have received something.
    fn read_all(&mut self) -> Result<(), BoxError> {
        for event in &self.events {
            if !event.is_readable() {
                continue;
            }
            let member = &mut self.members[event.token().0];
            let before = member.received / self.reply.len();
            loop {
                match member.stream.read(&mut self.scratch) {
                    Ok(0) => return Err("the server has closed a connection".into()),
                    Ok(read) => {
                        member.received += read;
                        // A short read has emptied the socket. New bytes cause a new event.
                        if read < self.scratch.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            let after = member.received / self.reply.len();
            if after == before {
                continue;
            }
            let now = Instant::now();
            for number in before..after {
                let message = self.in_flight.get_mut(number - self.complete);
                let message = message.ok_or("a member has received a message twice")?;
                message.missing -= 1;
                self.histogram.add(now - message.sent, 1);
            }
        }
        while self
            .in_flight
            .pop_front_if(|message| message.missing == 0)
            .is_some()
        {
            self.complete += 1;
        }
        Ok(())
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server.address())
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}
