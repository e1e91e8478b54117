//! Writes the names of a request's fields with the capitals of RFC 6455: `Sec-WebSocket-Key`.
//!
//! Field names are case-insensitive, but some servers compare them with case. hyper's `title_case_headers` writes
//! `Sec-Websocket-Key`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The beginning of a name as hyper writes it. Its last letter has to become a capital.
const PREFIX: &[u8] = b"Sec-Webs";

/// A stream that corrects the names in the request's head that hyper writes.
#[derive(Debug)]
pub(super) struct CanonicalNames<IO> {
    io: IO,
    matched: PrefixMatch,
}

impl<IO> CanonicalNames<IO> {
    pub(super) const fn new(io: IO) -> Self {
        Self {
            io,
            matched: PrefixMatch(0),
        }
    }

    pub(super) fn into_inner(self) -> IO {
        self.io
    }
}

/// The length of the match between the current line and [`PREFIX`], or `NO_MATCH`.
#[derive(Clone, Copy, Debug)]
struct PrefixMatch(usize);

const NO_MATCH: usize = PREFIX.len();

impl PrefixMatch {
    /// Takes the next byte. Returns whether it has to become a capital.
    fn advance(&mut self, byte: u8) -> bool {
        let len = self.0;
        let fits = PREFIX.get(len) == Some(&byte);
        self.0 = match byte {
            b'\n' => 0,
            _ if fits => len + 1,
            _ => NO_MATCH,
        };
        fits && self.0 == PREFIX.len()
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for CanonicalNames<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut matched = this.matched;
        let renamed: Vec<u8> = bytes
            .iter()
            .map(|&byte| match matched.advance(byte) {
                true => byte.to_ascii_uppercase(),
                false => byte,
            })
            .collect();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, &renamed))?;
        for &byte in &bytes[..written] {
            this.matched.advance(byte);
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

impl<IO: AsyncRead + Unpin> AsyncRead for CanonicalNames<IO> {
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

    /// Takes at max `max` bytes of each write.
    struct Slow {
        taken: Vec<u8>,
        max: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let len = bytes.len().min(self.max);
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
    async fn writes_names_like_the_rfc_for_any_size_of_writes() {
        let head = "GET /Sec-Websocket HTTP/1.1\r\nHost: Sec-Websocket\r\nSec-Websocket-Key: a\r\n\
                    Sec-Web: b\r\nSec-Fetch-Site: c\r\nSec-Websocket-Version: 13\r\n\r\n";
        let renamed = "GET /Sec-Websocket HTTP/1.1\r\nHost: Sec-Websocket\r\nSec-WebSocket-Key: a\r\n\
                       Sec-Web: b\r\nSec-Fetch-Site: c\r\nSec-WebSocket-Version: 13\r\n\r\n";
        for max in 1..=head.len() {
            let mut names = CanonicalNames::new(Slow {
                taken: Vec::new(),
                max,
            });
            let mut rest = head.as_bytes();
            while !rest.is_empty() {
                let write = poll_fn(|cx| Pin::new(&mut names).poll_write(cx, rest));
                rest = &rest[write.await.unwrap()..];
            }
            let taken = names.into_inner().taken;
            assert_eq!(String::from_utf8(taken).unwrap(), renamed, "{max}");
        }
    }
}
