//! Checks permessage-deflate: negotiation, compressing and inflating.

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use crate::{
    codec::{Compression, Deflate, Event, Outgoing, Role, Rules},
    handshake::extension::{
        self,
        deflate::{Direction, Terms},
    },
    words::Message,
};

use super::{
    byte,
    frames::{TIGHT, WIDE, decode, decode_all_cuts, split_cuts, written},
};

pub fn deflate(mut data: &[u8]) {
    match byte(&mut data) % 4 {
        0 => inflate(data),
        1 => frames(data),
        2 => round_trip(data),
        _ => negotiate(data),
    }
}

/// Inflates any bytes as the payload of one message.
fn inflate(mut data: &[u8]) {
    let options = byte(&mut data);
    let (cuts, data) = split_cuts(data);
    let first = if options & 1 == 0 { 0xc1 } else { 0xc2 };
    let mut stream = vec![first];
    match data.len() {
        len @ 0..126 => stream.push(len as u8),
        len @ 126..0x1_0000 => {
            stream.push(126);
            stream.extend((len as u16).to_be_bytes());
        }
        _ => return,
    }
    stream.extend_from_slice(data);
    let outcome = decode_all_cuts(&stream, cuts, rules(options));
    assert!(outcome.events.len() <= 1);
}

/// Decodes any frames, some of them compressed.
fn frames(mut data: &[u8]) {
    let rules = rules(byte(&mut data));
    let (cuts, stream) = split_cuts(data);
    let _ = decode_all_cuts(stream, cuts, rules);
}

fn rules(options: u8) -> Rules {
    let terms = terms(0x0f, options);
    Rules {
        role: Role::Client,
        limits: if options & 2 == 0 { TIGHT } else { WIDE },
        deflation: Some(Deflate::new().agreed(terms)),
    }
}

/// Checks that compressed messages inflate to the same messages.
fn round_trip(mut data: &[u8]) {
    let (sends, receives) = (byte(&mut data), byte(&mut data));
    let level = u32::from(byte(&mut data));
    let there = terms(sends, receives);
    let deflate = Deflate::new().level(level).min_size(0);
    let deflation = deflate.agreed(there);
    let mut compression = Compression::new(deflation);
    let mut outgoing = Outgoing::new(Role::Server, false);
    let mut events = Vec::new();
    while !data.is_empty() {
        let message = message(&mut data);
        let compressed = match deflation.applies_to(message.len()) {
            false => None,
            true => compression.compress_at_once(message.as_bytes()),
        };
        if !there.send.context_takeover {
            let shorter = compressed
                .as_ref()
                .is_none_or(|bytes| bytes.len() <= message.len());
            assert!(shorter, "compressing made it larger");
        }
        match compressed {
            Some(bytes) => outgoing.push_compressed(message.is_text(), &bytes),
            None => outgoing.push(&mut message.clone()),
        }
        events.push(Event::Message(message));
    }
    let rules = Rules {
        role: Role::Client,
        limits: WIDE,
        deflation: Some(deflate.agreed(mirrored(there))),
    };
    let written = written(&mut outgoing);
    let outcome = decode(&written, rules, |piece| 1 + 100 * (piece % 3));
    assert_eq!(outcome.end, Ok(()));
    assert_eq!(outcome.events, events);
}

/// Returns a message of repeated bytes, so that it can be compressed.
fn message(data: &mut &[u8]) -> Message {
    let kind = byte(data);
    let len = usize::from(byte(data)).min(data.len());
    let (part, rest) = data.split_at(len);
    *data = rest;
    let bytes = part.repeat(1 + usize::from(kind >> 4));
    match String::from_utf8(bytes) {
        Ok(text) if kind & 1 == 0 => Message::text(text),
        Ok(text) => Message::binary(text.into_bytes()),
        Err(error) => Message::binary(error.into_bytes()),
    }
}

/// Checks a negotiation between a client and a server, and any field that either may receive.
fn negotiate(mut data: &[u8]) {
    let server = terms(byte(&mut data), byte(&mut data));
    let client = terms(byte(&mut data), byte(&mut data));
    let lines = data.split(|byte| *byte == b'\n');
    let headers: HeaderMap = lines
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .map(|line| (SEC_WEBSOCKET_EXTENSIONS, line))
        .collect();
    if let Some((agreed, answer)) = server.accept(&headers) {
        assert_within(agreed, server);
        assert_eq!(extension::validate(&field(answer)), Ok(()));
    }
    if let Ok(Some(agreed)) = client.confirm(&headers) {
        assert_within(agreed, client);
    }

    // The server accepts or declines the client's offer. Then both sides have the same terms.
    let offer = client
        .offer()
        .expect("terms in their ranges can be offered");
    let offer = field(offer);
    assert_eq!(extension::validate(&offer), Ok(()));
    if let Some((agreed, answer)) = server.accept(&offer) {
        assert_within(agreed, server);
        let confirmed = client.confirm(&field(answer));
        assert_eq!(confirmed, Ok(Some(mirrored(agreed))));
    }
}

fn field(value: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, value)])
}

fn assert_within(agreed: Terms, wanted: Terms) {
    for (agreed, wanted) in [(agreed.send, wanted.send), (agreed.receive, wanted.receive)] {
        assert!(agreed.window_bits <= wanted.window_bits);
        assert!(wanted.context_takeover || !agreed.context_takeover);
    }
    assert!(agreed.send.window_bits >= 9);
}

fn terms(send: u8, receive: u8) -> Terms {
    Terms {
        send: direction(send),
        receive: direction(receive),
    }
}

fn direction(options: u8) -> Direction {
    Direction {
        window_bits: 9 + (options >> 3) % 7,
        context_takeover: options & 4 != 0,
    }
}

const fn mirrored(terms: Terms) -> Terms {
    Terms {
        send: terms.receive,
        receive: terms.send,
    }
}
