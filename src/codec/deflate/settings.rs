//! How a server, or a client, wants messages to be compressed.

use http::{HeaderMap, HeaderValue};

use super::Deflation;
use crate::handshake::extension::{
    Unacceptable,
    deflate::{Direction, MAX_WINDOW_BITS, MIN_WINDOW_BITS, Terms},
};

/// Compression of messages with peers that agree to it, for
/// [`Config::deflate`](crate::Config::deflate): permessage-deflate
/// ([RFC 7692](https://www.rfc-editor.org/rfc/rfc7692)).
///
/// Browsers offer it. Messages of [`min_size`](Self::min_size) bytes or more are compressed when
/// that makes them smaller; what arrives is inflated, and
/// [`Config::max_message_size`](crate::Config::max_message_size) applies to what it inflates to, so
/// that a small frame cannot become a large message.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Config, Deflate, Echo, WebSocketLayer};
///
/// let config = Config::new().deflate(Deflate::new().min_size(256));
/// let layer = WebSocketLayer::new(Echo::new()).config(config);
/// ```
///
/// # What a peer may send
///
/// A message may end its deflate stream with a final block, and go on with another stream
/// (RFC 7692 §7.2.3.4): a client may finish in the place of flushing. For each of its frames a message
/// may have 16 streams that inflate to fewer than 4 bytes, and any number of longer ones. Past that the
/// connection ends with [`TooManyFinalBlocks`](crate::error::RecvError::TooManyFinalBlocks) and 1008:
/// half a million of them fit into a message of 1 MB, and would cost 120 times as much as stored data of
/// that length.
///
/// # Security
///
/// Compression tells of what it compresses: the length of a message depends on what repeats in it.
/// Who can have text of his choice put into a message beside a secret, and can see how long the
/// frames are, finds the secret out by trying (the attacks called CRIME and BREACH); encryption
/// hides content, not length. So:
///
/// - Messages that hold a secret together with what others wrote go out with
///   [`WebSocket::send_uncompressed`](crate::WebSocket::send_uncompressed) or
///   [`Sender::send_uncompressed`](crate::Sender::send_uncompressed).
/// - Without context takeover, the default, a message is compressed by itself, and tells nothing of
///   the ones before it. With it, secrets in one message and others' text in another one meet
///   within the window.
///
/// # Cost
///
/// Messages are compressed and inflated by the task of their connection, at most 128 KiB of either in
/// one poll, so that other tasks get their turn within a large message. `send` and `try_send` wait for
/// none of it. JSON of 16 KiB takes about half a millisecond at the default level, and shrinks to a
/// quarter.
///
/// A message counts by its length in [`Config::max_outbox`](crate::Config::max_outbox) until it is
/// compressed, then by its compressed length.
///
/// What holds memory is a compressor, or a decompressor, while it works:
///
/// | | Memory |
/// | --- | --- |
/// | decompressor, whatever its window | 37 KiB |
/// | compressor, window of 9 bits | 188 KiB |
/// | compressor, window of 12 bits | 202 KiB |
/// | compressor, window of 15 bits | 314 KiB |
///
/// Without context takeover they are shared: a compressor is lent while a message is compressed, a
/// decompressor from the first byte of a message to its last, and as many of either as the machine
/// runs threads, or as are lent, if those are more, are kept for the next messages. An idle connection holds none, so that it takes no
/// more memory than one without compression. With context takeover a connection keeps its own from
/// the first message in that direction on, until it ends.
#[derive(Clone, Copy, Debug)]
pub struct Deflate {
    min_size: usize,
    level: u32,
    terms: Terms,
}

impl Deflate {
    /// Makes settings with the defaults named at each of them.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            min_size: 1024,
            level: 6,
            terms: Terms {
                send: Direction {
                    window_bits: 12,
                    context_takeover: false,
                },
                receive: Direction {
                    window_bits: MAX_WINDOW_BITS,
                    context_takeover: false,
                },
            },
        }
    }

    /// Sets from which size on messages are compressed, in bytes.
    ///
    /// Small ones gain little, and those that fit one packet nothing. An empty message is never
    /// compressed. Default: 1 KiB.
    #[must_use]
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Sets how much work goes into making messages small, from 1 for the fastest to 9 for the
    /// smallest; what is below or above counts as these. Default: 6.
    #[must_use]
    pub const fn level(mut self, level: u32) -> Self {
        self.level = match level {
            0 => 1,
            1..=9 => level,
            _ => 9,
        };
        self
    }

    /// Sets how far back compression refers when sending, as the base-2 logarithm of bytes, from 9
    /// to 15; what is below or above counts as these.
    ///
    /// The peer may ask for less, but not for 8, since zlib cannot do that: a client that does is
    /// served without compression, and connecting to a server that does fails. Default: 12, which
    /// is 4 KiB.
    #[must_use]
    pub const fn send_window_bits(mut self, bits: u8) -> Self {
        self.terms.send.window_bits = window_bits(bits);
        self
    }

    /// Sets how far back the peer may refer, from 9 to 15; what is below or above counts as these.
    ///
    /// Less than 15 saves the peer memory, and this side none. A client that does not offer to keep
    /// to it is served without compression; connecting to a server that compresses and does not keep
    /// to it fails. Default: 15, which is 32 KiB.
    #[must_use]
    pub const fn receive_window_bits(mut self, bits: u8) -> Self {
        self.terms.receive.window_bits = window_bits(bits);
        self
    }

    /// Lets a sent message refer to the ones before it, unless the peer asks for the contrary.
    ///
    /// Many small messages that resemble each other become much smaller; lower
    /// [`min_size`](Self::min_size) for them. It costs memory for as long as the connection lasts
    /// and has consequences for [security](Self#security). Default: no.
    #[must_use]
    pub const fn send_context_takeover(mut self) -> Self {
        self.terms.send.context_takeover = true;
        self
    }

    /// Lets a message of the peer refer to the ones before it, if the peer wants to.
    ///
    /// It costs memory for as long as the connection lasts. Default: no.
    #[must_use]
    pub const fn receive_context_takeover(mut self) -> Self {
        self.terms.receive.context_takeover = true;
        self
    }

    /// Answers the offers of a client, `None` to decline them all.
    pub(crate) fn accept(&self, headers: &HeaderMap) -> Option<(Deflation, HeaderValue)> {
        let (terms, answer) = self.terms.accept(headers)?;
        Some((self.agreed(terms), answer))
    }

    /// Writes the offer of a client.
    pub(crate) fn offer(&self) -> Option<HeaderValue> {
        self.terms.offer()
    }

    /// Reads what a server answered to [`offer`](Self::offer), `None` if it declined.
    ///
    /// # Errors
    ///
    /// [`Unacceptable`] if the connection is to be failed.
    pub(crate) fn confirm(&self, headers: &HeaderMap) -> Result<Option<Deflation>, Unacceptable> {
        let terms = self.terms.confirm(headers)?;
        Ok(terms.map(|terms| self.agreed(terms)))
    }

    pub(crate) const fn agreed(&self, terms: Terms) -> Deflation {
        Deflation {
            terms,
            level: self.level,
            min_size: self.min_size,
        }
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

const fn window_bits(bits: u8) -> u8 {
    if bits < MIN_WINDOW_BITS {
        MIN_WINDOW_BITS
    } else if bits > MAX_WINDOW_BITS {
        MAX_WINDOW_BITS
    } else {
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_setting_in_its_range() {
        for (bits, kept) in [(0, 9), (8, 9), (9, 9), (15, 15), (16, 15), (255, 15)] {
            let terms = Deflate::new()
                .send_window_bits(bits)
                .receive_window_bits(bits)
                .terms;
            assert_eq!(terms.send.window_bits, kept, "{bits}");
            assert_eq!(terms.receive.window_bits, kept, "{bits}");
        }
        for (level, kept) in [(0, 1), (1, 1), (9, 9), (10, 9), (u32::MAX, 9)] {
            assert_eq!(Deflate::new().level(level).level, kept, "{level}");
        }
    }
}
