//! permessage-deflate: which terms two ends agree on
//! ([RFC 7692 §7.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1)).
//!
//! Decides on header fields alone, for both ends of a handshake: [`Terms::accept`] is the server's
//! part, [`Terms::offer`] and [`Terms::confirm`] are the client's. An offer is taken at its word or
//! declined, never mended; what is agreed on is at most what this end wants.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use super::{Malformed, Parameter, Unacceptable, offer};
use crate::header::elements;

const NAME: &str = "permessage-deflate";

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

/// The parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// An offer may name it without a value.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Reads an element of the list; `None` if it is about another extension.
    fn of(element: &[u8]) -> Option<Result<Self, Malformed>> {
        match offer(element) {
            Ok((NAME, parameters)) => Some(Self::read(parameters)),
            Ok(_) => None,
            Err(malformed) => Some(Err(malformed)),
        }
    }

    fn read<'a>(
        parameters: impl Iterator<Item = Result<Parameter<'a>, Malformed>>,
    ) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for parameter in parameters {
            let (name, value) = parameter?;
            let value = value.as_deref();
            let repeated = match name {
                "server_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut read.server_no_context_takeover, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut read.client_no_context_takeover, true)
                }
                "server_max_window_bits" => {
                    let bits = window_bits(value.ok_or(Malformed)?)?;
                    read.server_max_window_bits.replace(bits).is_some()
                }
                "client_max_window_bits" => {
                    let bits = value.map(window_bits).transpose()?;
                    read.client_max_window_bits.replace(bits).is_some()
                }
                _ => return Err(Malformed),
            };
            if repeated {
                return Err(Malformed);
            }
        }
        Ok(read)
    }

    fn into_field(self) -> Option<HeaderValue> {
        let mut field = NAME.to_owned();
        for (name, present) in [
            (
                "server_no_context_takeover",
                self.server_no_context_takeover,
            ),
            (
                "client_no_context_takeover",
                self.client_no_context_takeover,
            ),
        ] {
            if present {
                field.push_str("; ");
                field.push_str(name);
            }
        }
        for (name, bits) in [
            (
                "server_max_window_bits",
                self.server_max_window_bits.map(Some),
            ),
            ("client_max_window_bits", self.client_max_window_bits),
        ] {
            match bits {
                Some(Some(bits)) => write!(field, "; {name}={bits}").ok()?,
                Some(None) => write!(field, "; {name}").ok()?,
                None => {}
            }
        }
        HeaderValue::try_from(field).ok()
    }
}

/// A decimal number from 8 to 15 without leading zeros (RFC 7692 §7.1.2).
fn window_bits(value: &str) -> Result<u8, Malformed> {
    match value {
        "8" => Ok(8),
        "9" => Ok(9),
        "10" => Ok(10),
        "11" => Ok(11),
        "12" => Ok(12),
        "13" => Ok(13),
        "14" => Ok(14),
        "15" => Ok(15),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn direction(window_bits: u8, context_takeover: bool) -> Direction {
        Direction {
            window_bits,
            context_takeover,
        }
    }

    /// All that a client can ask for is granted.
    const OPEN: Terms = Terms {
        send: direction(15, true),
        receive: direction(15, true),
    };
    /// The defaults.
    const CLOSED: Terms = Terms {
        send: direction(12, false),
        receive: direction(15, false),
    };

    fn headers(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| {
                let value = HeaderValue::from_str(line).unwrap();
                (SEC_WEBSOCKET_EXTENSIONS, value)
            })
            .collect()
    }

    fn accepted(terms: Terms, lines: &[&str]) -> Option<(Terms, String)> {
        let (agreed, answer) = terms.accept(&headers(lines))?;
        Some((agreed, answer.to_str().unwrap().to_owned()))
    }

    #[test]
    fn answers_each_parameter_as_the_rfc_asks() {
        let agreed = |send, receive| Terms { send, receive };
        for (terms, offer, expected, answer) in [
            (OPEN, "", OPEN, ""),
            (OPEN, "; client_max_window_bits", OPEN, ""),
            (OPEN, "; client_max_window_bits=15", OPEN, ""),
            (
                OPEN,
                "; client_max_window_bits=8",
                agreed(direction(15, true), direction(8, true)),
                "; client_max_window_bits=8",
            ),
            (
                OPEN,
                "; server_max_window_bits=15",
                OPEN,
                "; server_max_window_bits=15",
            ),
            (
                OPEN,
                "; server_max_window_bits=\"9\"",
                agreed(direction(9, true), direction(15, true)),
                "; server_max_window_bits=9",
            ),
            (
                OPEN,
                "; server_no_context_takeover",
                agreed(direction(15, false), direction(15, true)),
                "; server_no_context_takeover",
            ),
            (
                OPEN,
                "; client_no_context_takeover",
                agreed(direction(15, true), direction(15, false)),
                "; client_no_context_takeover",
            ),
            (
                CLOSED,
                "",
                CLOSED,
                "; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=12",
            ),
            (
                CLOSED,
                "; client_max_window_bits=10; server_max_window_bits=14",
                agreed(direction(12, false), direction(10, false)),
                "; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=12; client_max_window_bits=10",
            ),
            (
                Terms {
                    receive: direction(11, true),
                    ..OPEN
                },
                "; client_max_window_bits",
                agreed(direction(15, true), direction(11, true)),
                "; client_max_window_bits=11",
            ),
        ] {
            let offer = format!("permessage-deflate{offer}");
            let answer = format!("permessage-deflate{answer}");
            let expected = Some((expected, answer));
            assert_eq!(accepted(terms, &[&offer]), expected, "{offer}");
        }
    }

    #[test]
    fn declines_an_offer_that_breaks_a_rule() {
        for parameters in [
            "unknown",
            "unknown=1",
            "Server_no_context_takeover",
            "server_no_context_takeover=1",
            "server_no_context_takeover=true",
            "client_no_context_takeover=\"\"",
            "client_no_context_takeover=0",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=010",
            "server_max_window_bits=+10",
            "server_max_window_bits=-9",
            "server_max_window_bits=1e1",
            "server_max_window_bits=0",
            "server_max_window_bits=266",
            "server_max_window_bits=ten",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=008",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits; client_max_window_bits=10",
            // Legal, but zlib cannot do it.
            "server_max_window_bits=8",
        ] {
            let offer = format!("permessage-deflate; {parameters}");
            assert_eq!(accepted(OPEN, &[&offer]), None, "{offer}");
            let with_another = format!("{offer}, permessage-deflate; server_max_window_bits=10");
            let (agreed, _) = accepted(OPEN, &[&with_another]).unwrap();
            assert_eq!(agreed.send.window_bits, 10, "{with_another}");
        }
    }

    #[test]
    fn declines_a_client_that_cannot_keep_to_a_smaller_window() {
        let terms = Terms {
            receive: direction(14, true),
            ..OPEN
        };
        assert_eq!(accepted(terms, &["permessage-deflate"]), None);
        assert!(accepted(terms, &["permessage-deflate; client_max_window_bits"]).is_some());
    }

    #[test]
    fn takes_the_first_offer_that_it_can() {
        for (lines, bits) in [
            (
                &["permessage-deflate; server_max_window_bits=10, permessage-deflate"][..],
                10,
            ),
            (
                &["permessage-deflate, permessage-deflate; server_max_window_bits=10"],
                15,
            ),
            (
                &[
                    "foo; server_max_window_bits=9",
                    "permessage-deflate; server_max_window_bits=11",
                ],
                11,
            ),
            (&["foo", "permessage-deflate; x, permessage-deflate"], 15),
        ] {
            let (agreed, _) = accepted(OPEN, lines).unwrap();
            assert_eq!(agreed.send.window_bits, bits, "{lines:?}");
        }
    }

    #[test]
    fn does_not_take_another_extension_for_its_own() {
        for lines in [
            &[][..],
            &["foo"],
            &["x-webkit-deflate-frame"],
            &["permessage-bzip2"],
            &["Permessage-Deflate"],
        ] {
            assert_eq!(accepted(OPEN, lines), None, "{lines:?}");
        }
    }

    #[test]
    fn offers_what_it_wants() {
        for (terms, offer) in [
            (OPEN, "permessage-deflate; client_max_window_bits"),
            (
                CLOSED,
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 client_max_window_bits=12",
            ),
            (
                Terms {
                    receive: direction(10, true),
                    ..OPEN
                },
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits",
            ),
        ] {
            assert_eq!(terms.offer().unwrap(), offer);
        }
    }

    #[test]
    fn both_ends_agree_on_the_same() {
        let mut ends = Vec::new();
        for send in 9..=15 {
            for receive in 9..=15 {
                for takeover in 0..4 {
                    ends.push(Terms {
                        send: direction(send, takeover & 1 != 0),
                        receive: direction(receive, takeover & 2 != 0),
                    });
                }
            }
        }
        for client in &ends {
            let mut offer = HeaderMap::new();
            offer.insert(SEC_WEBSOCKET_EXTENSIONS, client.offer().unwrap());
            for server in &ends {
                let (agreed, answer) = server.accept(&offer).unwrap();
                let mut headers = HeaderMap::new();
                headers.insert(SEC_WEBSOCKET_EXTENSIONS, answer.clone());
                let confirmed = client.confirm(&headers).unwrap().unwrap();
                let case = format!("{client:?} {server:?} {answer:?}");
                assert_eq!(
                    confirmed.send.context_takeover, agreed.receive.context_takeover,
                    "{case}"
                );
                assert_eq!(confirmed.receive, agreed.send, "{case}");
                assert!(
                    confirmed.send.window_bits <= agreed.receive.window_bits,
                    "{case}"
                );
                for (end, wanted) in [(confirmed, client), (agreed, server)] {
                    for (got, wanted) in [(end.send, wanted.send), (end.receive, wanted.receive)] {
                        assert!(got.window_bits <= wanted.window_bits, "{case}");
                        assert!(!got.context_takeover || wanted.context_takeover, "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn reads_the_answer_of_a_server() {
        let confirm = |terms: Terms, lines: &[&str]| terms.confirm(&headers(lines));
        assert_eq!(confirm(CLOSED, &[]), Ok(None), "declined");
        assert_eq!(confirm(OPEN, &["permessage-deflate"]), Ok(Some(OPEN)));
        let answer = "permessage-deflate; server_no_context_takeover; server_max_window_bits=8; \
                      client_no_context_takeover; client_max_window_bits=9";
        let agreed = Terms {
            send: direction(9, false),
            receive: direction(8, false),
        };
        assert_eq!(confirm(OPEN, &[answer]), Ok(Some(agreed)));
    }

    #[test]
    fn fails_the_handshake_for_an_answer_that_was_not_offered() {
        for (terms, lines) in [
            (OPEN, &["foo"][..]),
            (OPEN, &["permessage-deflate, foo"]),
            (OPEN, &["permessage-deflate, permessage-deflate"]),
            (OPEN, &["permessage-deflate", "permessage-deflate"]),
            (OPEN, &["permessage-deflate; unknown"]),
            (OPEN, &["permessage-deflate; server_no_context_takeover=1"]),
            (OPEN, &["permessage-deflate; server_max_window_bits"]),
            (OPEN, &["permessage-deflate; client_max_window_bits"]),
            (OPEN, &["permessage-deflate; client_max_window_bits=8"]),
            (OPEN, &["permessage-deflate; client_max_window_bits=16"]),
            (OPEN, &["permessage-deflate; x=\"a b\""]),
            // Offered, and not granted.
            (CLOSED, &["permessage-deflate"]),
            (
                CLOSED,
                &["permessage-deflate; server_no_context_takeover; client_max_window_bits=13"],
            ),
            (
                Terms {
                    receive: direction(10, true),
                    ..OPEN
                },
                &["permessage-deflate; server_max_window_bits=11"],
            ),
            (
                Terms {
                    receive: direction(10, true),
                    ..OPEN
                },
                &["permessage-deflate"],
            ),
        ] {
            let answer = terms.confirm(&headers(lines));
            assert_eq!(answer, Err(Unacceptable), "{lines:?}");
        }
    }
}
