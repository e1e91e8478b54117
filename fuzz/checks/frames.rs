//! Checks the frame decoder: the events and the end of a stream do not depend on how it is cut.

use std::{io::IoSlice, mem, time::Duration};

use bytes::BytesMut;

use crate::{
    codec::{CHUNK, Decoder, Event, Limits, Outgoing, Role, Rules, Violation, hold_turn},
    time::Moment,
    words::Message,
};

use super::byte;

/// The first bytes select the role, the limits and the cuts. The rest is the peer's stream.
pub fn frames(mut data: &[u8]) {
    let options = byte(&mut data);
    let rules = Rules {
        role: match options & 1 {
            0 => Role::Server,
            _ => Role::Client,
        },
        limits: if options & 2 == 0 { TIGHT } else { WIDE },
        deflation: None,
    };
    let (cuts, stream) = split_cuts(data);
    let whole = decode_all_cuts(stream, cuts, rules);
    assert_fast_path(stream, rules, &whole);

    let written = encode(&whole.events, false);
    // With a prepared buffer, most messages take the encoder's fast path.
    assert_eq!(encode(&whole.events, true), written);
    let again = decode(&written, AT_CLIENT, |_| usize::MAX);
    assert_eq!((again.end, again.begun), (Ok(()), false));
    assert_eq!(again.events, whole.events);
}

/// Splits the input into the sizes of the pieces and the stream.
pub(super) fn split_cuts(mut data: &[u8]) -> (&[u8], &[u8]) {
    let cuts = usize::from(byte(&mut data) % 16).min(data.len());
    data.split_at(cuts)
}

/// Decodes a stream as a whole, byte by byte, and in pieces of the sizes in `cuts`.
pub(super) fn decode_all_cuts(stream: &[u8], cuts: &[u8], rules: Rules) -> Outcome {
    let whole = decode(stream, rules, |_| usize::MAX);
    let by_byte = decode_by(stream, rules, |_| 1, Way::default());
    assert_same(&by_byte, &whole);
    let size = |piece: usize| match cuts {
        [] => 7,
        cuts => 1 + usize::from(cuts[piece % cuts.len()]),
    };
    let in_pieces = decode(stream, rules, size);
    assert_same(&in_pieces, &whole);
    for (in_turn, directly) in [(false, false), (false, true), (true, true)] {
        let way = Way { in_turn, directly };
        assert_same(&decode_by(stream, rules, size, way), &whole);
    }
    // Decoding ends at the first byte that proves a violation, regardless of the cuts.
    assert!(in_pieces.given >= by_byte.given);
    assert!(in_pieces.given - in_pieces.last_piece < by_byte.given || stream.is_empty());
    whole
}

/// Decodes a stream as `socket` does: it tries the fast path first, and small messages share a buffer.
fn assert_fast_path(stream: &[u8], rules: Rules, whole: &Outcome) {
    let now = Moment::now();
    let mut decoder = Decoder::new(rules);
    let mut slab = BytesMut::new();
    let mut events = Vec::new();
    let mut input = stream;
    let end = loop {
        let decoded = match decoder.decode_fast(&mut input) {
            Some(usual) => usual
                .into_message_in(&mut slab, input.len())
                .map(|message| Some(Event::Message(message))),
            None => decoder.decode(&mut input, now),
        };
        match decoded {
            Ok(None) => break Ok(()),
            Ok(Some(event)) => {
                let is_last = matches!(event, Event::Close(_));
                events.push(event);
                if is_last {
                    break Ok(());
                }
            }
            Err(violation) => break Err(violation),
        }
    };
    assert_eq!(end, whole.end);
    assert_eq!(events, whole.events);
}

/// Encodes events as a server does.
fn encode(events: &[Event], lends: bool) -> Vec<u8> {
    let mut outgoing = Outgoing::new(Role::Server, false);
    if lends {
        outgoing.acquire_memory();
    }
    for event in events {
        match event {
            Event::Message(message) => outgoing.push(&mut message.clone()),
            Event::Ping(payload) => outgoing.push_ping(payload),
            Event::Pong(payload) => outgoing.push_pong(payload),
            Event::Close(frame) => outgoing.push_close(frame.as_ref()),
        }
    }
    written(&mut outgoing)
}

pub(super) fn written(outgoing: &mut Outgoing) -> Vec<u8> {
    let mut written = Vec::new();
    while !outgoing.is_empty() {
        let before = written.len();
        let mut slices = [IoSlice::new(&[]); 4];
        for slice in outgoing.slices(&mut slices) {
            written.extend_from_slice(slice);
        }
        let _ = outgoing.advance(written.len() - before);
    }
    written
}

pub(super) const TIGHT: Limits = Limits {
    message: 300,
    frame: 200,
    fragments: 4,
    empty_fragments: 1,
    assembly: Duration::from_secs(60),
};
pub(super) const WIDE: Limits = Limits {
    message: 1024 * 1024,
    frame: 1024 * 1024,
    fragments: 16_384,
    empty_fragments: 16,
    assembly: Duration::from_secs(60),
};

const AT_CLIENT: Rules = Rules {
    role: Role::Client,
    limits: WIDE,
    deflation: None,
};

pub(super) struct Outcome {
    pub(super) events: Vec<Event>,
    pub(super) end: Result<(), Violation>,
    /// Whether an incomplete message or frame is left.
    begun: bool,
    /// The number of bytes that the decoder got until the end.
    given: usize,
    last_piece: usize,
}

fn assert_same(one: &Outcome, other: &Outcome) {
    assert_eq!(one.end, other.end);
    assert_eq!(one.events, other.events);
    assert_eq!(one.begun, other.begun);
}

pub(super) fn decode(stream: &[u8], rules: Rules, size: impl Fn(usize) -> usize) -> Outcome {
    let way = Way {
        in_turn: true,
        directly: false,
    };
    decode_by(stream, rules, size, way)
}

/// The way of a large payload.
#[derive(Clone, Copy, Default)]
struct Way {
    /// To its final buffer. Otherwise to buffers that are joined.
    in_turn: bool,
    /// It is read directly if the decoder allows it.
    directly: bool,
}

/// Decodes in pieces.
fn decode_by(stream: &[u8], rules: Rules, size: impl Fn(usize) -> usize, way: Way) -> Outcome {
    let _turn = (!way.in_turn).then(hold_turn);
    let now = Moment::now();
    let mut decoder = Decoder::new(rules);
    let mut outcome = Outcome {
        events: Vec::new(),
        end: Ok(()),
        begun: false,
        given: 0,
        last_piece: 0,
    };
    // The number of bytes since the decoder last held no message.
    let mut received = 0;
    for piece in 0.. {
        let rest = &stream[outcome.given..];
        let mut input = &rest[..size(piece).min(rest.len())];
        let place = match way.directly {
            // Begin a direct read and cancel it. The bytes then come through `decode`.
            true if piece % 4 == 3 => {
                let _ = decoder.direct_read();
                decoder.cancel_direct_read();
                assert_bounded(&decoder, received, &rules, way);
                None
            }
            true => decoder.direct_read(),
            false => None,
        };
        let placed = place.map(|mut memory| memory.fill(mem::take(&mut input)));
        let len = placed.unwrap_or(input.len());
        outcome.last_piece = len;
        outcome.given += len;
        received += len;
        let mut placed = placed.map(|len| {
            let message = decoder.finish_direct_read(len, now)?;
            let message = message.map(|message| message.into_message());
            Ok(message.transpose()?.map(Event::Message))
        });
        loop {
            let decoded = match placed.take() {
                Some(event) => event,
                None => decoder.decode(&mut input, now),
            };
            assert_bounded(&decoder, received, &rules, way);
            match decoded {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if let Event::Message(message) = &event {
                        assert!(message.len() <= rules.limits.message);
                        received = input.len();
                    }
                    let is_last = matches!(event, Event::Close(_));
                    outcome.events.push(event);
                    if is_last {
                        return outcome;
                    }
                }
                Err(violation) => {
                    outcome.end = Err(violation);
                    return outcome;
                }
            }
        }
        assert!(
            input.is_empty(),
            "the decoder needs more bytes although some are left"
        );
        if outcome.given == stream.len() {
            break;
        }
    }
    outcome.begun = decoder.deadline().is_some();
    outcome
}

/// Asserts the memory bounds in the documentation of `codec`.
fn assert_bounded(decoder: &Decoder, received: usize, rules: &Rules, way: Way) {
    let capacity = decoder.capacity();
    let limit = rules.limits.message;
    let buffers = limit.checked_next_multiple_of(CHUNK).unwrap_or(limit);
    assert!(capacity <= limit || capacity > CHUNK && capacity <= buffers);
    if rules.deflation.is_some() {
        // Compressed bytes may inflate to a thousand times as many.
        return;
    }
    let max = if way.in_turn { limit } else { CHUNK };
    let ahead = (16 * received).max(1024).min(max);
    assert!(
        capacity <= received + ahead,
        "{capacity} bytes are held after {received}"
    );
}

/// The contents of a peer's stream, up to its Close or its first violation.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Conversation {
    pub messages: Vec<Message>,
    pub pings: Vec<Vec<u8>>,
    /// The code of the Close, if there is one.
    pub close: Option<Option<u16>>,
    /// The close code for the violation.
    pub violation: Option<u16>,
}

/// Decodes a client's whole stream, with the limits of a default `Config` except the maximum message size.
pub fn conversation(mut stream: &[u8], max_message_size: usize) -> Conversation {
    let limits = Limits {
        message: max_message_size,
        frame: max_message_size,
        ..WIDE
    };
    let now = Moment::now();
    let mut decoder = Decoder::new(Rules {
        role: Role::Server,
        limits,
        deflation: None,
    });
    let mut conversation = Conversation::default();
    loop {
        match decoder.decode(&mut stream, now) {
            Ok(Some(Event::Message(message))) => conversation.messages.push(message),
            Ok(Some(Event::Ping(payload))) => conversation.pings.push(payload.to_vec()),
            Ok(Some(Event::Pong(_))) => {}
            Ok(Some(Event::Close(frame))) => {
                conversation.close = Some(frame.map(|frame| frame.code().get()));
                return conversation;
            }
            Ok(None) => return conversation,
            Err(violation) => {
                conversation.violation = Some(violation.close_code().get());
                return conversation;
            }
        }
    }
}
