//! The baseline: sends bytes back unchanged, which measures tokio and the kernel.

use std::{
    cell::RefCell,
    future::poll_fn,
    hint::black_box,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::BoxError;

thread_local! {
    /// Shared by all connections of a thread, so it stays in the cache and is zeroed only once.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Sends all bytes back. With a `mask`, XORs them with it first, as unmasking does.
pub(super) async fn serve(listener: &TcpListener, mask: Option<[u8; 4]>) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut echo = Echo {
                // Hide the value, so that the compiler does not remove the XOR with zeros.
                mask: black_box(mask),
                stream,
                rest: Vec::new(),
                written: 0,
            };
            // An error means that the client has closed the connection.
            drop(poll_fn(|cx| echo.poll(cx)).await);
        });
    }
}

struct Echo {
    mask: Option<[u8; 4]>,
    stream: TcpStream,
    /// Bytes that the kernel did not accept at once.
    rest: Vec<u8>,
    written: usize,
}

impl Echo {
    /// Reads and writes until there is nothing to read, or the client has closed the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_rest(cx))?;
            let stream = &mut self.stream;
            let rest = &mut self.rest;
            let mask = self.mask;
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
                let bytes = read.filled_mut();
                if let Some(mask) = mask {
                    xor(bytes, mask);
                }
                if !bytes.is_empty() {
                    let written = match Pin::new(stream).poll_write(cx, bytes) {
                        Poll::Ready(written) => written?,
                        Poll::Pending => 0,
                    };
                    rest.extend_from_slice(&bytes[written..]);
                }
                Poll::Ready(io::Result::Ok(bytes.len()))
            });
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.rest.len() {
            let bytes = &self.rest[self.written..];
            self.written += ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        }
        self.rest.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

fn xor(bytes: &mut [u8], mask: [u8; 4]) {
    let mask = u32::from_ne_bytes(mask);
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        let masked = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]) ^ mask;
        word.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.to_ne_bytes()) {
        *byte ^= mask;
    }
}
