//! The load generator: one thread, one `epoll`, frames made beforehand and answers counted by bytes.

pub mod client;
pub mod frames;
mod http2;
mod latency;
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

/// How long a server has for what is outstanding when its turn is over, and for a first answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What is done to a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many clients there are, each of which has a socket.
    pub clients: usize,
    /// How many messages each of them has outstanding.
    pub depth: usize,
    /// How many answers a client waits for before it sends as many messages again.
    pub refill: usize,
    /// What they send.
    pub exchange: Exchange,
}

impl Load {
    /// Returns the bytes of payload that are outstanding at any time.
    fn outstanding(&self) -> usize {
        let size = match self.exchange {
            Exchange::Echo(shape) | Exchange::Http2(shape, _) => shape.size,
            Exchange::Http => 0,
        };
        self.clients * self.depth * size
    }

    /// Returns how long a turn of a server lasts at least: so long that what is outstanding goes
    /// there and back several times.
    #[must_use]
    pub fn turn(&self) -> Duration {
        let of_clients = Duration::from_micros(40) * self.clients as u32;
        let of_bytes = Duration::from_nanos(4 * self.outstanding() as u64);
        Duration::from_millis(20) + of_clients + of_bytes
    }
}

/// What clients send, again and again.
#[derive(Clone, Copy, Debug)]
pub enum Exchange {
    /// Messages, over WebSockets where their shape says so.
    Echo(Shape),
    /// Messages over WebSockets that are streams of so many connections of HTTP/2.
    Http2(Shape, usize),
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

/// A TCP connection, with one client or several.
trait Client {
    /// Sends the first messages.
    fn begin(&mut self, now: Instant, common: &Common) -> Result<(), BoxError>;

    /// Reads if there may be something to read, writes what can be written, and returns how many
    /// answers came.
    fn turn(&mut self, readable: bool, common: &mut Common) -> Result<u64, BoxError>;
}

/// What all connections share.
struct Common {
    pattern: Pattern,
    /// See `Load`.
    depth: usize,
    /// See `Load`.
    refill: usize,
    scratch: Vec<u8>,
    histogram: Histogram,
}

/// What clients send and what they get.
struct Pattern {
    /// The frames, often enough one after the other for one write of all that may be outstanding.
    bytes: Vec<u8>,
    /// How long one of them is.
    frame: usize,
    /// One answer. All are as long.
    answer: Vec<u8>,
}

/// Clients that are connected to a server, and what they have outstanding.
pub struct Session<'a> {
    server: &'a Process,
    poll: Poll,
    events: Events,
    clients: Vec<Box<dyn Client>>,
    common: Common,
}

impl<'a> Session<'a> {
    /// Connects to a server and has all clients send their first messages.
    ///
    /// # Errors
    ///
    /// When a connection cannot be made, or gets a wrong answer.
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
                // Every answer is as long: only the date changes.
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

    /// Goes on from where it was left, and measures for so long what comes after the warm-up.
    ///
    /// # Errors
    ///
    /// When a connection breaks.
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
                // A machine that stood still that long is waited for, a server that does not answer
                // is not.
                Some((since, cpu))
                    if now >= since + time && (answers > 0 || now >= since + time + PAUSE) =>
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
            // Each event is told once, so the last ones are followed as well.
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }

    /// Lets the server answer what is outstanding, which nobody reads before it is the server's turn
    /// again, so that it leaves the core to the next one.
    ///
    /// # Errors
    ///
    /// When the server has gone.
    pub fn pause(&self) -> Result<(), BoxError> {
        let deadline = Instant::now() + PAUSE;
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

/// Has `poll` say when something can be read from this connection, or written.
fn watch(stream: net::TcpStream, number: usize, poll: &Poll) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut stream, Token(number), interest)?;
    Ok(stream)
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
