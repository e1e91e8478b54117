//! The decoder as a whole: what comes out of which bytes, wherever they are cut.

mod properties;

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use tokio_tungstenite::tungstenite::{
    self,
    error::ProtocolError,
    protocol::{
        self, WebSocketConfig,
        frame::{FrameHeader, coding::OpCode},
    },
};

use super::{Decoder, Event, Limits, Mask, Role, Rules, Violation};
use crate::{
    close::{CloseCode, CloseFrame},
    message::Message,
};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const MIB: usize = 1024 * 1024;
const LIMITS: Limits = Limits {
    message: MIB,
    frame: MIB,
    fragments: 16_384,
    empty_fragments: 16,
    assembly: Some(Duration::from_secs(60)),
};

fn at_server(limits: Limits) -> Rules {
    Rules {
        role: Role::Server,
        limits,
        deflation: None,
    }
}

fn decoder(limits: Limits) -> Decoder {
    Decoder::new(at_server(limits))
}

/// xorshift64*: the same numbers in every run.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 16) % end as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// Writes a frame as a client does, its head by tungstenite.
fn push_frame(to: &mut Vec<u8>, opcode: u8, last: bool, payload: &[u8]) {
    let key = [to.len() as u8, 0x8a, 0x00, 0xff];
    FrameHeader {
        is_final: last,
        opcode: OpCode::from(opcode),
        mask: Some(key),
        ..FrameHeader::default()
    }
    .format(payload.len() as u64, to)
    .unwrap();
    Mask::new(key).append(payload, to);
}

fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    push_frame(&mut frame, opcode, last, payload);
    frame
}

fn push_event(to: &mut Vec<u8>, event: &Event, rng: &mut Rng) {
    match event {
        Event::Ping(payload) => push_frame(to, PING, true, payload),
        Event::Pong(payload) => push_frame(to, PONG, true, payload),
        Event::Close(None) => push_frame(to, CLOSE, true, b""),
        Event::Close(Some(close)) => {
            let code = close.code().get().to_be_bytes();
            let payload = [&code, close.reason().as_bytes()].concat();
            push_frame(to, CLOSE, true, &payload);
        }
        Event::Message(message) => {
            let mut opcode = if message.is_text() { TEXT } else { BINARY };
            let mut rest = message.as_bytes();
            for _ in 0..rng.below(5) {
                let (fragment, more) = rest.split_at(rng.below(rest.len() + 1));
                push_frame(to, opcode, false, fragment);
                rest = more;
                opcode = CONTINUATION;
            }
            push_frame(to, opcode, true, rest);
        }
    }
}

fn control(bytes: &[u8]) -> super::Control {
    let mut control = super::Control::empty();
    control.append(bytes);
    control
}

fn random_message(rng: &mut Rng) -> Message {
    let len = match rng.below(20) {
        0 => 120 + rng.below(10),
        1 => 65_530 + rng.below(10),
        2 => rng.below(5_000),
        _ => rng.below(60),
    };
    if rng.below(2) == 0 {
        return Message::from(rng.bytes(len));
    }
    let alphabet: Vec<char> = "aaaabcé€\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}"
        .chars()
        .collect();
    let mut text = String::new();
    while text.len() < len {
        text.push(alphabet[rng.below(alphabet.len())]);
    }
    Message::from(text)
}

/// Makes a stream that breaks no rule, and says what it holds.
fn random_session(rng: &mut Rng) -> (Vec<u8>, Vec<Event>) {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    for _ in 0..rng.below(6) {
        let event = match rng.below(6) {
            0 => {
                let len = rng.below(126);
                Event::Ping(control(&rng.bytes(len)))
            }
            1 => Event::Pong(control(b"")),
            2 => {
                // A control frame between the fragments: its event comes before the message's.
                let message = random_message(rng);
                let opcode = if message.is_text() { TEXT } else { BINARY };
                let (front, back) = message.as_bytes().split_at(rng.below(message.len() + 1));
                let payload = rng.bytes(3);
                push_frame(&mut bytes, opcode, false, front);
                push_frame(&mut bytes, PING, true, &payload);
                push_frame(&mut bytes, CONTINUATION, true, back);
                events.push(Event::Ping(control(&payload)));
                events.push(Event::Message(message));
                continue;
            }
            _ => Event::Message(random_message(rng)),
        };
        push_event(&mut bytes, &event, rng);
        events.push(event);
    }
    if rng.below(2) == 0 {
        let close = match rng.below(2) {
            0 => None,
            _ => Some(CloseFrame::new(CloseCode::new(4000).unwrap(), "grüß").unwrap()),
        };
        push_event(&mut bytes, &Event::Close(close.clone()), rng);
        events.push(Event::Close(close));
    }
    (bytes, events)
}

/// Changes a few bytes, mostly near the front, where the heads are.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = match rng.below(2) {
            0 => rng.below(bytes.len().min(16)),
            _ => rng.below(bytes.len()),
        };
        match rng.below(4) {
            0 => bytes[at] = rng.next() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, rng.next() as u8),
        }
    }
}

/// Decodes `bytes` in pieces whose lengths `piece` gives, up to a Close, a violation or the end.
///
/// Returns the events, how it ended, and for a violation the number of bytes given until then.
fn decode_in(
    bytes: &[u8],
    limits: Limits,
    piece: impl FnMut() -> usize,
) -> (Vec<Event>, Result<(), Violation>, usize) {
    decode_by(bytes, at_server(limits), piece)
}

fn decode_by(
    bytes: &[u8],
    rules: Rules,
    mut piece: impl FnMut() -> usize,
) -> (Vec<Event>, Result<(), Violation>, usize) {
    let now = Instant::now();
    let mut decoder = Decoder::new(rules);
    let mut events = Vec::new();
    let mut given = 0;
    while given < bytes.len() {
        let end = (given + piece()).min(bytes.len());
        let mut input = &bytes[given..end];
        given = end;
        loop {
            match decoder.decode(&mut input, now) {
                Ok(Some(event)) => {
                    let done = matches!(event, Event::Close(_));
                    events.push(event);
                    if done {
                        return (events, Ok(()), given);
                    }
                }
                Ok(None) => break,
                Err(violation) => return (events, Err(violation), given),
            }
        }
        assert!(input.is_empty(), "bytes are left, yet more are asked for");
    }
    (events, Ok(()), given)
}

fn decode(bytes: &[u8]) -> (Vec<Event>, Result<(), Violation>) {
    let (events, result, _) = decode_in(bytes, LIMITS, || usize::MAX);
    (events, result)
}

/// Feeds byte by byte, and returns the violation and how many bytes it took.
#[track_caller]
fn refused(bytes: &[u8]) -> (Violation, usize) {
    let (events, result, given) = decode_in(bytes, LIMITS, || 1);
    let violation = result.expect_err("the stream should be refused");
    assert_eq!(
        decode(bytes),
        (events, Err(violation)),
        "when given at once"
    );
    (violation, given)
}

#[track_caller]
fn assert_cuts_do_not_matter(bytes: &[u8], rules: Rules, rng: &mut Rng, round: usize) {
    let (events, result, _) = decode_by(bytes, rules, || usize::MAX);
    let (by_byte, by_byte_result, proof) = decode_by(bytes, rules, || 1);
    assert_eq!(by_byte_result, result, "round {round}, byte by byte");
    assert!(by_byte == events, "round {round}, byte by byte");
    for largest in [4, 40, 3000] {
        let cut = || 1 + rng.below(largest);
        let (pieces, pieces_result, given) = decode_by(bytes, rules, cut);
        assert_eq!(pieces_result, result, "round {round}, up to {largest}");
        assert!(pieces == events, "round {round}, up to {largest}");
        if result.is_err() {
            let late = given.saturating_sub(proof);
            assert!(late < largest, "round {round}: failed {late} bytes late");
        }
    }
}

#[test]
fn gives_back_what_was_encoded() {
    let mut rng = Rng::new(2);
    for round in 0..1_500 {
        let (bytes, expected) = random_session(&mut rng);
        let (events, result) = decode(&bytes);
        assert_eq!(result, Ok(()), "round {round}");
        assert!(events == expected, "round {round}: {events:?}");
    }
}

#[test]
fn gives_the_same_events_wherever_a_valid_stream_is_cut() {
    let mut rng = Rng::new(3);
    for round in 0..400 {
        let (bytes, _) = random_session(&mut rng);
        assert_cuts_do_not_matter(&bytes, at_server(LIMITS), &mut rng, round);
    }
}

#[test]
fn gives_the_same_events_wherever_a_mutated_stream_is_cut() {
    let mut rng = Rng::new(4);
    let limits = Limits {
        message: 9_000,
        frame: 4_000,
        fragments: 4,
        empty_fragments: 1,
        ..LIMITS
    };
    let mut refused = 0;
    for round in 0..4_000 {
        let (mut bytes, _) = random_session(&mut rng);
        bytes.truncate(20_000);
        mutate(&mut bytes, &mut rng);
        let limits = if round % 2 == 0 { limits } else { LIMITS };
        refused += usize::from(decode_in(&bytes, limits, || usize::MAX).1.is_err());
        assert_cuts_do_not_matter(&bytes, at_server(limits), &mut rng, round);
    }
    assert!((1_000..3_700).contains(&refused), "{refused} were refused");
}

/// What tungstenite makes of the same bytes: the events, and whether it refused the rest.
fn decode_by_tungstenite(bytes: &[u8], limits: Limits) -> (Vec<Event>, bool) {
    struct Peer<'a>(&'a [u8]);
    impl Read for Peer<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Peer<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.frame));
    let mut socket =
        protocol::WebSocket::from_raw_socket(Peer(bytes), protocol::Role::Server, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(protocol::Message::Text(text)) => Event::Message(Message::from(text.as_str())),
            Ok(protocol::Message::Binary(bytes)) => Event::Message(Message::from(bytes)),
            Ok(protocol::Message::Ping(payload)) => Event::Ping(control(&payload)),
            Ok(protocol::Message::Pong(payload)) => Event::Pong(control(&payload)),
            // How it reports an illegal code.
            Ok(protocol::Message::Close(Some(close))) if close.reason == "Protocol violation" => {
                return (events, true);
            }
            Ok(protocol::Message::Close(close)) => {
                events.push(Event::Close(close.map(|close| {
                    let code = CloseCode::new(close.code.into()).unwrap();
                    CloseFrame::new(code, close.reason.as_str()).unwrap()
                })));
                return (events, false);
            }
            Ok(protocol::Message::Frame(_)) => unreachable!("only written, never read"),
            Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, false);
            }
            Err(_) => return (events, true),
        });
    }
}

#[test]
fn agrees_with_tungstenite_where_that_follows_the_rules() {
    let mut rng = Rng::new(7);
    let (mut both, mut early) = (0, 0);
    for round in 0..4_000 {
        let (mut bytes, _) = random_session(&mut rng);
        if bytes.is_empty() {
            continue;
        }
        for _ in 0..rng.below(3) {
            let at = rng.below(bytes.len().min(40));
            bytes[at] ^= 1 << rng.below(8);
        }
        let (theirs, refused) = decode_by_tungstenite(&bytes, LIMITS);
        let (ours, result) = decode(&bytes);
        match result {
            Ok(()) => {
                assert!(!refused, "round {round}: only tungstenite refuses");
                assert!(ours == theirs, "round {round}");
            }
            // Lengths in too many bytes it takes, and goes on.
            Err(Violation::Protocol(why)) if why.contains("more bytes") => {
                assert!(theirs.starts_with(&ours), "round {round}");
            }
            // Some faults it sees only at the end of a frame, which may never come.
            Err(violation) => {
                assert!(ours == theirs, "round {round}: {violation:?}");
                *(if refused { &mut both } else { &mut early }) += 1;
            }
        }
    }
    assert!(both > 700 && early < both / 4, "{both} and {early}");
}

#[test]
fn gives_the_same_events_wherever_noise_is_cut() {
    let mut rng = Rng::new(5);
    for round in 0..20_000 {
        let len = 1 + rng.below(300);
        let mut noise = rng.bytes(len);
        // Without this hardly any noise gets past its second byte.
        if round % 4 != 0 {
            noise[0] = [0x81, 0x01, 0x82, 0x02, 0x88, 0x89][rng.below(6)];
            if let Some(second) = noise.get_mut(1) {
                *second = 0x80 | (*second & 0x1f);
            }
        }
        assert_cuts_do_not_matter(&noise, at_server(LIMITS), &mut rng, round);
    }
}

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
fn takes_characters_cut_by_frames_and_bytes_of_any_kind_in_binary() {
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
fn refuses_an_illegal_close_at_the_byte_that_proves_it() {
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
fn refuses_too_much_before_any_payload() {
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
fn counts_the_bytes_of_a_character_that_is_cut() {
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
fn counts_all_fragments_and_the_empty_ones_before_the_last() {
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
        // The counts start again.
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
fn ends_two_million_empty_fragments_at_the_seventeenth() {
    let mut bytes = frame(BINARY, false, b"");
    for _ in 0..1_000 {
        push_frame(&mut bytes, CONTINUATION, false, b"");
    }
    assert_eq!(refused(&bytes), (Violation::TooManyFragments, 16 * 6 + 2));
}

#[test]
fn gives_a_message_its_time_from_the_first_byte_to_the_last() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut decoder = decoder(LIMITS);
    assert_eq!(decoder.decode(&mut &[][..], start), Ok(None));
    assert_eq!(decoder.deadline(), None);

    // A frame that dribbles in, from its first byte on.
    let text = frame(TEXT, true, b"text");
    for (seconds, byte) in text[..9].iter().enumerate() {
        let dribbled = decoder.decode(&mut &[*byte][..], at(seconds as u64));
        assert_eq!(dribbled, Ok(None));
        assert_eq!(decoder.deadline(), Some(at(60)));
    }
    let message = decoder.decode(&mut &text[9..], at(59));
    assert_eq!(message, Ok(Some(Event::Message(Message::from("text")))));
    assert_eq!(decoder.deadline(), None);

    // Fragments, with a control frame that changes nothing.
    let first = frame(TEXT, false, b"te");
    assert_eq!(decoder.decode(&mut &first[..], at(100)), Ok(None));
    assert_eq!(decoder.deadline(), Some(at(160)));
    let ping = frame(PING, true, b"");
    assert!(decoder.decode(&mut &ping[..], at(130)).unwrap().is_some());
    assert_eq!(decoder.deadline(), Some(at(160)));
    let more = frame(CONTINUATION, false, b"xt");
    assert_eq!(decoder.decode(&mut &more[..], at(159)), Ok(None));
    let last = frame(CONTINUATION, true, b"");
    let mut late = &last[..];
    let result = decoder.decode(&mut late, at(160));
    assert_eq!(result, Err(Violation::TooSlow));
}

#[test]
fn starts_the_clock_with_a_first_fragment_that_shares_its_input() {
    let now = Instant::now();
    let mut decoder = decoder(LIMITS);
    let mut bytes = frame(TEXT, false, b"te");
    push_frame(&mut bytes, PING, true, b"");
    let mut input = &bytes[..];
    let ping = decoder.decode(&mut input, now).unwrap();
    assert!(matches!(ping, Some(Event::Ping(_))) && input.is_empty());
    assert_eq!(decoder.deadline(), Some(now + Duration::from_secs(60)));
    let later = now + Duration::from_secs(60);
    let late = decoder.decode(&mut &[][..], later);
    assert_eq!(late, Err(Violation::TooSlow));
}

#[test]
fn stops_the_clock_when_only_the_head_came_late() {
    let now = Instant::now();
    let mut decoder = decoder(LIMITS);
    let text = frame(TEXT, true, b"text");
    assert_eq!(decoder.decode(&mut &text[..1], now), Ok(None));
    assert!(decoder.deadline().is_some());
    assert!(decoder.decode(&mut &text[1..], now).unwrap().is_some());
    assert_eq!(decoder.deadline(), None);
}

#[test]
fn gives_a_control_frame_its_time_as_well() {
    let now = Instant::now();
    let mut decoder = decoder(LIMITS);
    let ping = frame(PING, true, b"ping");
    assert_eq!(decoder.decode(&mut &ping[..8], now), Ok(None));
    assert!(decoder.deadline().is_some());
    assert!(decoder.decode(&mut &ping[8..], now).unwrap().is_some());
    assert_eq!(decoder.deadline(), None);
}

#[test]
fn waits_for_ever_without_a_limit() {
    for assembly in [None, Some(Duration::MAX)] {
        let mut decoder = decoder(Limits { assembly, ..LIMITS });
        let start = Instant::now();
        let head = frame(TEXT, true, b"text");
        assert_eq!(decoder.decode(&mut &head[..7], start), Ok(None));
        assert_eq!(decoder.deadline(), None);
        let years = start + Duration::from_secs(100_000_000);
        assert!(decoder.decode(&mut &head[7..], years).unwrap().is_some());
    }
}

#[test]
fn tells_the_peer_why() {
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

#[test]
fn allocates_for_what_arrives_and_not_for_what_is_promised() {
    const LEN: usize = MIB / 4;
    for opcode in [TEXT, BINARY] {
        for last in [true, false] {
            let whole = frame(opcode, last, &vec![b'a'; LEN]);
            let head = whole.len() - LEN;
            let mut decoder = decoder(Limits {
                message: if last { MIB } else { LEN },
                ..LIMITS
            });
            let now = Instant::now();
            assert_eq!(decoder.decode(&mut &whole[..head], now), Ok(None));
            assert_eq!(decoder.capacity(), 0);
            for received in 1..LEN {
                let mut byte = &whole[head + received - 1..][..1];
                assert_eq!(decoder.decode(&mut byte, now), Ok(None));
                let capacity = decoder.capacity();
                let bound = received + received.max(64 * 1024).min(1024 + 16 * received);
                assert!(
                    capacity <= bound.min(LEN),
                    "{capacity} for {received} bytes, opcode {opcode}"
                );
            }
        }
    }
}

#[test]
fn allocates_no_more_than_fragments_bring_and_as_much_again() {
    for opcode in [TEXT, BINARY] {
        let mut rng = Rng::new(6);
        let mut decoder = decoder(LIMITS);
        let now = Instant::now();
        let mut received = 0;
        let mut opcode = opcode;
        while received < MIB - 5_000 {
            let len = rng.below(5_000);
            let fragment = frame(opcode, false, &vec![b'a'; len]);
            assert_eq!(decoder.decode(&mut &fragment[..], now), Ok(None));
            received += len;
            opcode = CONTINUATION;
            let capacity = decoder.capacity();
            assert!(capacity <= 2 * received, "{capacity} for {received} bytes");
        }
        // What is delivered owns what it needs.
        let last = frame(CONTINUATION, true, b"a");
        let Ok(Some(Event::Message(message))) = decoder.decode(&mut &last[..], now) else {
            panic!("no message");
        };
        assert_eq!(decoder.capacity(), 0);
        let buffer: Vec<u8> = message.into_bytes().into();
        assert_eq!(
            (buffer.len(), buffer.capacity()),
            (received + 1, received + 1)
        );
    }
}

#[test]
fn delivers_exact_buffers_however_they_arrived() {
    for opcode in [TEXT, BINARY] {
        for piece in [1, 700, 5_000, 70_000, usize::MAX] {
            let whole = frame(opcode, true, &vec![b'a'; 100_000]);
            let (events, result, _) = decode_in(&whole, LIMITS, || piece);
            assert_eq!(result, Ok(()));
            for event in events {
                let Event::Message(message) = event else {
                    panic!("no message");
                };
                let buffer: Vec<u8> = message.into_bytes().into();
                assert_eq!((buffer.len(), buffer.capacity()), (100_000, 100_000));
            }
        }
    }
}

#[test]
fn costs_little_between_messages() {
    assert!(size_of::<Decoder>() <= 512, "{}", size_of::<Decoder>());
    assert!(size_of::<Event>() <= 136, "{}", size_of::<Event>());
}
