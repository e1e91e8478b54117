use std::time::Duration;

use super::*;

const RULES: HeadRules<'static> = HeadRules {
    role: Role::Server,
    limits: &Limits {
        message: 100_000,
        frame: 70_000,
        fragments: 3,
        empty_fragments: 2,
        assembly: Duration::MAX,
    },
    compression: false,
};
/// A message after its first fragment.
const UNFINISHED: Progress = Progress {
    len: 0,
    compressed: false,
    fragments: 1,
    empty_fragments: 0,
};
const MASK: [u8; 4] = [1, 2, 3, 4];

fn head(bytes: &[u8]) -> Vec<u8> {
    [bytes, &MASK].concat()
}

/// Feeds a head byte by byte until it is refused. Returns the violation and the number of bytes fed by then. Asserts
/// that any larger part of the head is refused with the same violation.
#[track_caller]
fn refused(bytes: &[u8], message: Option<Progress>) -> (Violation, usize) {
    let whole = head(bytes);
    let mut partial = Partial::default();
    for (at, byte) in whole.iter().enumerate() {
        match partial.take(&mut &[*byte][..], RULES, message) {
            Ok(None) => {}
            Ok(Some(head)) => panic!("accepted {whole:x?} as {head:?}"),
            Err(violation) => {
                for end in at + 1..=whole.len() {
                    let all = Partial::default().take(&mut &whole[..end], RULES, message);
                    assert_eq!(all, Err(violation), "{:x?}", &whole[..end]);
                }
                return (violation, at + 1);
            }
        }
    }
    panic!("{whole:x?} is an incomplete head");
}

#[track_caller]
fn accepted(bytes: &[u8], message: Option<Progress>) -> Head {
    let whole = head(bytes);
    let rest = [&whole[..], b"payload"].concat();
    let mut input = &rest[..];
    let all = Partial::default().take(&mut input, RULES, message);
    assert_eq!(input, b"payload");
    let all = all.unwrap().unwrap();
    for cut in 1..whole.len() {
        let mut partial = Partial::default();
        let mut input = &rest[..cut];
        assert_eq!(partial.take(&mut input, RULES, message), Ok(None));
        assert!(input.is_empty());
        assert!(!partial.is_empty());
        let mut input = &rest[cut..];
        assert_eq!(partial.take(&mut input, RULES, message), Ok(Some(all)));
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
            refused_as_protocol(&[fin | opcode, 0x80], Some(UNFINISHED), "opcode", 1);
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
fn refuses_a_frame_out_of_order_at_the_first_byte() {
    for fin in [0x80, 0] {
        refused_as_protocol(&[fin, 0x85], None, "continuation", 1);
        refused_as_protocol(&[fin | 1, 0x85], Some(UNFINISHED), "begins", 1);
        refused_as_protocol(&[fin | 2, 0x85], Some(UNFINISHED), "begins", 1);
    }
}

#[test]
fn refuses_an_unmasked_frame_of_a_client_at_the_second_byte() {
    for opcode in [1, 2, 8, 9, 10] {
        refused_as_protocol(&[0x80 | opcode, 5], None, "masked", 2);
        refused_as_protocol(&[0x80 | opcode, 127], None, "masked", 2);
    }
}

#[test]
fn accepts_only_unmasked_frames_of_a_server() {
    let rules = HeadRules {
        role: Role::Client,
        ..RULES
    };
    let take = |mut bytes: &[u8]| {
        let head = Partial::default().take(&mut bytes, rules, None)?;
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
        accepted(&[0x80 | opcode, 0xfd], Some(UNFINISHED));
    }
}

#[test]
fn refuses_a_close_of_one_byte_at_the_second_byte() {
    refused_as_protocol(&[0x88, 0x81], None, "half a code", 2);
}

#[test]
fn refuses_a_length_in_too_many_bytes() {
    refused_as_protocol(&[0x82, 0xfe, 0, 125], None, "more bytes", 4);
    refused_as_protocol(&[0x82, 0xfe, 0, 0], None, "more bytes", 4);
    // After six zeros, the length fits into two bytes.
    let long = [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    refused_as_protocol(&long, None, "more bytes", 8);
    assert_eq!(accepted(&[0x82, 0xfd], None).len, 125);
    assert_eq!(accepted(&[0x82, 0xfe, 0, 126], None).len, 126);
    assert_eq!(accepted(&[0x82, 0xfe, 0xff, 0xff], None).len, 65_535);
    let long = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(accepted(&long, None).len, 65_536);
}

#[test]
fn refuses_a_length_with_its_top_bit_set_at_the_third_byte() {
    let long = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1];
    refused_as_protocol(&long, None, "top bit", 3);
    refused_as_protocol(&[0x82, 0xff, 0xff, 0xff], None, "top bit", 3);
}

#[test]
fn refuses_a_frame_over_the_limit_at_the_first_possible_byte() {
    let frame = |len: u64| [&[0x82, 0xff], &len.to_be_bytes()[..]].concat();
    assert_eq!(accepted(&frame(70_000), None).len, 70_000);
    assert_eq!(refused(&frame(70_001), None), (Violation::TooLarge, 10));
    assert_eq!(refused(&frame(0x01_12_00), None), (Violation::TooLarge, 9));
    assert_eq!(refused(&frame(1 << 56), None), (Violation::TooLarge, 3));
    assert_eq!(refused(&frame(1 << 62), None), (Violation::TooLarge, 3));
}

#[test]
fn refuses_a_message_over_the_limit_at_the_first_possible_byte() {
    let before = |len| Some(Progress { len, ..UNFINISHED });
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
fn does_not_apply_message_limits_to_control_frames() {
    let rules = HeadRules {
        limits: &Limits {
            message: 0,
            frame: 0,
            fragments: 0,
            empty_fragments: 0,
            assembly: Duration::MAX,
        },
        ..RULES
    };
    let ping = head(&[0x89, 0xfd]);
    let head = Partial::default().take(&mut &ping[..], rules, None);
    assert_eq!(head.unwrap().unwrap().len, 125);
}

#[test]
fn refuses_too_many_fragments_at_the_first_byte() {
    let before = |fragments| {
        Some(Progress {
            fragments,
            ..UNFINISHED
        })
    };
    accepted(&[0x00, 0x81], before(2));
    accepted(&[0x80, 0x81], before(2));
    for first in [0x00, 0x80] {
        let over = refused(&[first, 0x81], before(3));
        assert_eq!(over, (Violation::TooManyFragments, 1));
    }
    // A control frame does not count as a fragment.
    accepted(&[0x89, 0x81], before(3));
}

#[test]
fn refuses_too_many_empty_fragments_at_the_second_byte() {
    let before = |empty_fragments| {
        Some(Progress {
            empty_fragments,
            ..UNFINISHED
        })
    };
    accepted(&[0x00, 0x80], before(1));
    let over = refused(&[0x00, 0x80], before(2));
    assert_eq!(over, (Violation::TooManyFragments, 2));
    // The last fragment and fragments with a payload do not count.
    accepted(&[0x80, 0x80], before(2));
    accepted(&[0x00, 0x81], before(2));
    accepted(&[0x89, 0x80], before(2));
}

#[test]
fn reads_all_parts_of_a_head() {
    let expected = Head {
        last: true,
        kind: Kind::Start(DataKind::Text),
        len: 5,
        mask: Mask::new(MASK),
    };
    assert_eq!(accepted(&[0x81, 0x85], None), expected);
    let kinds = [
        (0x02, None, Kind::Start(DataKind::Binary)),
        (0x00, Some(UNFINISHED), Kind::Continuation),
        (0x88, None, Kind::Control(ControlKind::Close)),
        (0x89, None, Kind::Control(ControlKind::Ping)),
        (0x8a, Some(UNFINISHED), Kind::Control(ControlKind::Pong)),
    ];
    for (first, message, kind) in kinds {
        let head = accepted(&[first, 0x82], message);
        assert_eq!((head.kind, head.last), (kind, first & 0x80 != 0));
    }
}
