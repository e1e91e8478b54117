//! The names of a request's fields, in the letters of RFC 6455: `Sec-WebSocket-Key`.
//!
//! Names have no case, but there are servers that compare them with it. hyper can write each word of a
//! name with a capital, which makes `Sec-Websocket-Key`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The beginning of a name as hyper writes it. Its last letter is the one to be changed.
const PREFIX: &[u8] = b"Sec-Webs";

/// A stream on which the head of a request is written, by hyper with `title_case_headers`.
#[derive(Debug)]
pub(super) struct Names<IO> {
    io: IO,
    place: Place,
}

impl<IO> Names<IO> {
    pub(super) const fn new(io: IO) -> Self {
        Self {
            io,
            place: Place(0),
        }
    }

    pub(super) fn into_inner(self) -> IO {
        self.io
    }
}

/// How many bytes from the beginning of a line on are those of [`PREFIX`], or `ELSEWHERE`.
#[derive(Clone, Copy, Debug)]
struct Place(usize);

const ELSEWHERE: usize = PREFIX.len();

impl Place {
    /// Goes past a byte, and returns whether it is the one to be changed.
    fn advance(&mut self, byte: u8) -> bool {
        let here = self.0;
        let fits = PREFIX.get(here) == Some(&byte);
        self.0 = match byte {
            b'\n' => 0,
            _ if fits => here + 1,
            _ => ELSEWHERE,
        };
        fits && self.0 == PREFIX.len()
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Names<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut place = this.place;
        let renamed: Vec<u8> = bytes
            .iter()
            .map(|&byte| match place.advance(byte) {
                true => byte.to_ascii_uppercase(),
                false => byte,
            })
            .collect();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, &renamed))?;
        for &byte in &bytes[..written] {
            this.place.advance(byte);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Names<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Takes as many bytes of each write as it is told.
    struct Slow {
        taken: Vec<u8>,
        most: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let len = bytes.len().min(self.most);
            self.taken.extend_from_slice(&bytes[..len]);
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn writes_names_as_the_rfc_does_however_they_are_cut() {
        let head = "GET /Sec-Websocket HTTP/1.1\r\nHost: Sec-Websocket\r\nSec-Websocket-Key: a\r\n\
                    Sec-Web: b\r\nSec-Fetch-Site: c\r\nSec-Websocket-Version: 13\r\n\r\n";
        let renamed = "GET /Sec-Websocket HTTP/1.1\r\nHost: Sec-Websocket\r\nSec-WebSocket-Key: a\r\n\
                       Sec-Web: b\r\nSec-Fetch-Site: c\r\nSec-WebSocket-Version: 13\r\n\r\n";
        for most in 1..=head.len() {
            let mut names = Names::new(Slow {
                taken: Vec::new(),
                most,
            });
            let mut rest = head.as_bytes();
            while !rest.is_empty() {
                let write = poll_fn(|cx| Pin::new(&mut names).poll_write(cx, rest));
                rest = &rest[write.await.unwrap()..];
            }
            let taken = names.into_inner().taken;
            assert_eq!(String::from_utf8(taken).unwrap(), renamed, "{most}");
        }
    }
}
