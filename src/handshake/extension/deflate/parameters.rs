//! Reads and writes the parameters of permessage-deflate in the header field.

use std::{fmt::Write, mem};

use http::HeaderValue;

use crate::handshake::extension::{Malformed, Parameter, offer};

const NAME: &str = "permessage-deflate";

/// The parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parameters {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_max_window_bits: Option<u8>,
    /// `Some(None)` if it has no value, which is allowed in an offer.
    pub(super) client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Reads an element of the list. Returns `None` if it names another extension.
    pub(super) fn of(element: &[u8]) -> Option<Result<Self, Malformed>> {
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
                    mem::replace(&mut read.server_no_context_takeover, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    mem::replace(&mut read.client_no_context_takeover, true)
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

    pub(super) fn into_field(self) -> Option<HeaderValue> {
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

/// Reads a decimal number from 8 to 15 without leading zeros (RFC 7692 §7.1.2).
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
