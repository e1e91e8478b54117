//! The load generator: one thread, one `epoll`, frames made beforehand and answers counted by bytes.

pub mod client;
pub mod frames;
mod latency;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::{frames::Shape, latency::Histogram};
use crate::{BoxError, process::Process};

/// What is done to a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many clients there are.
    pub connections: usize,
    /// How many messages each of them has outstanding.
    pub depth: usize,
    /// How many answers a client waits for before it sends as many messages again.
    pub refill: usize,
    /// The messages.
    pub shape: Shape,
    /// How long it goes on before anything is counted.
    pub warm_up: Duration,
    /// How long it is measured.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Answers per second.
    pub rate: f64,
    /// The server's CPU time for each of them, in nanoseconds.
    pub cpu: f64,
    /// The share of the time in which the server was busy.
    pub busy: f64,
    /// In which time an answer came back, half of them and 99 of 100.
    pub median: Duration,
    /// See `median`.
    pub p99: Duration,
    /// In which time the slowest one came back.
    pub slowest: Duration,
}

struct Connection {
    stream: TcpStream,
    /// The bytes that may be sent and were not yet.
    unsent: usize,
    /// Where in its frame the next byte is that is sent.
    at: usize,
    /// Bytes of an answer that is not complete.
    partial: usize,
    /// Answers that were not replaced by new messages yet.
    due: usize,
    /// When the messages that are outstanding were sent.
    sent: Instant,
}

/// The frames, often enough one after the other for one write of all that may be outstanding.
struct Pattern {
    bytes: Vec<u8>,
    frame: usize,
    reply: usize,
}

/// Runs `load` against a server.
///
/// # Errors
///
/// When a connection cannot be made, gets a wrong answer at first, or breaks.
pub fn run(server: &Process, load: Load) -> Result<Outcome, BoxError> {
    let mut poll = Poll::new()?;
    let mut connections = open(server.address(), load, &poll)?;
    let frame = load.shape.request();
    let pattern = Pattern {
        bytes: frame.repeat(load.depth + 1),
        frame: frame.len(),
        reply: load.shape.reply().len(),
    };
    let mut scratch = vec![0; 256 * 1024];
    let mut events = Events::with_capacity(1024);
    let mut histogram = Histogram::new();

    let begun = Instant::now();
    for connection in &mut connections {
        connection.unsent = load.depth * pattern.frame;
        connection.sent = begun;
        connection.write(&pattern)?;
    }
    let mut counting = None;
    let mut answers = 0_u64;
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(50)))
            .or_else(|error| match error.kind() {
                ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            })?;
        let now = Instant::now();
        match counting {
            None if now >= begun + load.warm_up => {
                counting = Some((now, server.cpu_time()?));
                answers = 0;
                histogram = Histogram::new();
            }
            Some((since, cpu)) if now >= since + load.time => {
                let cpu = server.cpu_time()?.saturating_sub(cpu).as_nanos() as f64;
                let time = (now - since).as_secs_f64();
                if answers == 0 {
                    return Err("no answers at all".into());
                }
                return Ok(Outcome {
                    rate: answers as f64 / time,
                    cpu: cpu / answers as f64,
                    busy: cpu / 1e9 / time,
                    median: histogram.quantile(0.5),
                    p99: histogram.quantile(0.99),
                    slowest: histogram.slowest(),
                });
            }
            _ => {}
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            if event.is_readable() {
                let came = connection.read(&pattern, &mut scratch)?;
                if came > 0 {
                    answers += came as u64;
                    connection.due += came;
                    if connection.due >= load.refill {
                        let now = Instant::now();
                        histogram.add(now - connection.sent, connection.due);
                        connection.sent = now;
                        connection.unsent += connection.due * pattern.frame;
                        connection.due = 0;
                    }
                }
            }
            connection.write(&pattern)?;
        }
    }
}

fn open(server: SocketAddr, load: Load, poll: &Poll) -> Result<Vec<Connection>, BoxError> {
    let mut connections = Vec::with_capacity(load.connections);
    for number in 0..load.connections {
        let stream = client::open(server, number, load.shape)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(number), interest)?;
        connections.push(Connection {
            stream,
            unsent: 0,
            at: 0,
            partial: 0,
            due: 0,
            sent: Instant::now(),
        });
    }
    Ok(connections)
}

impl Connection {
    /// Reads what is there and returns how many answers are complete with it.
    fn read(&mut self, pattern: &Pattern, scratch: &mut [u8]) -> Result<usize, BoxError> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err("the server has closed a connection".into()),
                Ok(read) => {
                    self.partial += read;
                    // A short read has emptied the socket; what comes now makes a new event.
                    if read < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let complete = self.partial / pattern.reply;
        self.partial %= pattern.reply;
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
