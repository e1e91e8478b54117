//! The head of a frame: checked byte by byte, and refused at the first wrong byte.
//!
//! All rules about heads are checked here, before any payload is stored. The parser of tungstenite needs the
//! whole head and checks only half of the rules, so only its opcodes are used.

#[cfg(test)]
mod tests;

use tokio_tungstenite::tungstenite::protocol::frame::coding::{self, OpCode};

use super::{Control, Limits, Mask, Role, Violation, control, rules::HeadRules};

/// The length of the longest head: two bytes, eight of length, four of mask.
const MAX: usize = 14;

/// The bits of the first byte that are reserved for extensions.
const RESERVED_BITS: u8 = 0x70;
/// The bit of permessage-deflate: it marks the first frame of a compressed message (RFC 7692 §6).
const COMPRESSED: u8 = 0x40;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The first frame of a message. It is usually the only one.
    Start(DataKind),
    /// The first frame of a compressed message.
    Compressed(DataKind),
    /// A later frame of a message.
    Continuation,
    /// A control frame. It may come between the frames of a message.
    Control(ControlKind),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DataKind {
    Text,
    Binary,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ControlKind {
    Close,
    Ping,
    Pong,
}

/// A valid head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) last: bool,
    pub(super) kind: Kind,
    /// The length of the payload, within the limits.
    pub(super) len: usize,
    pub(super) mask: Mask,
}

/// The message in progress: the next frame is checked against it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Progress {
    /// Bytes so far, within the limit. For a compressed message, the compressed bytes.
    pub(super) len: usize,
    pub(super) compressed: bool,
    /// Frames so far.
    pub(super) fragments: u32,
    /// Empty frames so far.
    pub(super) empty_fragments: u32,
}

/// The first bytes of an incomplete head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Partial {
    bytes: [u8; MAX],
    len: u8,
}

impl Partial {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a head off the front of `input`. If the head is incomplete, stores all of `input` and returns
    /// `None`.
    #[inline]
    pub(super) fn take(
        &mut self,
        input: &mut &[u8],
        rules: HeadRules<'_>,
        message: Option<Progress>,
    ) -> Result<Option<Head>, Violation> {
        if !self.is_empty() {
            return self.resume(input, rules, message);
        }
        if let Some((head, len)) = parse(input, rules, message)? {
            *input = &input[len..];
            return Ok(Some(head));
        }
        self.hold(input);
        Ok(None)
    }

    // A function of its own keeps the usual case small and in registers.
    #[cold]
    fn resume(
        &mut self,
        input: &mut &[u8],
        rules: HeadRules<'_>,
        message: Option<Progress>,
    ) -> Result<Option<Head>, Violation> {
        let held = usize::from(self.len);
        let all = *input;
        self.hold(input);
        let bytes = &self.bytes[..usize::from(self.len)];
        let Some((head, len)) = parse(bytes, rules, message)? else {
            return Ok(None);
        };
        // The head ends in `input`, because the stored bytes were incomplete.
        *input = &all[len - held..];
        self.len = 0;
        Ok(Some(head))
    }

    /// Stores bytes from the front of `input`: all of them if the head is incomplete.
    fn hold(&mut self, input: &mut &[u8]) {
        let held = usize::from(self.len);
        let (added, rest) = input.split_at(input.len().min(MAX - held));
        self.bytes[held..held + added.len()].copy_from_slice(added);
        self.len += added.len() as u8;
        *input = rest;
    }
}

/// Reads the head at the front of `bytes`, and its length. Returns `None` if it is incomplete.
///
/// The rules are checked in the order of the bytes: an incomplete head is refused as soon as the whole head
/// would be, and for the same reason.
// Inlined, because returning the nested result through memory costs more than the parsing.
#[inline(always)]
fn parse(
    bytes: &[u8],
    rules: HeadRules<'_>,
    message: Option<Progress>,
) -> Result<Option<(Head, usize)>, Violation> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let (last, kind) = check_first(first, rules, message)?;
    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    check_second(second, last, kind, rules, message)?;

    let width = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let len = if width == 0 {
        let len = u64::from(second & 0x7f);
        check_len(len, len, 0, kind, rules, message)?;
        len
    } else {
        let available = &bytes[2..bytes.len().min(2 + width)];
        if available.is_empty() {
            return Ok(None);
        }
        let missing = 8 * (width - available.len());
        let known = available.iter().fold(0, |len, &b| len << 8 | u64::from(b)) << missing;
        let min = match width {
            2 => 126,
            _ => 0x1_0000,
        };
        check_len(
            known,
            known | ((1 << missing) - 1),
            min,
            kind,
            rules,
            message,
        )?;
        if missing > 0 {
            return Ok(None);
        }
        known
    };

    let (mask, end) = match rules.role {
        Role::Client => (Mask::NONE, 2 + width),
        Role::Server => {
            let end = 2 + width + 4;
            let Some(&[a, b, c, d]) = bytes.get(end - 4..end) else {
                return Ok(None);
            };
            (Mask::new([a, b, c, d]), end)
        }
    };
    let head = Head {
        last,
        kind,
        // Cannot fail: the length is within a limit of type usize.
        len: usize::try_from(len).map_err(|_| Violation::TooLarge)?,
        mask,
    };
    Ok(Some((head, end)))
}

/// Fast path: reads the head of a client's message in one frame, uncompressed and shorter than 64 KiB.
///
/// Returns kind, mask, length of the head, and length of the payload, which is not checked against the limits.
/// If this returns `None`, [`Partial::take`] has to read the head: it may be valid or not.
#[inline]
pub(super) fn parse_fast(bytes: &[u8]) -> Option<(DataKind, Mask, usize, usize)> {
    // One load takes fewer instructions than byte by byte.
    let head = match bytes.first_chunk() {
        Some(head) => u64::from_le_bytes(*head),
        None => u64::from_le_bytes(padded(bytes)?),
    };
    let kind = match head as u8 {
        0x81 => DataKind::Text,
        0x82 => DataKind::Binary,
        _ => return None,
    };
    let (len, key, end) = match (head >> 8) as u8 {
        second @ 0x80..=0xfd => (usize::from(second & 0x7f), head >> 16, 6),
        0xfe if bytes.len() >= 8 => {
            let len = usize::from(((head >> 16) as u16).swap_bytes());
            (Some(len).filter(|&len| len > 125)?, head >> 32, 8)
        }
        _ => return None,
    };
    let mask = Mask::new((key as u32).to_le_bytes());
    Some((kind, mask, end, len))
}

/// Pads an input of fewer than 8 bytes, or returns `None` if it is shorter than the shortest head of a client.
#[cold]
fn padded(bytes: &[u8]) -> Option<[u8; 8]> {
    let head = *bytes.first_chunk::<6>()?;
    let [a, b, c, d, e, f] = head;
    Some([a, b, c, d, e, f, 0, 0])
}

#[inline]
fn check_first(
    first: u8,
    rules: HeadRules<'_>,
    message: Option<Progress>,
) -> Result<(bool, Kind), Violation> {
    // RFC 6455 §5.2.
    let reserved = first & RESERVED_BITS;
    let compressed = reserved == COMPRESSED && rules.compression;
    if reserved != 0 && !compressed {
        return Err(Violation::Protocol("a reserved bit is set"));
    }
    let last = first & 0x80 != 0;
    let kind = match OpCode::from(first & 0x0f) {
        OpCode::Data(coding::Data::Text) if compressed => Kind::Compressed(DataKind::Text),
        OpCode::Data(coding::Data::Binary) if compressed => Kind::Compressed(DataKind::Binary),
        _ if compressed => return Err(Violation::Protocol("a reserved bit is set")),
        OpCode::Data(coding::Data::Text) => Kind::Start(DataKind::Text),
        OpCode::Data(coding::Data::Binary) => Kind::Start(DataKind::Binary),
        OpCode::Data(coding::Data::Continue) => Kind::Continuation,
        OpCode::Control(coding::Control::Close) => Kind::Control(ControlKind::Close),
        OpCode::Control(coding::Control::Ping) => Kind::Control(ControlKind::Ping),
        OpCode::Control(coding::Control::Pong) => Kind::Control(ControlKind::Pong),
        OpCode::Data(coding::Data::Reserved(_)) | OpCode::Control(coding::Control::Reserved(_)) => {
            return Err(Violation::Protocol("the opcode is reserved"));
        }
    };
    match (kind, message) {
        // RFC 6455 §5.5.
        (Kind::Control(_), _) if !last => Err(Violation::Protocol("a control frame is fragmented")),
        // RFC 6455 §5.4.
        (Kind::Start(_) | Kind::Compressed(_), Some(_)) => Err(Violation::Protocol(
            "a message begins before the last one ended",
        )),
        (Kind::Continuation, None) => Err(Violation::Protocol("a continuation without a message")),
        (Kind::Continuation, Some(message)) if message.fragments >= rules.limits.fragments => {
            Err(Violation::TooManyFragments)
        }
        _ => Ok((last, kind)),
    }
}

#[inline]
fn check_second(
    second: u8,
    last: bool,
    kind: Kind,
    rules: HeadRules<'_>,
    message: Option<Progress>,
) -> Result<(), Violation> {
    // RFC 6455 §5.1.
    let masked = second & 0x80 != 0;
    match rules.role {
        Role::Server if !masked => {
            return Err(Violation::Protocol("a frame of a client is not masked"));
        }
        Role::Client if masked => {
            return Err(Violation::Protocol("a frame of a server is masked"));
        }
        Role::Server | Role::Client => {}
    }
    let len = second & 0x7f;
    match kind {
        // RFC 6455 §5.5.
        Kind::Control(_) if usize::from(len) > Control::MAX => Err(Violation::Protocol(
            "the payload of a control frame is over 125 bytes",
        )),
        Kind::Control(ControlKind::Close) if len == 1 => Err(control::TRUNCATED_CODE),
        Kind::Start(_) | Kind::Compressed(_) | Kind::Continuation if len == 0 && !last => {
            let before = message.map_or(0, |message| message.empty_fragments);
            if before >= rules.limits.empty_fragments {
                return Err(Violation::TooManyFragments);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Checks a length that lies between `low` and `high`, both included. They differ while its low bytes are missing.
///
/// `min` is the smallest length that needs this encoding.
#[inline]
fn check_len(
    low: u64,
    high: u64,
    min: u64,
    kind: Kind,
    rules: HeadRules<'_>,
    message: Option<Progress>,
) -> Result<(), Violation> {
    // RFC 6455 §5.2.
    if low >> 63 != 0 {
        return Err(Violation::Protocol("the length has its top bit set"));
    }
    if high < min {
        return Err(Violation::Protocol(
            "the length is written in more bytes than it needs",
        ));
    }
    if let Kind::Control(_) = kind {
        return Ok(());
    }
    let before = message.map_or(0, |message| message.len);
    let limits = rules.limits;
    let remaining = match (kind, message) {
        (Kind::Compressed(_), _)
        | (
            _,
            Some(Progress {
                compressed: true, ..
            }),
        ) => remaining_compressed(limits, before),
        _ => limits.message.saturating_sub(before).min(limits.frame),
    };
    if usize::try_from(low).is_ok_and(|low| low <= remaining) {
        Ok(())
    } else {
        Err(Violation::TooLarge)
    }
}

/// Returns how many more bytes of a compressed message may arrive.
// A function of its own keeps the usual case small.
#[cold]
fn remaining_compressed(limits: &Limits, before: usize) -> usize {
    let frame = if limits.frame < limits.message {
        limits.frame
    } else {
        compressed_limit(limits.frame)
    };
    compressed_limit(limits.message)
        .saturating_sub(before)
        .min(frame)
}

/// Returns the limit for the compressed form of a message of up to `limit` bytes. Deflate can also make a
/// message larger.
const fn compressed_limit(limit: usize) -> usize {
    limit.saturating_add(limit / 8).saturating_add(1024)
}
