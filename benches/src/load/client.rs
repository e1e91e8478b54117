//! Connections of a client, opened one after the other.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::frames::Shape;
use crate::BoxError;

/// The opening handshake of every client. The key is the RFC's example: servers do not compare them.
pub const HANDSHAKE: &[u8] = b"GET /ws HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    Connection: Upgrade\r\n\
    Upgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The ports of one source address that are used before the next one's, fewer than the kernel has.
const PORTS: usize = 20_000;

/// How long a server may take for anything before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects as the client with this number, without a handshake.
///
/// # Errors
///
/// When the server does not accept.
pub fn connect(server: SocketAddr, number: usize) -> Result<TcpStream, BoxError> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let address = u8::try_from(number / PORTS)?;
    if address > 0 {
        let source = Ipv4Addr::new(127, 0, 0, 1 + address);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&server.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, makes the opening handshake where there is one, and has one message echoed.
///
/// # Errors
///
/// When the server does not answer as it should, to the byte.
pub fn open(server: SocketAddr, number: usize, shape: Shape) -> Result<TcpStream, BoxError> {
    let mut stream = connect(server, number)?;
    if shape.websocket {
        shake_hands(&mut stream)?;
    }
    echo(&mut stream, shape)?;
    Ok(stream)
}

/// Makes the opening handshake.
///
/// # Errors
///
/// When the answer is not a 101, or more than that.
pub fn shake_hands(stream: &mut TcpStream) -> Result<(), BoxError> {
    stream.write_all(HANDSHAKE)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        if read == 0 || answer.len() > 4096 {
            return Err("no end of the handshake".into());
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    if !answer.starts_with(b"HTTP/1.1 101 ") {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        return Err(format!("refused: {answer}").into());
    }
    Ok(())
}

/// Has one message echoed.
///
/// # Errors
///
/// When something else comes back.
pub fn echo(stream: &mut TcpStream, shape: Shape) -> Result<(), BoxError> {
    let expected = shape.reply();
    let mut answer = vec![0; expected.len()];
    // A server that echoes while it reads blocks when nobody reads what it writes.
    let request = shape.request();
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || writer.write_all(&request));
        stream.read_exact(&mut answer)?;
        writing.join().map_err(|_| "the writer panicked")??;
        Ok::<_, BoxError>(())
    })?;
    if answer != expected {
        return Err("the answer is not what was sent".into());
    }
    Ok(())
}
