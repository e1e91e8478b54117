//! A client that has a list of messages echoed repeatedly.

use std::{net::SocketAddr, sync::Arc};

use flate2::{Compress, FlushCompress};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_websocket::BoxError;

use crate::KIB;

/// A client that sends a list of frames repeatedly.
pub(crate) struct Client {
    stream: TcpStream,
    frames: Arc<[Vec<u8>]>,
    next: usize,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn open(
        address: SocketAddr,
        path: &str,
        frames: &Arc<[Vec<u8>]>,
    ) -> Result<Self, BoxError> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&head).into());
        }
        Ok(Self {
            stream,
            frames: Arc::clone(frames),
            next: 0,
            read: vec![0; 64 * KIB],
        })
    }

    /// Sends the next frame, reads the answer, and returns its first byte.
    pub(crate) async fn echo(&mut self) -> Result<u8, BoxError> {
        let frame = &self.frames[self.next];
        self.next = (self.next + 1) % self.frames.len();
        let (mut reader, mut writer) = self.stream.split();
        let reading = async {
            let first = reader.read_u8().await?;
            let mut left = match reader.read_u8().await? {
                126 => u64::from(reader.read_u16().await?),
                127 => reader.read_u64().await?,
                len => u64::from(len),
            };
            while left > 0 {
                let most = self.read.len().min(left as usize);
                left -= reader.read_exact(&mut self.read[..most]).await? as u64;
            }
            Ok::<_, BoxError>(first)
        };
        let writing = async { Ok(writer.write_all(frame).await?) };
        let (first, ()) = tokio::try_join!(reading, writing)?;
        Ok(first)
    }
}

/// Makes client frames of messages. With `compress`, messages of 512 bytes and more are compressed.
pub(crate) fn frames(messages: &[Vec<u8>], compress: bool) -> Result<Arc<[Vec<u8>]>, BoxError> {
    let frames = messages.iter().map(|message| frame(message, compress));
    frames.collect()
}

/// Makes a client frame of a message, masked with zeros.
fn frame(message: &[u8], compress: bool) -> Result<Vec<u8>, BoxError> {
    let mut payload = message.to_vec();
    let mut first = 0x82;
    if compress && message.len() >= 512 {
        let mut compress = Compress::new(flate2::Compression::new(6), false);
        payload = Vec::with_capacity(message.len() + 1000);
        compress.compress_vec(message, &mut payload, FlushCompress::Sync)?;
        payload.truncate(payload.len() - 4);
        first |= 0x40;
    }
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len) if len < 126 => frame.push(0x80 | len as u8),
        Ok(len) => {
            frame.push(0x80 | 126);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    Ok(frame)
}

/// Returns JSON that compresses like messages of applications.
pub(crate) fn json(len: usize) -> Vec<u8> {
    let rows = (0..).map(|id| {
        format!(
            "{{\"id\":{},\"name\":\"user {id}\",\"on\":true}},",
            id * 7919
        )
    });
    rows.flat_map(String::into_bytes).take(len).collect()
}
