//! The deadline of a message.

use std::time::Duration;

use crate::time::Moment;

use super::{CONTINUATION, LIMITS, PING, TEXT, decoder, frame, push_frame};
use crate::{
    codec::{Event, Limits, Violation},
    words::Message,
};

#[test]
fn limits_the_time_from_the_first_byte_to_the_last() {
    let start = Moment::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut decoder = decoder(LIMITS);
    assert_eq!(decoder.decode(&mut &[][..], start), Ok(None));
    assert_eq!(decoder.deadline(), None);

    // A frame that arrives byte by byte.
    let text = frame(TEXT, true, b"text");
    for (seconds, byte) in text[..9].iter().enumerate() {
        let decoded = decoder.decode(&mut &[*byte][..], at(seconds as u64));
        assert_eq!(decoded, Ok(None));
        assert_eq!(decoder.deadline(), Some(at(60)));
    }
    let message = decoder.decode(&mut &text[9..], at(59));
    assert_eq!(message, Ok(Some(Event::Message(Message::from("text")))));
    assert_eq!(decoder.deadline(), None);

    // Fragments, with a control frame that does not change the deadline.
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
fn sets_the_deadline_for_a_fragment_followed_by_a_ping() {
    let now = Moment::now();
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
fn removes_the_deadline_when_the_message_is_complete() {
    let now = Moment::now();
    let mut decoder = decoder(LIMITS);
    let text = frame(TEXT, true, b"text");
    assert_eq!(decoder.decode(&mut &text[..1], now), Ok(None));
    assert!(decoder.deadline().is_some());
    assert!(decoder.decode(&mut &text[1..], now).unwrap().is_some());
    assert_eq!(decoder.deadline(), None);
}

#[test]
fn limits_the_time_of_a_control_frame() {
    let now = Moment::now();
    let mut decoder = decoder(LIMITS);
    let ping = frame(PING, true, b"ping");
    assert_eq!(decoder.decode(&mut &ping[..8], now), Ok(None));
    assert!(decoder.deadline().is_some());
    assert!(decoder.decode(&mut &ping[8..], now).unwrap().is_some());
    assert_eq!(decoder.deadline(), None);
}

#[test]
fn waits_forever_without_a_limit() {
    let assembly = Duration::MAX;
    let mut decoder = decoder(Limits { assembly, ..LIMITS });
    let start = Moment::now();
    let head = frame(TEXT, true, b"text");
    assert_eq!(decoder.decode(&mut &head[..7], start), Ok(None));
    let years = start + Duration::from_secs(100_000_000);
    assert!(decoder.decode(&mut &head[7..], years).unwrap().is_some());
}
