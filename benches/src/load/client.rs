//! Blocking client connections.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::frames::Shape;
use crate::BoxError;

/// The opening handshake of every client. All use the same key, the example of the RFC.
pub const HANDSHAKE: &[u8] = b"GET /ws HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    Connection: Upgrade\r\n\
    Upgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A plain request, with the usual header fields.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    User-Agent: bench\r\n\
    Accept: */*\r\n\r\n";

/// The number of connections per source address, fewer than the ephemeral ports of the kernel.
const PORTS: usize = 20_000;

/// The timeout of every operation.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects the client with this number, without a handshake.
///
/// # Errors
///
/// If the connection fails.
pub fn connect(server: SocketAddr, number: usize) -> Result<TcpStream, BoxError> {
    connect_from(
        Socket::new(Domain::IPV4, Type::STREAM, None)?,
        server,
        number,
    )
}

/// Connects a client that will not read. The kernel keeps little for it.
///
/// # Errors
///
/// If the connection fails.
pub fn connect_to_stop(server: SocketAddr, number: usize) -> Result<TcpStream, BoxError> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    connect_from(socket, server, number)
}

fn connect_from(socket: Socket, server: SocketAddr, number: usize) -> Result<TcpStream, BoxError> {
    let address = u8::try_from(number / PORTS)?;
    if address > 0 {
        let source = Ipv4Addr::new(127, 0, 0, 1 + address);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    // The write timeout also applies to `connect`.
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(&server.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes the opening handshake.
///
/// # Errors
///
/// If the answer is not exactly a 101.
pub fn shake_hands(stream: &mut TcpStream) -> Result<(), BoxError> {
    stream.write_all(HANDSHAKE)?;
    let answer = read_until(stream, b"\r\n\r\n")?;
    match answer.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(()),
        false => Err(format!("refused: {}", String::from_utf8_lossy(&answer)).into()),
    }
}

/// Makes a plain request and returns the answer.
///
/// # Errors
///
/// If the answer is not a 200.
pub fn ask(stream: &mut TcpStream) -> Result<Vec<u8>, BoxError> {
    stream.write_all(REQUEST)?;
    let answer = read_until(stream, b"hello over HTTP")?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(answer),
        false => Err("a plain request is refused".into()),
    }
}

/// Returns the body of a `GET` on a connection of its own.
///
/// # Errors
///
/// If the answer is not a 200.
pub fn get(server: SocketAddr, path: &str) -> Result<String, BoxError> {
    let mut stream = connect(server, 0)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(format!("{path} is refused: {answer}").into()),
    }
}

/// Has one message echoed.
///
/// # Errors
///
/// If the answer is wrong.
pub fn echo(stream: &mut TcpStream, shape: Shape) -> Result<(), BoxError> {
    let request = shape.request();
    let expected = shape.reply();
    let mut answer = vec![0; expected.len()];
    // A large message does not fit the kernel's buffers, so read the answer while writing.
    let mut writer = stream.try_clone()?;
    if request.len() <= 32 * 1024 {
        writer.write_all(&request)?;
        stream.read_exact(&mut answer)?;
    } else {
        thread::scope(|scope| {
            let writing = scope.spawn(move || writer.write_all(&request));
            stream.read_exact(&mut answer)?;
            writing.join().map_err(|_| "the writer panicked")??;
            Ok::<_, BoxError>(())
        })?;
    }
    match answer == expected {
        true => Ok(()),
        false => Err("the answer is not what was sent".into()),
    }
}

/// Reads until the bytes end with `end`.
///
/// # Errors
///
/// If the stream ends before, or more than 4 KiB come without it.
pub fn read_until(stream: &mut TcpStream, end: &[u8]) -> Result<Vec<u8>, BoxError> {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(end) {
        let read = stream.read(&mut buffer)?;
        if read == 0 || answer.len() > 4096 {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            return Err(format!("an answer without its end: {answer}").into());
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    Ok(answer)
}
