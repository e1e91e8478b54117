//! The load generator: one thread, one `epoll`, frames made beforehand and answers counted by bytes.

pub mod client;
pub mod frames;
mod http2;
mod latency;
mod single;
pub mod upgrades;

use std::{
    io::{self, ErrorKind},
    net,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::{frames::Shape, latency::Histogram};
use crate::{BoxError, process::Process};

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

/// Runs `load` against a server.
///
/// # Errors
///
/// When a connection cannot be made, gets a wrong answer at first, or breaks.
pub fn run(server: &Process, load: Load) -> Result<Outcome, BoxError> {
    let poll = Poll::new()?;
    let address = server.address();
    match load.exchange {
        Exchange::Echo(shape) => {
            let clients = single::open(address, load.clients, &poll, |stream| {
                if shape.websocket {
                    client::shake_hands(stream)?;
                }
                client::echo(stream, shape)
            })?;
            measure(
                server,
                load,
                poll,
                clients,
                (shape.request(), shape.reply()),
            )
        }
        Exchange::Http2(shape, connections) => {
            let clients = http2::open(address, load.clients, connections, &poll)?;
            measure(
                server,
                load,
                poll,
                clients,
                (shape.request(), shape.reply()),
            )
        }
        Exchange::Http => {
            // Every answer is as long: only the date changes.
            let mut answer = Vec::new();
            let clients = single::open(address, load.clients, &poll, |stream| {
                answer = client::ask(stream)?;
                Ok(())
            })?;
            measure(
                server,
                load,
                poll,
                clients,
                (client::REQUEST.to_vec(), answer),
            )
        }
    }
}

fn measure<C: Client>(
    server: &Process,
    load: Load,
    mut poll: Poll,
    mut clients: Vec<C>,
    (frame, answer): (Vec<u8>, Vec<u8>),
) -> Result<Outcome, BoxError> {
    let mut common = Common {
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
    let mut events = Events::with_capacity(1024);

    let begun = Instant::now();
    for client in &mut clients {
        client.begin(begun, &common)?;
    }
    let mut counting = None;
    let mut answers = 0;
    loop {
        wait(&mut poll, &mut events)?;
        let now = Instant::now();
        match counting {
            None if now >= begun + load.warm_up => {
                counting = Some((now, server.cpu_time()?));
                answers = 0;
                common.histogram = Histogram::new();
            }
            Some((since, cpu)) if now >= since + load.time => {
                let cpu = server.cpu_time()?.saturating_sub(cpu);
                return Outcome::new(answers, now - since, cpu, &common.histogram);
            }
            _ => {}
        }
        for event in &events {
            answers += clients[event.token().0].turn(event.is_readable(), &mut common)?;
        }
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
