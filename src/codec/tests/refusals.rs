//! The refusal of invalid streams at the first possible byte, and valid streams at the limits.

use super::{
    BINARY, CLOSE, CONTINUATION, LIMITS, PING, TEXT, decode, decode_in, frame, push_frame, refused,
};
use crate::{
    codec::{Event, Limits, Violation},
    words::Message,
};

#[test]
fn refuses_invalid_text_within_a_frame() {
    let mut text = vec![b'a'; 5_000];
    text[3_000] = 0xff;
    let head = frame(TEXT, true, &text).len() - text.len();
    for last in [true, false] {
        let refused = refused(&frame(TEXT, last, &text));
        assert_eq!(refused, (Violation::InvalidUtf8, head + 3_001));
    }
    let mut fragmented = frame(TEXT, false, "€".as_bytes().split_at(2).0);
    push_frame(&mut fragmented, CONTINUATION, false, b"a ....");
    let (violation, at) = refused(&fragmented);
    assert_eq!((violation, at), (Violation::InvalidUtf8, 6 + 2 + 6 + 1));
}

#[test]
fn refuses_text_that_ends_within_a_character() {
    let cut = "abc€".as_bytes().split_at(5).0;
    let whole = frame(TEXT, true, cut);
    assert_eq!(refused(&whole), (Violation::InvalidUtf8, whole.len()));
    let mut fragmented = frame(TEXT, false, cut);
    push_frame(&mut fragmented, CONTINUATION, true, b"");
    let end = fragmented.len();
    assert_eq!(refused(&fragmented), (Violation::InvalidUtf8, end));
}

#[test]
fn accepts_characters_split_by_frames_and_any_bytes_in_binary() {
    let text = "a€\u{10348}é";
    let mut bytes = Vec::new();
    for (i, byte) in text.bytes().enumerate() {
        let opcode = if i == 0 { TEXT } else { CONTINUATION };
        push_frame(&mut bytes, opcode, i + 1 == text.len(), &[byte]);
    }
    push_frame(&mut bytes, BINARY, true, b"\xff\xc0\x80");
    let expected = vec![
        Event::Message(Message::from(text)),
        Event::Message(Message::from(&b"\xff\xc0\x80"[..])),
    ];
    assert_eq!(decode(&bytes), (expected, Ok(())));
}

#[test]
fn refuses_an_illegal_close_at_the_first_possible_byte() {
    let close = |payload: &[u8]| frame(CLOSE, true, payload);
    let (violation, at) = refused(&close(b"\x03\xed gone"));
    assert!(matches!(violation, Violation::Protocol(_)));
    assert_eq!(at, 6 + 2);
    let invalid = refused(&close(b"\x03\xe8 caf\xe9."));
    assert_eq!(invalid, (Violation::InvalidUtf8, 6 + 2 + 6));
    let cut = refused(&close(b"\x03\xe8caf\xc3"));
    assert_eq!(cut, (Violation::InvalidUtf8, 6 + 2 + 4));
}

#[test]
fn refuses_a_message_over_the_limit_before_its_payload() {
    let limits = Limits {
        message: 1_000,
        frame: 600,
        ..LIMITS
    };
    for opcode in [TEXT, BINARY] {
        let over = frame(opcode, true, &[b'a'; 601]);
        let (_, result, given) = decode_in(&over, limits, || 1);
        assert_eq!((result, given), (Err(Violation::TooLarge), 4));

        let mut over = frame(opcode, false, &[b'a'; 600]);
        push_frame(&mut over, CONTINUATION, true, &[b'a'; 400]);
        assert_eq!(decode_in(&over, limits, || 1).0.len(), 1);

        let mut over = frame(opcode, false, &[b'a'; 600]);
        let first = over.len();
        push_frame(&mut over, CONTINUATION, true, &[b'a'; 401]);
        let (events, result, given) = decode_in(&over, limits, || 1);
        assert_eq!((result, given), (Err(Violation::TooLarge), first + 4));
        assert!(events.is_empty());
    }
}

#[test]
fn counts_the_bytes_of_an_incomplete_character() {
    let limits = Limits {
        message: 3,
        ..LIMITS
    };
    let mut bytes = frame(TEXT, false, b"a\xc3");
    push_frame(&mut bytes, CONTINUATION, true, b"\xa9b");
    let (_, result, given) = decode_in(&bytes, limits, || 1);
    assert_eq!((result, given), (Err(Violation::TooLarge), 8 + 2));
}

#[test]
fn limits_the_fragments_and_the_empty_fragments_before_the_last() {
    let limits = Limits {
        fragments: 5,
        empty_fragments: 2,
        ..LIMITS
    };
    let message = |fragments: &[&[u8]]| {
        let mut bytes = Vec::new();
        for (i, fragment) in fragments.iter().enumerate() {
            let opcode = if i == 0 { TEXT } else { CONTINUATION };
            push_frame(&mut bytes, opcode, i + 1 == fragments.len(), fragment);
            push_frame(&mut bytes, PING, true, b"");
        }
        // The counters restart with the second message.
        [&bytes[..], &bytes[..]].concat()
    };
    for (fragments, allowed) in [
        (&[&b"a"[..], b"b", b"c", b"d", b"e"][..], true),
        (&[b"a", b"b", b"c", b"d", b"e", b"f"], false),
        (&[b"", b"", b""], true),
        (&[b"", b"a", b"", b"b", b""], true),
        (&[b"", b"", b"", b"a"], false),
        (&[b"a", b"", b"", b"", b"a"], false),
    ] {
        let (_, result, _) = decode_in(&message(fragments), limits, || usize::MAX);
        let expected = match allowed {
            true => Ok(()),
            false => Err(Violation::TooManyFragments),
        };
        assert_eq!(result, expected, "{fragments:x?}");
    }
}

#[test]
fn refuses_the_seventeenth_empty_fragment() {
    let mut bytes = frame(BINARY, false, b"");
    for _ in 0..1_000 {
        push_frame(&mut bytes, CONTINUATION, false, b"");
    }
    assert_eq!(refused(&bytes), (Violation::TooManyFragments, 16 * 6 + 2));
}

#[test]
fn each_violation_has_a_close_code() {
    for (violation, code) in [
        (Violation::Protocol(""), 1002),
        (Violation::InvalidUtf8, 1007),
        (Violation::TooLarge, 1009),
        (Violation::TooManyFragments, 1008),
        (Violation::TooSlow, 1008),
    ] {
        assert_eq!(violation.close_code().get(), code, "{violation:?}");
    }
}
