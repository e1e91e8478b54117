//! Checks positions that clients send. A part of `src/hub`, whose private items it uses.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::{
    history::{Budget, History, Kept, Window},
    position::{MAX_LEN, Position},
    recovery::{GapReason, Listener, Parties, Recovery, Resume},
};
use crate::time::Moment;

const BOOT: u64 = 7;
const EPOCH: u64 = 0x1234_5678_9abc_def0;

/// The first bytes say what happens in a room: each is a message, or begins a new epoch, or lets time pass. The others
/// are the text of a position; after a `+`, that of one that the room has given out, with a digit replaced.
pub fn position(data: &[u8]) {
    let (script, text) = data.split_at(data.len().min(24));
    let limits = History::new()
        .max_messages(6)
        .max_bytes(600)
        .max_age(Duration::from_secs(10));
    let used = AtomicUsize::new(0);
    let budget = Budget {
        used: &used,
        max: 500,
    };
    let mut window = Window::new(limits, BOOT, EPOCH);
    let mut now = Moment::now();
    // The positions in order; `None` where a new epoch begins.
    let mut given = vec![Some(window.position())];
    let mut removed = Vec::new();
    for (number, byte) in script.iter().enumerate() {
        match byte {
            0..=7 => {
                window.clear(EPOCH + 1 + number as u64, budget, &mut removed);
                given.extend([None, Some(window.position())]);
            }
            8..=63 => {
                now += Duration::from_secs((byte / 8).into());
                window.expire(now, budget, &mut removed);
            }
            bytes => {
                let kept = Kept {
                    entry: given.len(),
                    parties: Parties::default(),
                    payload: 0..1,
                    bytes: usize::from(*bytes),
                    at: now,
                };
                let next = window.next_position();
                window.push(kept, budget, &mut removed);
                assert_eq!(window.position(), next);
                given.push(Some(next));
            }
        }
        assert!(window.bytes() <= 500 && used.load(Ordering::Relaxed) == window.bytes());
    }

    let text = String::from_utf8_lossy(text);
    let text = match text.strip_prefix('+') {
        None => text.into_owned(),
        Some(rest) => changed(&given, rest),
    };
    let position = Position::from(&text);
    let written = position.to_string();
    assert!(written.len() <= MAX_LEN && Position::from(&written) == position);
    assert!(position.is_unknown() || written == text);

    let listener = Listener {
        was: None,
        key: None,
        sees_senders: false,
    };
    let resume = Resume {
        position: Some(position),
        ..Resume::default()
    };
    let cut = window.cut(&resume, &listener);
    let epoch = given
        .iter()
        .rposition(Option::is_none)
        .map_or(0, |at| at + 1);
    let found = given[epoch..].iter().position(|own| *own == Some(position));
    match (cut.recovery, found) {
        (Recovery::Recovered { messages, withheld }, Some(found)) => {
            let missed = epoch + found + 1..given.len();
            assert_eq!((messages, withheld), (missed.len(), 0));
            let replayed = (cut.first..cut.first + cut.messages).map(|at| window.get(at));
            let replayed = replayed.map(|kept| kept.expect("it is kept").entry);
            assert!(replayed.eq(missed), "{position}");
        }
        (Recovery::Gap { reason }, Some(_)) => assert_eq!(reason, GapReason::Trimmed),
        (Recovery::Gap { reason }, None) => {
            assert_eq!(cut.messages, 0);
            let is_old = given[..epoch].contains(&Some(position));
            assert!(!is_old || reason == GapReason::Epoch, "{reason:?}");
            assert!(
                !position.is_unknown() || reason == GapReason::Unknown,
                "{reason:?}"
            );
        }
        other => panic!("{position}: {other:?}"),
    }
}

/// Returns a position that was given out, in which one character is replaced.
fn changed(given: &[Option<Position>], rest: &str) -> String {
    let mut rest = rest.chars();
    let mut next = || rest.next().unwrap_or_default();
    let at = next() as usize % given.len();
    let Some(position) = given[at] else {
        return String::new();
    };
    let mut text: Vec<char> = position.to_string().chars().collect();
    let (place, character) = (next() as usize, next());
    if character != '\0' {
        let place = place % text.len();
        text[place] = character;
    }
    text.into_iter().collect()
}
