//! The baseline: writes prepared bytes to all connections, which measures tokio and the kernel.

use std::{io, sync::Arc};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::Mutex,
};

use crate::{BoxError, load::frames};

/// The answer to the handshake of the load generator, which does not check the rest of the fields.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// The length of the mask.
const MASK: usize = 4;

#[derive(Default)]
struct Members {
    streams: Vec<OwnedWriteHalf>,
    /// The frame for all members. It is empty until its length is known.
    prepared: Vec<u8>,
}

pub(super) async fn serve(listener: &TcpListener) -> Result<(), BoxError> {
    let members = Arc::<Mutex<Members>>::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let members = Arc::clone(&members);
        tokio::spawn(async move {
            if let Err(error) = member(stream, &members).await {
                eprintln!("bare: {error}");
            }
        });
    }
}

async fn member(stream: TcpStream, members: &Mutex<Members>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut received = BytesMut::with_capacity(64 * 1024);
    while !received.ends_with(b"\r\n\r\n") {
        if reader.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
    received.clear();
    writer.write_all(UPGRADED).await?;
    members.lock().await.streams.push(writer);
    publish(reader, received, members).await
}

/// Writes the prepared frame to all for each received frame.
async fn publish(
    mut reader: OwnedReadHalf,
    mut received: BytesMut,
    members: &Mutex<Members>,
) -> io::Result<()> {
    while reader.read_buf(&mut received).await? > 0 {
        while let Some((head, payload)) = lengths(&received) {
            if received.len() < head + payload {
                break;
            }
            received.advance(head + payload);
            let mut members = members.lock().await;
            if members.prepared.len() != head - MASK + payload {
                members.prepared = frames::unmasked(false, &frames::payload(payload));
            }
            for stream in &members.streams {
                let written = stream.as_ref().try_write(&members.prepared)?;
                if written < members.prepared.len() {
                    return Err(io::Error::other("a socket takes only a part"));
                }
            }
        }
    }
    Ok(())
}

/// Returns the length of a masked frame's head and of its payload, as soon as these have arrived.
fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    match (bytes.get(1)? & 0x7f, bytes) {
        (126, [_, _, high, low, ..]) => {
            Some((4 + MASK, usize::from(u16::from_be_bytes([*high, *low]))))
        }
        (126.., _) => None,
        (len, _) => Some((2 + MASK, usize::from(len))),
    }
}
