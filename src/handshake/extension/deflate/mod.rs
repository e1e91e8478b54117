//! permessage-deflate: which terms two ends agree on
//! ([RFC 7692 §7.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1)).
//!
//! Decides on header fields alone, for both ends of a handshake: [`Terms::accept`] is the server's
//! part, [`Terms::offer`] and [`Terms::confirm`] are the client's. An offer is taken at its word or
//! declined, never mended; what is agreed on is at most what this end wants.

mod parameters;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use self::parameters::Parameters;
use super::Unacceptable;
use crate::words::header::elements;

/// The window of an end that says nothing about it, and the largest there is.
pub(crate) const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window that zlib compresses with: with 8 bits it makes no raw deflate.
pub(crate) const MIN_WINDOW_BITS: u8 = 9;

/// How messages are compressed in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Direction {
    /// Base-2 logarithm of how far back a compressor refers, at most.
    pub(crate) window_bits: u8,
    /// A message may refer to the ones before it.
    pub(crate) context_takeover: bool,
}

/// What an end wants, or what two ends agreed on; `send` and `receive` as this end sees them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Terms {
    /// The window is at least [`MIN_WINDOW_BITS`].
    pub(crate) send: Direction,
    pub(crate) receive: Direction,
}

/// The server's part.
impl Terms {
    /// Takes the first offer of a client that these terms allow, and returns what is agreed on with
    /// the field that says so to the client. `None` declines all of them.
    ///
    /// The order of the offers is the client's preference (RFC 7692 §5.1). One with a parameter
    /// that is unknown, repeated or has an illegal value is declined (§7.1), as is one that demands
    /// a window of 8 bits, or leaves the client a larger one than is wanted.
    pub(crate) fn accept(self, headers: &HeaderMap) -> Option<(Self, HeaderValue)> {
        elements(headers, &SEC_WEBSOCKET_EXTENSIONS)
            .filter_map(Parameters::of)
            .find_map(|offer| self.accept_one(offer.ok()?))
    }

    fn accept_one(self, offer: Parameters) -> Option<(Self, HeaderValue)> {
        let server_bits = offer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS);
        if server_bits < MIN_WINDOW_BITS {
            return None;
        }
        let client_bits = match offer.client_max_window_bits {
            // Without the parameter in the offer none may be in the answer (§7.1.2.2).
            None if self.receive.window_bits < MAX_WINDOW_BITS => return None,
            None => MAX_WINDOW_BITS,
            Some(bits) => bits
                .unwrap_or(MAX_WINDOW_BITS)
                .min(self.receive.window_bits),
        };
        let agreed = Self {
            send: Direction {
                window_bits: server_bits.min(self.send.window_bits),
                context_takeover: self.send.context_takeover && !offer.server_no_context_takeover,
            },
            receive: Direction {
                window_bits: client_bits,
                context_takeover: self.receive.context_takeover
                    && !offer.client_no_context_takeover,
            },
        };
        let answered_server_bits = Some(agreed.send.window_bits)
            .filter(|&bits| bits < MAX_WINDOW_BITS || offer.server_max_window_bits.is_some());
        let answer = Parameters {
            // Where it was not asked for, it lets the client do with less memory (§7.1.1.1).
            server_no_context_takeover: !agreed.send.context_takeover,
            client_no_context_takeover: !agreed.receive.context_takeover,
            server_max_window_bits: answered_server_bits,
            client_max_window_bits: Some(Some(client_bits))
                .filter(|_| client_bits < MAX_WINDOW_BITS),
        };
        Some((agreed, answer.into_field()?))
    }
}

/// The client's part.
impl Terms {
    /// Writes the offer that asks for these terms; `None` cannot happen to terms in their ranges.
    pub(crate) fn offer(self) -> Option<HeaderValue> {
        let send_bits = Some(self.send.window_bits).filter(|&bits| bits < MAX_WINDOW_BITS);
        Parameters {
            server_no_context_takeover: !self.receive.context_takeover,
            client_no_context_takeover: !self.send.context_takeover,
            server_max_window_bits: Some(self.receive.window_bits)
                .filter(|&bits| bits < MAX_WINDOW_BITS),
            // Always there, so that the server may ask for less.
            client_max_window_bits: Some(send_bits),
        }
        .into_field()
    }

    /// Reads a server's answer to [`offer`](Self::offer): what is agreed on, or `None` when the
    /// server declined.
    ///
    /// # Errors
    ///
    /// [`Unacceptable`] if the answer names another extension, or this one twice, or breaks the
    /// rules, or does not grant what was asked for; the connection is to be failed then
    /// (RFC 7692 §7.1, RFC 6455 §4.1). A window of 8 bits for this end counts as such, too.
    pub(crate) fn confirm(self, headers: &HeaderMap) -> Result<Option<Self>, Unacceptable> {
        let mut answers = elements(headers, &SEC_WEBSOCKET_EXTENSIONS);
        let Some(answer) = answers.next() else {
            // To decline is to leave the field out (RFC 6455 §9.1 has no empty list).
            return match headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
                true => Err(Unacceptable),
                false => Ok(None),
            };
        };
        let Some(Ok(answer)) = Parameters::of(answer) else {
            return Err(Unacceptable);
        };
        if answers.next().is_some() {
            return Err(Unacceptable);
        }
        let server_bits = answer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS);
        let client_bits = match answer.client_max_window_bits {
            // Only an offer may leave the value open (§7.1.2.2).
            Some(None) => return Err(Unacceptable),
            Some(Some(bits)) if bits > self.send.window_bits || bits < MIN_WINDOW_BITS => {
                return Err(Unacceptable);
            }
            Some(Some(bits)) => bits,
            None => self.send.window_bits,
        };
        let takeover_granted = self.receive.context_takeover || answer.server_no_context_takeover;
        if !takeover_granted || server_bits > self.receive.window_bits {
            return Err(Unacceptable);
        }
        Ok(Some(Self {
            send: Direction {
                window_bits: client_bits,
                context_takeover: self.send.context_takeover && !answer.client_no_context_takeover,
            },
            receive: Direction {
                window_bits: server_bits,
                context_takeover: !answer.server_no_context_takeover,
            },
        }))
    }
}
