//! Tests of what is kept, and where members begin.

use super::*;

const WITHOUT_LIMIT: Budget<'static> = {
    static USED: AtomicUsize = AtomicUsize::new(0);
    Budget {
        used: &USED,
        max: usize::MAX,
    }
};
const ANYBODY: Listener = Listener {
    was: None,
    key: None,
    sees_senders: false,
};

fn kept(entry: u64, len: usize, at: Moment) -> Kept<u64> {
    Kept {
        entry,
        parties: Parties::default(),
        payload: 0..len,
        bytes: len,
        at,
    }
}

fn window(limits: History) -> Window<u64> {
    Window::new(limits, 1, 2)
}

fn resume(position: Position) -> Resume {
    Resume {
        position: Some(position),
        ..Resume::default()
    }
}

/// Every number of messages that were kept, and every place among 200 at which a client may have been.
#[test]
fn exactly_what_was_missed_or_a_gap() {
    let now = Moment::now();
    let (mut recovered, mut gaps) = (0, 0);
    for size in 0..=200 {
        let mut window = window(History::new().max_messages(size).max_bytes(usize::MAX));
        let mut positions = vec![window.position()];
        let mut removed = Vec::new();
        for number in 1..=200 {
            window.push(kept(number, 1, now), WITHOUT_LIMIT, &mut removed);
            positions.push(window.position());
        }
        assert_eq!(removed, (1..=200 - size as u64).collect::<Vec<_>>());
        for (offset, position) in positions.into_iter().enumerate() {
            let cut = window.cut(&resume(position), &ANYBODY);
            // The message itself is there, or there was nothing before it, or nothing after it.
            if offset > 200 - size || (offset == 0 && size == 200) || offset == 200 {
                let missed: Vec<_> = (offset as u64 + 1..=200).collect();
                let expected = Recovery::Recovered {
                    messages: missed.len(),
                    withheld: 0,
                };
                assert_eq!(cut.recovery, expected, "{size} kept, at {offset}");
                let replayed = (cut.first..cut.first + cut.messages)
                    .map(|at| window.get(at).map(|kept| kept.entry));
                assert!(replayed.eq(missed.into_iter().map(Some)));
                recovered += 1;
            } else {
                let expected = Recovery::Gap {
                    reason: GapReason::Trimmed,
                };
                assert_eq!(cut.recovery, expected, "{size} kept, at {offset}");
                assert_eq!(cut.messages, 0);
                gaps += 1;
            }
        }
    }
    assert_eq!(recovered + gaps, 201 * 201);
    assert!(
        recovered > 20_000 && gaps > 19_000,
        "{recovered} and {gaps}"
    );
}

#[test]
fn a_replay_has_at_most_300_messages_and_1_mib() {
    let now = Moment::now();
    for (len, most) in [(1, 300), (100_000, 10)] {
        let limits = History::new().max_messages(1000).max_bytes(usize::MAX);
        let mut window = window(limits);
        let mut positions = Vec::new();
        for number in 0..400 {
            window.push(kept(number, len, now), WITHOUT_LIMIT, &mut Vec::new());
            positions.push(window.position());
        }
        let at = |missed: usize| resume(positions[399 - missed]);
        let cut = window.cut(&at(most), &ANYBODY);
        assert_eq!((cut.first, cut.messages), (400 - most, most));
        let mut too_much = at(most + 1);
        too_much.last = 7;
        let cut = window.cut(&too_much, &ANYBODY);
        let reason = GapReason::TooMuch;
        assert_eq!(cut.recovery, Recovery::Gap { reason });
        assert_eq!((cut.first, cut.messages), (393, 7));
        too_much.last = usize::MAX;
        assert_eq!(window.cut(&too_much, &ANYBODY).messages, most);
    }
}

#[test]
fn a_message_that_cannot_be_kept_leaves_no_hole() {
    let now = Moment::now();
    let mut window = window(History::new().max_bytes(100));
    let mut positions = vec![window.position()];
    for len in [10, 10, 101, 10] {
        window.push(kept(0, len, now), WITHOUT_LIMIT, &mut Vec::new());
        positions.push(window.position());
    }
    let outcomes = positions.into_iter().map(|position| window.after(position));
    let trimmed = Err(GapReason::Trimmed);
    assert!(outcomes.eq([trimmed, trimmed, trimmed, trimmed, Ok(1)]));
}

#[test]
fn compressed_forms_count() {
    let now = Moment::now();
    for (max, first) in [(1000, Some(1)), (44, Some(2)), (34, Some(3)), (24, None)] {
        let used = AtomicUsize::new(0);
        let budget = Budget { used: &used, max };
        for limits in [History::new(), History::new().max_bytes(max)] {
            let mut window = window(limits);
            let mut removed = Vec::new();
            for number in 1..=3 {
                let max = usize::MAX;
                let budget = Budget { max, ..budget };
                window.push(kept(number, 10, now), budget, &mut removed);
            }
            // The third one is at its place for as long as it is kept.
            let budget = match limits == History::new() {
                true => budget,
                false => Budget {
                    max: usize::MAX,
                    ..budget
                },
            };
            window.grow(|entry| entry.cmp(&3), 15, budget, &mut removed);
            assert_eq!(window.get(0).map(|kept| kept.entry), first, "{max}");
            assert_eq!(used.load(Ordering::Relaxed), window.bytes());
            window.grow(|entry| entry.cmp(&7), 15, budget, &mut removed);
            window.clear(3, budget, &mut removed);
            assert_eq!((used.load(Ordering::Relaxed), window.bytes()), (0, 0));
        }
    }
}

#[test]
fn the_newest_position_stays_good_when_all_has_expired() {
    let now = Moment::now();
    let mut window = window(History::new());
    let mut removed = Vec::new();
    window.push(kept(0, 1, now), WITHOUT_LIMIT, &mut removed);
    let next = window.expire(now, WITHOUT_LIMIT, &mut removed);
    assert_eq!(next, now + Duration::from_secs(300));
    window.expire(next, WITHOUT_LIMIT, &mut removed);
    assert_eq!((removed.len(), window.bytes()), (1, 0));
    assert_eq!(window.after(window.position()), Ok(0));
    assert_eq!(window.ends_at(next), Some(next));
}
