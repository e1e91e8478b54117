//! permessage-deflate: the negotiation of its parameters
//! ([RFC 7692 §7.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1)).
//!
//! The server uses [`Terms::accept`], the client [`Terms::offer`] and [`Terms::confirm`]. They work on header
//! fields alone. A malformed offer is declined, not repaired. The agreed terms never exceed the terms that
//! this end wants.

mod parameters;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use self::parameters::Parameters;
use super::Unacceptable;
use crate::words::header::elements;

/// The largest window, and the default of an end that names none.
pub(crate) const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window for compression: zlib makes no raw deflate with 8 bits.
pub(crate) const MIN_WINDOW_BITS: u8 = 9;

/// The terms for the messages in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Direction {
    /// Base-2 logarithm of the window: the maximum distance of a back reference, in bytes.
    pub(crate) window_bits: u8,
    /// A message may refer to earlier ones.
    pub(crate) context_takeover: bool,
}

/// The terms that one end wants, or that both ends agreed on. `send` and `receive` are those of this end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Terms {
    /// The window is at least [`MIN_WINDOW_BITS`].
    pub(crate) send: Direction,
    pub(crate) receive: Direction,
}

/// The server side.
impl Terms {
    /// Accepts the first offer that these terms allow. Returns the agreed terms and the field for the
    /// response, or `None` if all offers are declined.
    ///
    /// The offers are in the order of the client's preference (RFC 7692 §5.1). An offer is declined if a
    /// parameter is unknown, repeated, or has an illegal value (§7.1). It is also declined if it demands a
    /// window of 8 bits, or if the client cannot use a window as small as these terms want.
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
            // Without the parameter in the offer, the answer must not have it (§7.1.2.2).
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
            // Allowed even if the client did not ask for it: the client then needs less memory (§7.1.1.1).
            server_no_context_takeover: !agreed.send.context_takeover,
            client_no_context_takeover: !agreed.receive.context_takeover,
            server_max_window_bits: answered_server_bits,
            client_max_window_bits: Some(Some(client_bits))
                .filter(|_| client_bits < MAX_WINDOW_BITS),
        };
        Some((agreed, answer.into_field()?))
    }
}

/// The client side.
impl Terms {
    /// Makes the offer for these terms. Never returns `None` for valid terms.
    pub(crate) fn offer(self) -> Option<HeaderValue> {
        let send_bits = Some(self.send.window_bits).filter(|&bits| bits < MAX_WINDOW_BITS);
        Parameters {
            server_no_context_takeover: !self.receive.context_takeover,
            client_no_context_takeover: !self.send.context_takeover,
            server_max_window_bits: Some(self.receive.window_bits)
                .filter(|&bits| bits < MAX_WINDOW_BITS),
            // Always present: it lets the server choose a smaller window.
            client_max_window_bits: Some(send_bits),
        }
        .into_field()
    }

    /// Reads the server's answer to [`offer`](Self::offer). Returns the agreed terms, or `None` if the server
    /// declined.
    ///
    /// # Errors
    ///
    /// [`Unacceptable`] if the answer names another extension, names this one twice, breaks a rule, does not
    /// grant the offered terms, or asks this end for a window of 8 bits. The connection has to be failed
    /// then (RFC 7692 §7.1, RFC 6455 §4.1).
    pub(crate) fn confirm(self, headers: &HeaderMap) -> Result<Option<Self>, Unacceptable> {
        let mut answers = elements(headers, &SEC_WEBSOCKET_EXTENSIONS);
        let Some(answer) = answers.next() else {
            // A server declines by omitting the field. An empty list is invalid (RFC 6455 §9.1).
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
            // Only an offer may omit the value (§7.1.2.2).
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
