//! The load generator: one thread and one `epoll`. It makes all frames in advance and only counts the bytes
//! of answers.

pub mod client;
pub mod frames;
mod http2;
pub(crate) mod latency;
pub mod room;
mod single;
pub mod upgrades;

use std::{
    fmt,
    io::{self, ErrorKind},
    net, thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::{frames::Shape, latency::Histogram};
use crate::{BoxError, process::Process};

/// The maximum wait for outstanding messages after a turn, and for the first answer of a turn.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The load on a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of clients, each with one WebSocket.
    pub clients: usize,
    /// The number of outstanding messages of each client.
    pub depth: usize,
    /// The number of answers a client waits for before it sends as many new messages.
    pub refill: usize,
    /// The kind of messages.
    pub exchange: Exchange,
}

impl Load {
    /// Returns the payload bytes that are outstanding in total.
    fn outstanding(&self) -> usize {
        let size = match self.exchange {
            Exchange::Echo(shape) | Exchange::Http2(shape, _) => shape.size,
            Exchange::Http => 0,
        };
        self.clients * self.depth * size
    }

    /// Returns the minimum duration of a turn, which is enough for several round trips of all
    /// outstanding messages.
    #[must_use]
    pub fn turn(&self) -> Duration {
        let of_clients = Duration::from_micros(40) * self.clients as u32;
        let of_bytes = Duration::from_nanos(4 * self.outstanding() as u64);
        Duration::from_millis(20) + of_clients + of_bytes
    }
}

/// The messages that clients send repeatedly.
#[derive(Clone, Copy, Debug)]
pub enum Exchange {
    /// Messages, over WebSockets if the shape says so.
    Echo(Shape),
    /// Messages over WebSockets that share this many HTTP/2 connections.
    Http2(Shape, usize),
    /// Plain requests over HTTP.
    Http,
}

/// The result of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Answers per second.
    pub rate: f64,
    /// The server's CPU time per answer, in nanoseconds.
    pub cpu: f64,
    /// The server's CPU time divided by the measured time.
    pub busy: f64,
    /// The median latency of an answer.
    pub median: Duration,
    /// The 99th percentile of the latency.
    pub p99: Duration,
    /// The maximum latency.
    pub slowest: Duration,
}

/// A TCP connection with one or several clients.
trait Client {
    /// Sends the first messages.
    fn begin(&mut self, now: Instant, common: &Common) -> Result<(), BoxError>;

    /// Reads if `readable`, writes as much as possible, and returns the number of answers.
    fn turn(&mut self, readable: bool, common: &mut Common) -> Result<u64, BoxError>;
}

/// The state that all connections share.
struct Common {
    pattern: Pattern,
    /// See `Load`.
    depth: usize,
    /// See `Load`.
    refill: usize,
    scratch: Vec<u8>,
    histogram: Histogram,
}

/// The bytes that clients send and receive.
struct Pattern {
    /// Repeated copies of the frame, enough to write all outstanding messages at once.
    bytes: Vec<u8>,
    /// The length of one frame.
    frame: usize,
    /// One answer. All answers have the same length.
    answer: Vec<u8>,
}

/// Clients that are connected to a server.
pub struct Session<'a> {
    server: &'a Process,
    poll: Poll,
    events: Events,
    clients: Vec<Box<dyn Client>>,
    common: Common,
}

impl<'a> Session<'a> {
    /// Connects to a server and sends the first messages of all clients.
    ///
    /// # Errors
    ///
    /// If a connection fails or gets a wrong answer.
    pub fn open(server: &'a Process, load: Load) -> Result<Self, BoxError> {
        let poll = Poll::new()?;
        let address = server.address();
        let (mut clients, frame, answer) = match load.exchange {
            Exchange::Echo(shape) => {
                let clients = single::open(address, load.clients, &poll, |stream| {
                    if shape.websocket {
                        client::shake_hands(stream)?;
                    }
                    client::echo(stream, shape)
                })?;
                (boxed(clients), shape.request(), shape.reply())
            }
            Exchange::Http2(shape, connections) => {
                let clients = http2::open(address, load.clients, connections, &poll)?;
                (boxed(clients), shape.request(), shape.reply())
            }
            Exchange::Http => {
                // All answers have the same length, because only the date changes.
                let mut answer = Vec::new();
                let clients = single::open(address, load.clients, &poll, |stream| {
                    answer = client::ask(stream)?;
                    Ok(())
                })?;
                (boxed(clients), client::REQUEST.to_vec(), answer)
            }
        };
        let common = Common {
            pattern: Pattern {
                bytes: frame.repeat(load.depth + 1),
                frame: frame.len(),
                answer,
            },
            depth: load.depth,
            refill: load.refill,
            scratch: vec![0; 256 * 1024],
            histogram: Histogram::new(),
        };
        let begun = Instant::now();
        for client in &mut clients {
            client.begin(begun, &common)?;
        }
        Ok(Self {
            server,
            poll,
            events: Events::with_capacity(1024),
            clients,
            common,
        })
    }

    /// Continues the session, and measures for `time` after `warm_up`.
    ///
    /// # Errors
    ///
    /// If a connection fails.
    pub fn measure(&mut self, warm_up: Duration, time: Duration) -> Result<Outcome, BoxError> {
        let begun = Instant::now();
        let mut counting = None;
        let mut answers = 0;
        loop {
            wait(&mut self.poll, &mut self.events)?;
            let now = Instant::now();
            let mut outcome = None;
            match counting {
                None if now >= begun + warm_up => {
                    counting = Some((now, self.server.cpu_time()?));
                    answers = 0;
                    self.common.histogram = Histogram::new();
                }
                // Without an answer, wait a bit longer: the machine may have been suspended.
                Some((since, cpu))
                    if now >= since + time && (answers > 0 || now >= since + time + MAX_WAIT) =>
                {
                    let cpu = self.server.cpu_time()?.saturating_sub(cpu);
                    let histogram = &self.common.histogram;
                    outcome = Some(Outcome::new(answers, now - since, cpu, histogram)?);
                }
                _ => {}
            }
            for event in &self.events {
                let client = &mut self.clients[event.token().0];
                answers += client.turn(event.is_readable(), &mut self.common)?;
            }
            // `mio` reports each event once, so handle the last events before returning.
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }

    /// Waits until the server has answered all outstanding messages, so that the core is free for the next
    /// server. The answers are read in the server's next turn.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub fn pause(&self) -> Result<(), BoxError> {
        let deadline = Instant::now() + MAX_WAIT;
        let mut cpu = self.server.cpu_time()?;
        while Instant::now() < deadline {
            thread::sleep(Duration::from_micros(500));
            let now = self.server.cpu_time()?;
            if now == cpu {
                break;
            }
            cpu = now;
        }
        Ok(())
    }
}

fn boxed(clients: Vec<impl Client + 'static>) -> Vec<Box<dyn Client>> {
    let boxed = clients.into_iter().map(|client| Box::new(client) as _);
    boxed.collect()
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server.address())
            .finish_non_exhaustive()
    }
}

/// Registers a connection with `poll` for reading and writing.
fn watch(stream: net::TcpStream, number: usize, poll: &Poll) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut stream, Token(number), interest)?;
    Ok(stream)
}

/// Waits for events, with a timeout so that a server that hangs does not block the measurement.
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
            return Err("the server sent no answers".into());
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
