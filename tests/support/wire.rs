//! A client that reads and writes frames as bytes. It does not check what the test sends.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    time::timeout,
};

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// Set in the first byte of a message's last frame.
pub(crate) const FIN: u8 = 0x80;

/// A frame as it came from the server.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Returns the code of a Close frame, `None` for an empty one.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(
            self.first,
            FIN | CLOSE,
            "a Close was expected, not {self:?}"
        );
        let code = self.payload.get(..2)?;
        Some(u16::from_be_bytes(code.try_into().unwrap()))
    }
}

/// Opens a connection and does the opening handshake for `path`.
pub(crate) async fn open(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    upgrade(&mut stream, &handshake(path)).await;
    stream
}

/// Sends a handshake, which has to be accepted, and returns the head of the answer.
pub(crate) async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    handshake: &str,
) -> String {
    write(stream, handshake.as_bytes()).await;
    let head = read_head(stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    head
}

/// Builds a valid handshake for `path`.
pub(crate) fn handshake(path: &str) -> String {
    handshake_with(path, "")
}

/// Builds a valid handshake for `path` with further lines, each with its end.
pub(crate) fn handshake_with(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// Reads up to and including the empty line that ends a head.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Returns the status that a head begins with.
pub(crate) fn status(head: &str) -> u16 {
    head["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

/// Builds a masked frame. `first` is its first byte: FIN, the reserved bits and the opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, payload.len(), true);
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// Builds a frame without a mask, as a server sends it.
pub(crate) fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), false);
    frame.extend(payload);
    frame
}

/// Builds the head of a frame, without the mask.
pub(crate) fn header(first: u8, len: usize, masked: bool) -> Vec<u8> {
    let masked = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match len {
        0..126 => frame.push(masked | u8::try_from(len).unwrap()),
        126..0x1_0000 => {
            frame.push(masked | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend(u64::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame
}

/// Builds a Close frame.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(
        FIN | CLOSE,
        &[&code.to_be_bytes()[..], reason.as_bytes()].concat(),
    )
}

/// Reads one frame of the server, `None` at the end of the stream.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let first = stream.read_u8().await.ok()?;
    let second = stream.read_u8().await.ok()?;
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let len = match second {
        126 => u64::from(stream.read_u16().await.ok()?),
        127 => stream.read_u64().await.ok()?,
        len => u64::from(len),
    };
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { first, payload })
}

/// Reads one frame of the server, and returns its payload.
pub(crate) async fn read_payload(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let frame = read_frame(stream).await;
    frame.expect("the stream ended before a frame").payload
}

/// Reads one frame of a client with the key that masked it, `None` at the end of the stream.
pub(crate) async fn read_masked(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Frame, [u8; 4])> {
    let first = stream.read_u8().await.ok()?;
    let second = stream.read_u8().await.ok()?;
    assert_ne!(second & 0x80, 0, "a client masks");
    let len = match second & 0x7f {
        126 => u64::from(stream.read_u16().await.ok()?),
        127 => stream.read_u64().await.ok()?,
        len => u64::from(len),
    };
    let mut key = [0; 4];
    stream.read_exact(&mut key).await.ok()?;
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    Some((Frame { first, payload }, key))
}

/// Reads frames until the Close, and returns its code.
pub(crate) async fn read_close(stream: &mut (impl AsyncRead + Unpin)) -> Option<u16> {
    loop {
        let frame = read_frame(stream)
            .await
            .expect("the stream ended without a Close");
        if frame.first == FIN | CLOSE {
            return frame.close_code();
        }
    }
}

/// Reads up to the Close, answers it and reads to the end. Returns the code.
pub(crate) async fn answer_close(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<u16> {
    let code = read_close(&mut stream).await;
    write(&mut stream, &close(code.unwrap_or(1000), "")).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "nothing follows a Close");
    code
}

/// Reads a frame, asserts that it is a ping, and returns its payload.
pub(crate) async fn read_ping(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let frame = read_frame(stream).await.unwrap();
    assert_eq!(frame.first, FIN | PING, "{frame:?} is not a ping");
    frame.payload
}

/// Writes a pong.
pub(crate) async fn write_pong(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) {
    write(stream, &frame(FIN | PONG, payload)).await;
}

/// Asserts that nothing is sent for `time`, and that the connection stays open.
pub(crate) async fn assert_quiet(stream: &mut (impl AsyncRead + Unpin), time: Duration) {
    let silence = timeout(time, stream.read(&mut [0; 64])).await;
    assert!(silence.is_err(), "{silence:?} was read");
}

/// Writes `count` numbers as binary messages, reads the same numbers at the same time, and returns the stream.
pub(crate) async fn exchange_numbers<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    count: u32,
) -> S {
    let (mut reader, mut writer) = split(stream);
    let writes = async {
        for number in 0..count {
            write(&mut writer, &frame(FIN | BINARY, &number.to_be_bytes())).await;
        }
    };
    let reads = async {
        for number in 0..count {
            let frame = read_frame(&mut reader).await.unwrap();
            assert_eq!(frame.payload, number.to_be_bytes());
        }
    };
    tokio::join!(writes, reads);
    reader.unsplit(writer)
}

/// Writes bytes.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
}
