//! The head of a frame: checked as its bytes come in, refused at the first that is wrong.
//!
//! All rules that a head can break are here, so that a payload is only kept when it may be.
//! tungstenite's parser wants the whole head and leaves out half of these rules; its opcodes serve.

use tokio_tungstenite::tungstenite::protocol::frame::coding::{self, OpCode};

use super::{Control, Limits, Mask, Role, Rules, Violation, control, deflate::compressed_limit};

/// Two bytes, eight of length, four of mask.
const MAX: usize = 14;

/// The bits of the first byte that an extension may give a meaning.
const RESERVED_BITS: u8 = 0x70;
/// The one with which permessage-deflate marks the first frame of a compressed message
/// (RFC 7692 §6).
const COMPRESSED: u8 = 0x40;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The first frame of a message, mostly the only one.
    Start(DataKind),
    /// The first frame of a message that is compressed.
    Compressed(DataKind),
    /// A further frame of a message.
    Continuation,
    /// A frame of its own that may stand between those of a message.
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

/// A head that keeps all rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) last: bool,
    pub(super) kind: Kind,
    /// Length of the payload, within the limits.
    pub(super) len: usize,
    pub(super) mask: Mask,
}

/// What the frames before say about the next one: the message in progress, if there is one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Progress {
    /// Bytes so far, within the limit; as they arrived, if it is compressed.
    pub(super) len: usize,
    pub(super) compressed: bool,
    /// Frames so far.
    pub(super) fragments: u32,
    /// Frames so far that were empty and not the last.
    pub(super) empty_fragments: u32,
}

/// The bytes of a head of which more are to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Partial {
    bytes: [u8; MAX],
    len: u8,
}

impl Partial {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a head off the front of `input`, or all of `input` when the head does not end there.
    ///
    /// After a head nothing is held of it.
    #[inline]
    pub(super) fn take(
        &mut self,
        input: &mut &[u8],
        rules: &Rules,
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

    // Apart, so that the usual case stays small and in registers.
    #[cold]
    fn resume(
        &mut self,
        input: &mut &[u8],
        rules: &Rules,
        message: Option<Progress>,
    ) -> Result<Option<Head>, Violation> {
        let held = usize::from(self.len);
        let all = *input;
        self.hold(input);
        let there = &self.bytes[..usize::from(self.len)];
        let Some((head, len)) = parse(there, rules, message)? else {
            return Ok(None);
        };
        // What was held before was no whole head, so this one ends in the input.
        *input = &all[len - held..];
        self.len = 0;
        Ok(Some(head))
    }

    /// Takes what fits off the front of `input`, which is all of it unless a head ends there.
    fn hold(&mut self, input: &mut &[u8]) {
        let held = usize::from(self.len);
        let (added, rest) = input.split_at(input.len().min(MAX - held));
        self.bytes[held..held + added.len()].copy_from_slice(added);
        self.len += added.len() as u8;
        *input = rest;
    }
}

/// Reads the head at the front of `bytes` and its length, `None` if there is only a part of it.
///
/// The rules are checked in the order of the bytes that decide them: a part is refused as soon as
/// the whole head would be, and for the same reason.
// Through memory, the nested result costs more than the parsing.
#[inline(always)]
fn parse(
    bytes: &[u8],
    rules: &Rules,
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
        let there = &bytes[2..bytes.len().min(2 + width)];
        if there.is_empty() {
            return Ok(None);
        }
        let missing = 8 * (width - there.len());
        let known = there.iter().fold(0, |len, &b| len << 8 | u64::from(b)) << missing;
        let least = match width {
            2 => 126,
            _ => 0x1_0000,
        };
        check_len(
            known,
            known | ((1 << missing) - 1),
            least,
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
        // Fits: it is within a limit that is a usize.
        len: usize::try_from(len).map_err(|_| Violation::TooLarge)?,
        mask,
    };
    Ok(Some((head, end)))
}

/// Reads the head that nearly every message of a client has: that of its only frame, uncompressed and
/// up to 64 KiB long. `None` says nothing: what it does not read may be right or wrong.
#[inline]
pub(super) fn usual(bytes: &[u8], limits: &Limits) -> Option<(DataKind, Mask, usize, usize)> {
    let &[first, second, c, d, e, f, ..] = bytes else {
        return None;
    };
    let kind = match first {
        0x81 => DataKind::Text,
        0x82 => DataKind::Binary,
        _ => return None,
    };
    let (len, key, end) = match second {
        0x80..=0xfd => (usize::from(second & 0x7f), [c, d, e, f], 6),
        0xfe => {
            let &[g, h] = bytes.get(6..8)? else {
                return None;
            };
            let len = usize::from(u16::from_be_bytes([c, d]));
            (Some(len).filter(|&len| len > 125)?, [e, f, g, h], 8)
        }
        _ => return None,
    };
    let fits = len <= limits.message && len <= limits.frame;
    fits.then_some((kind, Mask::new(key), end, len))
}

#[inline]
fn check_first(
    first: u8,
    rules: &Rules,
    message: Option<Progress>,
) -> Result<(bool, Kind), Violation> {
    // RFC 6455 §5.2.
    let reserved = first & RESERVED_BITS;
    let compressed = reserved == COMPRESSED && rules.deflation.is_some();
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
    rules: &Rules,
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
        Kind::Control(ControlKind::Close) if len == 1 => Err(control::HALF_A_CODE),
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

/// Checks a length of which is known that it lies between `low` and `high`, both included.
///
/// `least` is the smallest that needs that many bytes.
#[inline]
fn check_len(
    low: u64,
    high: u64,
    least: u64,
    kind: Kind,
    rules: &Rules,
    message: Option<Progress>,
) -> Result<(), Violation> {
    // RFC 6455 §5.2.
    if low >> 63 != 0 {
        return Err(Violation::Protocol("the length has its top bit set"));
    }
    if high < least {
        return Err(Violation::Protocol(
            "the length is written in more bytes than it needs",
        ));
    }
    if let Kind::Control(_) = kind {
        return Ok(());
    }
    let before = message.map_or(0, |message| message.len);
    let limits = &rules.limits;
    let room = match (kind, message) {
        (Kind::Compressed(_), _)
        | (
            _,
            Some(Progress {
                compressed: true, ..
            }),
        ) => room_for_compressed(limits, before),
        _ => limits.message.saturating_sub(before).min(limits.frame),
    };
    if usize::try_from(low).is_ok_and(|low| low <= room) {
        Ok(())
    } else {
        Err(Violation::TooLarge)
    }
}

/// Returns how much more may arrive of a compressed message: deflate can make one larger as well.
// Apart, so that the usual case stays small.
#[cold]
fn room_for_compressed(limits: &Limits, before: usize) -> usize {
    let frame = if limits.frame < limits.message {
        limits.frame
    } else {
        compressed_limit(limits.frame)
    };
    compressed_limit(limits.message)
        .saturating_sub(before)
        .min(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        role: Role::Server,
        limits: Limits {
            message: 100_000,
            frame: 70_000,
            fragments: 3,
            empty_fragments: 2,
            assembly: None,
        },
        deflation: None,
    };
    const OPEN: Progress = Progress {
        len: 0,
        compressed: false,
        fragments: 1,
        empty_fragments: 0,
    };
    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn head(bytes: &[u8]) -> Vec<u8> {
        [bytes, &MASK].concat()
    }

    /// Feeds byte by byte and returns the violation with the number of bytes it took, after
    /// having seen that the whole is refused for the same reason.
    #[track_caller]
    fn refused(bytes: &[u8], message: Option<Progress>) -> (Violation, usize) {
        let whole = head(bytes);
        let mut partial = Partial::default();
        for (at, byte) in whole.iter().enumerate() {
            match partial.take(&mut &[*byte][..], &RULES, message) {
                Ok(None) => {}
                Ok(Some(head)) => panic!("accepted {whole:x?} as {head:?}"),
                Err(violation) => {
                    for end in at + 1..=whole.len() {
                        let all = Partial::default().take(&mut &whole[..end], &RULES, message);
                        assert_eq!(all, Err(violation), "{:x?}", &whole[..end]);
                    }
                    return (violation, at + 1);
                }
            }
        }
        panic!("{whole:x?} is no whole head");
    }

    #[track_caller]
    fn accepted(bytes: &[u8], message: Option<Progress>) -> Head {
        let whole = head(bytes);
        let rest = [&whole[..], b"payload"].concat();
        let mut input = &rest[..];
        let all = Partial::default().take(&mut input, &RULES, message);
        assert_eq!(input, b"payload");
        let all = all.unwrap().unwrap();
        for cut in 1..whole.len() {
            let mut partial = Partial::default();
            let mut input = &rest[..cut];
            assert_eq!(partial.take(&mut input, &RULES, message), Ok(None));
            assert!(input.is_empty());
            assert!(!partial.is_empty());
            let mut input = &rest[cut..];
            assert_eq!(partial.take(&mut input, &RULES, message), Ok(Some(all)));
            assert_eq!(input, b"payload");
            assert!(partial.is_empty());
        }
        all
    }

    #[track_caller]
    fn refused_as_protocol(bytes: &[u8], message: Option<Progress>, rule: &str, at: usize) {
        match refused(bytes, message) {
            (Violation::Protocol(why), after) if why.contains(rule) && after == at => {}
            other => panic!("{bytes:x?}: {other:?} instead of {rule} at byte {at}"),
        }
    }

    #[test]
    fn refuses_reserved_bits_at_the_first_byte() {
        for bit in [0x40, 0x20, 0x10] {
            for opcode in [0, 1, 2, 8, 9, 10] {
                refused_as_protocol(&[0x80 | bit | opcode, 0x80], None, "reserved bit", 1);
            }
        }
    }

    #[test]
    fn refuses_reserved_opcodes_at_the_first_byte() {
        for opcode in (3..8).chain(11..16) {
            for fin in [0x80, 0] {
                refused_as_protocol(&[fin | opcode, 0x80], None, "opcode", 1);
                refused_as_protocol(&[fin | opcode, 0x80], Some(OPEN), "opcode", 1);
            }
        }
    }

    #[test]
    fn refuses_a_fragmented_control_frame_at_the_first_byte() {
        for opcode in [8, 9, 10] {
            refused_as_protocol(&[opcode, 0x80], None, "fragmented", 1);
        }
    }

    #[test]
    fn refuses_frames_that_do_not_follow_the_one_before_at_the_first_byte() {
        for fin in [0x80, 0] {
            refused_as_protocol(&[fin, 0x85], None, "continuation", 1);
            refused_as_protocol(&[fin | 1, 0x85], Some(OPEN), "begins", 1);
            refused_as_protocol(&[fin | 2, 0x85], Some(OPEN), "begins", 1);
        }
    }

    #[test]
    fn refuses_a_frame_that_is_not_masked_at_the_second_byte() {
        for opcode in [1, 2, 8, 9, 10] {
            refused_as_protocol(&[0x80 | opcode, 5], None, "masked", 2);
            refused_as_protocol(&[0x80 | opcode, 127], None, "masked", 2);
        }
    }

    #[test]
    fn takes_frames_of_a_server_without_a_mask_and_no_others() {
        let rules = Rules {
            role: Role::Client,
            ..RULES
        };
        let take = |mut bytes: &[u8]| {
            let head = Partial::default().take(&mut bytes, &rules, None)?;
            Ok((head, bytes.len()))
        };
        for (bytes, len) in [
            (&b"\x82\x05payload"[..], 5),
            (b"\x82\x7e\x01\x00payload", 256),
            (b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00payload", 65_536),
            (b"\x8a\x00payload", 0),
        ] {
            let (head, left) = take(bytes).unwrap();
            let head = head.unwrap();
            assert_eq!((head.len, head.mask, left), (len, Mask::NONE, 7));
        }
        for opcode in [1, 2, 8, 9, 10] {
            let rule = Violation::Protocol("a frame of a server is masked");
            assert_eq!(take(&[0x80 | opcode, 0x85]), Err(rule));
        }
    }

    #[test]
    fn refuses_a_long_control_frame_at_the_second_byte() {
        for opcode in [8, 9, 10] {
            refused_as_protocol(&[0x80 | opcode, 0xfe, 0, 126], None, "125", 2);
            refused_as_protocol(&[0x80 | opcode, 0xff], None, "125", 2);
            accepted(&[0x80 | opcode, 0xfd], None);
            accepted(&[0x80 | opcode, 0xfd], Some(OPEN));
        }
    }

    #[test]
    fn refuses_half_a_close_code_at_the_second_byte() {
        refused_as_protocol(&[0x88, 0x81], None, "half a code", 2);
    }

    #[test]
    fn refuses_a_length_in_too_many_bytes() {
        refused_as_protocol(&[0x82, 0xfe, 0, 125], None, "more bytes", 4);
        refused_as_protocol(&[0x82, 0xfe, 0, 0], None, "more bytes", 4);
        // Six zeros prove that two bytes would have done.
        let long = [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        refused_as_protocol(&long, None, "more bytes", 8);
        assert_eq!(accepted(&[0x82, 0xfd], None).len, 125);
        assert_eq!(accepted(&[0x82, 0xfe, 0, 126], None).len, 126);
        assert_eq!(accepted(&[0x82, 0xfe, 0xff, 0xff], None).len, 65_535);
        let long = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(accepted(&long, None).len, 65_536);
    }

    #[test]
    fn refuses_a_length_with_the_top_bit_at_its_first_byte() {
        let long = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1];
        refused_as_protocol(&long, None, "top bit", 3);
        refused_as_protocol(&[0x82, 0xff, 0xff, 0xff], None, "top bit", 3);
    }

    #[test]
    fn refuses_a_frame_over_the_limit_as_soon_as_it_is_certain() {
        let frame = |len: u64| [&[0x82, 0xff], &len.to_be_bytes()[..]].concat();
        assert_eq!(accepted(&frame(70_000), None).len, 70_000);
        assert_eq!(refused(&frame(70_001), None), (Violation::TooLarge, 10));
        assert_eq!(refused(&frame(0x01_12_00), None), (Violation::TooLarge, 9));
        assert_eq!(refused(&frame(1 << 56), None), (Violation::TooLarge, 3));
        assert_eq!(refused(&frame(1 << 62), None), (Violation::TooLarge, 3));
    }

    #[test]
    fn refuses_a_message_over_the_limit_as_soon_as_it_is_certain() {
        let before = |len| Some(Progress { len, ..OPEN });
        let frame = |len: u16| [&[0x80, 0xfe], &len.to_be_bytes()[..]].concat();
        assert_eq!(accepted(&frame(60_000), before(40_000)).len, 60_000);
        let over = refused(&frame(60_001), before(40_000));
        assert_eq!(over, (Violation::TooLarge, 4));
        let over = refused(&frame(60_001), before(99_000));
        assert_eq!(over, (Violation::TooLarge, 3));
        let over = refused(&[0x80, 0x82], before(99_999));
        assert_eq!(over, (Violation::TooLarge, 2));
        accepted(&[0x80, 0x80], before(100_000));
    }

    #[test]
    fn spares_control_frames_the_limits_of_messages() {
        let rules = Rules {
            limits: Limits {
                message: 0,
                frame: 0,
                fragments: 0,
                empty_fragments: 0,
                assembly: None,
            },
            ..RULES
        };
        let ping = head(&[0x89, 0xfd]);
        let head = Partial::default().take(&mut &ping[..], &rules, None);
        assert_eq!(head.unwrap().unwrap().len, 125);
    }

    #[test]
    fn refuses_a_fragment_too_many_at_the_first_byte() {
        let before = |fragments| Some(Progress { fragments, ..OPEN });
        accepted(&[0x00, 0x81], before(2));
        accepted(&[0x80, 0x81], before(2));
        for first in [0x00, 0x80] {
            let over = refused(&[first, 0x81], before(3));
            assert_eq!(over, (Violation::TooManyFragments, 1));
        }
        // A control frame is no fragment.
        accepted(&[0x89, 0x81], before(3));
    }

    #[test]
    fn refuses_an_empty_fragment_too_many_at_the_second_byte() {
        let before = |empty_fragments| {
            Some(Progress {
                empty_fragments,
                ..OPEN
            })
        };
        accepted(&[0x00, 0x80], before(1));
        let over = refused(&[0x00, 0x80], before(2));
        assert_eq!(over, (Violation::TooManyFragments, 2));
        // Neither the last one nor one with a payload counts.
        accepted(&[0x80, 0x80], before(2));
        accepted(&[0x00, 0x81], before(2));
        accepted(&[0x89, 0x80], before(2));
    }

    #[test]
    fn reads_what_a_head_says() {
        let expected = Head {
            last: true,
            kind: Kind::Start(DataKind::Text),
            len: 5,
            mask: Mask::new(MASK),
        };
        assert_eq!(accepted(&[0x81, 0x85], None), expected);
        let kinds = [
            (0x02, None, Kind::Start(DataKind::Binary)),
            (0x00, Some(OPEN), Kind::Continuation),
            (0x88, None, Kind::Control(ControlKind::Close)),
            (0x89, None, Kind::Control(ControlKind::Ping)),
            (0x8a, Some(OPEN), Kind::Control(ControlKind::Pong)),
        ];
        for (first, message, kind) in kinds {
            let head = accepted(&[first, 0x82], message);
            assert_eq!((head.kind, head.last), (kind, first & 0x80 != 0));
        }
    }
}
