//! The settings for compression, of a server or a client.

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
/// Browsers offer it. Messages of [`min_size`](Self::min_size) bytes or more are compressed if that makes them
/// smaller. Incoming messages are inflated. [`Config::max_message_size`](crate::Config::max_message_size)
/// limits the inflated size, so a small frame cannot become a huge message.
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
/// # Limits for a peer
///
/// A message may end its deflate stream with a final block, and continue with another stream (RFC 7692
/// §7.2.3.4): some clients end a stream instead of flushing it. For each of its frames, a message may have 16
/// tiny streams, which inflate to fewer than 4 bytes. Further ones end the connection with
/// [`TooManyFinalBlocks`](crate::error::RecvError::TooManyFinalBlocks) and 1008. The number of longer streams
/// is not limited. Without the limit, half a million tiny streams would fit into a message of 1 MB, and cost
/// 120 times as much as stored data of that length.
///
/// # Security
///
/// Compression can leak content, because the length of a compressed message depends on repetitions in it.
/// Encryption hides the content, not the length. An attacker who can insert text into a message that also
/// contains a secret, and who can see the length of the frames, can find the secret by trial (the attacks CRIME
/// and BREACH). So:
///
/// - Send a message that contains both a secret and text of others with
///   [`WebSocket::send_uncompressed`](crate::WebSocket::send_uncompressed) or
///   [`Sender::send_uncompressed`](crate::Sender::send_uncompressed).
/// - Without context takeover, the default, each message is compressed by itself, and its length depends on no
///   other message. With context takeover, a secret in one message and the text of others in a later one can be
///   in the same window.
///
/// # Cost
///
/// The task of a connection compresses and inflates its messages, at most 128 KiB of each in one poll. So other
/// tasks can run during a large message. `send` and `try_send` do not wait for the compression. JSON of 16 KiB
/// takes about half a millisecond at the default level, and shrinks to a quarter.
///
/// A message of a room (feature `hub`) is compressed once for all members without context takeover that have the same
/// window and level. A task of the room does that, also 128 KiB at a time.
///
/// In [`Config::max_outbox`](crate::Config::max_outbox), a message counts with its length until it is
/// compressed, and with its compressed length after that.
///
/// Compressors and decompressors need memory:
///
/// | | Memory |
/// | --- | --- |
/// | decompressor, any window | 37 KiB |
/// | compressor, window of 9 bits | 188 KiB |
/// | compressor, window of 12 bits | 202 KiB |
/// | compressor, window of 15 bits | 314 KiB |
///
/// Without context takeover they are shared. A connection uses a compressor while a message is compressed,
/// and a decompressor from the first byte of a message to its last. An idle connection has neither, so it
/// needs no more memory than a connection without compression. Idle ones are kept for the next messages: as
/// many of each as the machine runs threads, or as many as are in use, if that is more. With context
/// takeover, a connection keeps its own from the first message in that direction until its end.
#[derive(Clone, Copy, Debug)]
pub struct Deflate {
    min_size: usize,
    level: u32,
    terms: Terms,
}

impl Deflate {
    /// Makes settings with the defaults that are documented at each method.
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

    /// Sets the minimum size of a message that is compressed, in bytes.
    ///
    /// Small messages gain little, and those that fit into one packet gain nothing. An empty message is never
    /// compressed. Default: 1 KiB.
    #[must_use]
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Sets the compression level, from 1, the fastest, to 9, the smallest output. A value below 1 counts as
    /// 1, a value above 9 as 9. Default: 6.
    #[must_use]
    pub const fn level(mut self, level: u32) -> Self {
        self.level = match level {
            0 => 1,
            1..=9 => level,
            _ => 9,
        };
        self
    }

    /// Sets the maximum window for sending, as the base-2 logarithm of its bytes, from 9 to 15. A value below 9
    /// counts as 9, a value above 15 as 15.
    ///
    /// The window is the maximum distance of a back reference. The peer may ask for a smaller one, but not
    /// for 8 bits, which zlib does not support: a client that does is served without compression, and
    /// connecting to a server that does fails. Default: 12, which is 4 KiB.
    #[must_use]
    pub const fn send_window_bits(mut self, bits: u8) -> Self {
        self.terms.send.window_bits = window_bits(bits);
        self
    }

    /// Sets the maximum window of the peer, as the base-2 logarithm of its bytes, from 9 to 15. A value below 9
    /// counts as 9, a value above 15 as 15.
    ///
    /// Less than 15 saves memory of the peer, but none of this side. A client that cannot limit its window is
    /// served without compression. Connecting to a server that compresses with a larger window fails. Default:
    /// 15, which is 32 KiB.
    #[must_use]
    pub const fn receive_window_bits(mut self, bits: u8) -> Self {
        self.terms.receive.window_bits = window_bits(bits);
        self
    }

    /// Lets a sent message refer to earlier ones, unless the peer asks not to.
    ///
    /// Similar small messages become much smaller. Lower [`min_size`](Self::min_size) for them. It costs memory
    /// until the end of the connection, and has consequences for [security](Self#security). Default: no.
    #[must_use]
    pub const fn send_context_takeover(mut self) -> Self {
        self.terms.send.context_takeover = true;
        self
    }

    /// Lets a message of the peer refer to earlier ones, if the peer wants to.
    ///
    /// It costs memory until the end of the connection. Default: no.
    #[must_use]
    pub const fn receive_context_takeover(mut self) -> Self {
        self.terms.receive.context_takeover = true;
        self
    }

    /// Accepts one of a client's offers. Returns `None` to decline all of them.
    pub(crate) fn accept(&self, headers: &HeaderMap) -> Option<(Deflation, HeaderValue)> {
        let (terms, answer) = self.terms.accept(headers)?;
        Some((self.agreed(terms), answer))
    }

    /// Makes the offer of a client.
    pub(crate) fn offer(&self) -> Option<HeaderValue> {
        self.terms.offer()
    }

    /// Reads the server's answer to [`offer`](Self::offer). Returns `None` if the server declined.
    ///
    /// # Errors
    ///
    /// [`Unacceptable`] if the connection has to be failed.
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
