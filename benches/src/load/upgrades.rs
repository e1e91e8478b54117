//! Measures opening handshakes.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::SockRef;

use super::{
    Outcome,
    client::{self, HANDSHAKE},
    latency::Histogram,
};
use crate::{BoxError, process::Process};

/// The number of concurrent handshakes.
const CONCURRENT: usize = 32;

struct Handshake {
    stream: TcpStream,
    answer: Vec<u8>,
    begun: Instant,
}

/// Opens connections, and resets each after the answer to its handshake.
///
/// A server without HTTP sends the handshake back, which also ends with an empty line.
///
/// # Errors
///
/// If a handshake fails.
pub fn run(server: &Process, warm_up: Duration, time: Duration) -> Result<Outcome, BoxError> {
    let mut poll = Poll::new()?;
    let mut handshakes = Vec::with_capacity(CONCURRENT);
    for token in 0..CONCURRENT {
        handshakes.push(begin(server.address(), &poll, Token(token))?);
    }
    let mut events = Events::with_capacity(CONCURRENT);
    let mut histogram = Histogram::new();
    let mut scratch = [0; 4096];
    let begun = Instant::now();
    let mut counting = None;
    let mut answers = 0_u64;
    loop {
        super::wait(&mut poll, &mut events)?;
        let now = Instant::now();
        match counting {
            None if now >= begun + warm_up => {
                counting = Some((now, server.cpu_time()?));
                answers = 0;
                histogram = Histogram::new();
            }
            Some((since, cpu)) if now >= since + time => {
                let cpu = server.cpu_time()?.saturating_sub(cpu);
                return Outcome::new(answers, now - since, cpu, &histogram);
            }
            _ => {}
        }
        for event in &events {
            let handshake = &mut handshakes[event.token().0];
            match handshake.stream.read(&mut scratch) {
                Ok(0) => return Err("the server has closed a connection".into()),
                Ok(read) => handshake.answer.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if !handshake.answer.ends_with(b"\r\n\r\n") {
                continue;
            }
            if !handshake.answer.starts_with(b"HTTP/1.1 101 ") && handshake.answer != HANDSHAKE {
                let answer = String::from_utf8_lossy(&handshake.answer).into_owned();
                return Err(format!("refused: {answer}").into());
            }
            answers += 1;
            histogram.add(handshake.begun.elapsed(), 1);
            *handshake = begin(server.address(), &poll, event.token())?;
        }
    }
}

fn begin(server: SocketAddr, poll: &Poll, token: Token) -> Result<Handshake, BoxError> {
    let begun = Instant::now();
    let mut stream = client::connect(server, token.0)?;
    // Reset the connection on drop: it then needs no closing and leaves no port in TIME_WAIT.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.write_all(HANDSHAKE)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry()
        .register(&mut stream, token, Interest::READABLE)?;
    Ok(Handshake {
        stream,
        answer: Vec::new(),
        begun,
    })
}
