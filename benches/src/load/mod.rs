//! The load generator: one thread, one `epoll`, frames made beforehand and answers counted by bytes.

pub mod client;
pub mod frames;
mod latency;
pub mod upgrades;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{self, SocketAddr},
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
    /// What they send.
    pub exchange: Exchange,
    /// How long it goes on before anything is counted.
    pub warm_up: Duration,
    /// How long it is measured.
    pub time: Duration,
}

/// What clients send, again and again.
#[derive(Clone, Copy, Debug)]
pub enum Exchange {
    /// Messages, over WebSockets where their shape says so.
    Echo(Shape),
    /// Plain requests over HTTP.
    Http,
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

/// A plain request, with the fields that common clients send.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    User-Agent: bench\r\n\
    Accept: */*\r\n\r\n";

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
    let (mut connections, reply) = open(server.address(), load, &poll)?;
    let frame = match load.exchange {
        Exchange::Echo(shape) => shape.request(),
        Exchange::Http => REQUEST.to_vec(),
    };
    let pattern = Pattern {
        bytes: frame.repeat(load.depth + 1),
        frame: frame.len(),
        reply,
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
        wait(&mut poll, &mut events)?;
        let now = Instant::now();
        match counting {
            None if now >= begun + load.warm_up => {
                counting = Some((now, server.cpu_time()?));
                answers = 0;
                histogram = Histogram::new();
            }
            Some((since, cpu)) if now >= since + load.time => {
                let cpu = server.cpu_time()?.saturating_sub(cpu);
                return Outcome::new(answers, now - since, cpu, &histogram);
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

/// Waits for what happens next, but not for long: a server that hangs must not hang the measurement.
fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(Duration::from_millis(50))) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

impl Outcome {
    fn new(
        answers: u64,
        time: Duration,
        cpu: Duration,
        histogram: &Histogram,
    ) -> Result<Self, BoxError> {
        if answers == 0 {
            return Err("no answers at all".into());
        }
        let cpu = cpu.as_nanos() as f64;
        Ok(Self {
            rate: answers as f64 / time.as_secs_f64(),
            cpu: cpu / answers as f64,
            busy: cpu / time.as_nanos() as f64,
            median: histogram.quantile(0.5),
            p99: histogram.quantile(0.99),
            slowest: histogram.slowest(),
        })
    }
}

/// Opens all connections and returns them with the length of an answer.
fn open(server: SocketAddr, load: Load, poll: &Poll) -> Result<(Vec<Connection>, usize), BoxError> {
    let mut connections = Vec::with_capacity(load.connections);
    let mut reply = 0;
    for number in 0..load.connections {
        let mut stream = client::connect(server, number)?;
        reply = load.exchange.begin(&mut stream)?;
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
    Ok((connections, reply))
}

impl Exchange {
    /// Makes the handshake, checks one answer to the byte and returns its length.
    fn begin(self, stream: &mut net::TcpStream) -> Result<usize, BoxError> {
        match self {
            Self::Echo(shape) => {
                if shape.websocket {
                    client::shake_hands(stream)?;
                }
                client::echo(stream, shape)?;
                Ok(shape.reply().len())
            }
            Self::Http => {
                stream.write_all(REQUEST)?;
                let answer = client::read_until(stream, b"hello over HTTP")?;
                match answer.starts_with(b"HTTP/1.1 200 ") {
                    // Every answer is as long: only the date changes.
                    true => Ok(answer.len()),
                    false => Err("a plain request is refused".into()),
                }
            }
        }
    }
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
