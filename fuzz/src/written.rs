//! Parses and checks the frames that a server has written.

use std::str;

/// The messages, pongs and the Close of a stream.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Whether a message is text, and its payload.
    pub(crate) messages: Vec<(bool, Vec<u8>)>,
    pub(crate) pongs: Vec<Vec<u8>>,
    pub(crate) close: Option<Option<u16>>,
    /// Whether the last frame is incomplete.
    pub(crate) torn: bool,
}

impl Written {
    /// Parses the written bytes, which must follow the rules of RFC 6455 §5 for a server. With `compressed`,
    /// messages may be compressed. Their payload is not inflated.
    pub(crate) fn read(mut bytes: &[u8], compressed: bool) -> Self {
        let mut written = Self::default();
        while let Some(&first) = bytes.first() {
            assert!(written.close.is_none(), "{bytes:x?} after the Close");
            let is_compressed = first & 0x40 != 0;
            assert_eq!(first & 0x30, 0, "no extension has these bits");
            assert!(!is_compressed || compressed && matches!(first & 0x0f, 1 | 2));
            assert_ne!(first & 0x80, 0, "this server does not fragment");
            let Some((payload, rest)) = split_payload(bytes) else {
                written.torn = true;
                break;
            };
            bytes = rest;
            match first & 0x0f {
                0x1 => {
                    let is_text = is_compressed || str::from_utf8(payload).is_ok();
                    assert!(is_text, "text that is not UTF-8");
                    written.messages.push((true, payload.to_vec()));
                }
                0x2 => written.messages.push((false, payload.to_vec())),
                0x8 => written.close = Some(close_code(payload)),
                0x9 => assert!(payload.len() <= 125),
                0xa => {
                    assert!(payload.len() <= 125);
                    written.pongs.push(payload.to_vec());
                }
                opcode => panic!("opcode {opcode:x}"),
            }
        }
        written
    }
}

fn split_payload(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&second, rest) = frame[1..].split_first()?;
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (len, least, rest) = match second {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*len).into(), 126, rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*len), 0x1_0000, rest)
        }
        len => (len.into(), 0, rest),
    };
    assert!(len >= least, "the length is not in its shortest form");
    rest.split_at_checked(usize::try_from(len).ok()?)
}

fn close_code(payload: &[u8]) -> Option<u16> {
    assert!(payload.len() <= 125);
    assert_ne!(payload.len(), 1, "half a code");
    let (code, reason) = payload.split_first_chunk()?;
    let code = u16::from_be_bytes(*code);
    assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999));
    assert!(str::from_utf8(reason).is_ok());
    Some(code)
}
