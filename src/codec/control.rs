//! The payload of a control frame, and the checks for the payload of a Close.

use std::{fmt, ops::Deref, str};

use crate::words::{CloseCode, CloseFrame};

use super::{Violation, utf8};

/// The payload of a control frame: at most 125 bytes, stored inline.
///
/// Source: [RFC 6455 §5.5](https://www.rfc-editor.org/rfc/rfc6455#section-5.5).
#[derive(Clone, Copy)]
pub(crate) struct Control {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Control {
    /// The maximum length of a payload, in bytes.
    pub(crate) const MAX: usize = 125;

    pub(super) const fn empty() -> Self {
        Self {
            len: 0,
            bytes: [0; Self::MAX],
        }
    }

    /// Appends bytes and returns them for unmasking. They fit, because the head has been checked.
    pub(super) fn append(&mut self, bytes: &[u8]) -> &mut [u8] {
        let start = usize::from(self.len);
        let added = &mut self.bytes[start..start + bytes.len()];
        added.copy_from_slice(bytes);
        // Cannot overflow: the slice above ends within MAX.
        self.len += bytes.len() as u8;
        added
    }
}

impl Deref for Control {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for Control {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Control {}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Reads the payload of a Close. Returns `None` if it is empty.
pub(super) fn close(payload: &[u8]) -> Result<Option<CloseFrame>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    let code = check_start_of_close(payload)?.ok_or(TRUNCATED_CODE)?;
    let reason = str::from_utf8(&payload[2..]).map_err(|_| Violation::InvalidUtf8)?;
    CloseFrame::new(code, reason)
        .map(Some)
        .map_err(|_| Violation::Protocol("the reason of a close is over 123 bytes"))
}

/// Checks the first bytes of the payload of a Close. Returns the code, or `None` if it is incomplete.
pub(super) fn check_start_of_close(payload: &[u8]) -> Result<Option<CloseCode>, Violation> {
    let [high, low, reason @ ..] = payload else {
        return Ok(None);
    };
    // RFC 6455 §7.4.1, §7.4.2.
    let code = CloseCode::new(u16::from_be_bytes([*high, *low]))
        .map_err(|_| Violation::Protocol("the close code may not be sent"))?;
    utf8::check_start(reason)?;
    Ok(Some(code))
}

/// The payload of a Close has one byte (RFC 6455 §5.5.1).
pub(super) const TRUNCATED_CODE: Violation =
    Violation::Protocol("the payload of a close is one byte, half a code");

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(code: u16, reason: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes(), reason].concat()
    }

    #[test]
    fn accepts_only_legal_codes() {
        for code in 0..=u16::MAX {
            let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            match close(&payload(code, b"why")) {
                Ok(Some(frame)) => {
                    assert!(legal, "code {code}");
                    assert_eq!((frame.code().get(), frame.reason()), (code, "why"));
                }
                Err(Violation::Protocol(_)) => assert!(!legal, "code {code}"),
                other => panic!("code {code}: {other:?}"),
            }
        }
    }

    #[test]
    fn accepts_an_empty_close() {
        assert_eq!(close(b""), Ok(None));
    }

    #[test]
    fn refuses_a_close_of_one_byte() {
        assert_eq!(close(b"\x03"), Err(TRUNCATED_CODE));
    }

    #[test]
    fn refuses_a_reason_that_is_not_utf8() {
        for reason in [&b"\xff"[..], b"caf\xc3"] {
            let payload = payload(1000, reason);
            assert_eq!(close(&payload), Err(Violation::InvalidUtf8), "{reason:x?}");
        }
    }

    #[test]
    fn accepts_the_longest_reason() {
        let reason = "x".repeat(123);
        let frame = close(&payload(1000, reason.as_bytes())).unwrap().unwrap();
        assert_eq!(frame.reason(), reason);
    }
}
