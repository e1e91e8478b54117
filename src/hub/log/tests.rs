//! Tests of what the hub counts of a log.

use super::*;
use crate::codec::SharedMessage;

fn push(log: &mut Log<()>, len: usize, limits: Limits<'_>) {
    let message = SharedMessage::new(vec![0; len].into());
    let mut removed = log.push(Arc::new(Entry::message(message, None, None)), limits);
    log.trim(limits, &mut removed);
}

#[test]
fn the_hub_counts_only_rooms_with_members_behind_or_much_in_their_logs() {
    let all = AtomicUsize::new(0);
    let counted = || all.load(Ordering::Relaxed);
    let limits = Limits {
        overflow: Overflow::DropOldest,
        messages: 1024,
        bytes: 1024 * 1024,
        all: &all,
        max_all: usize::MAX,
    };
    let mut log = Log::default();
    log.begin_chunk(0);
    log.join();
    for _ in 0..10 {
        push(&mut log, 1000, limits);
        assert_eq!(counted(), 0);
    }
    log.add_behind(2, limits);
    assert_eq!(counted(), log.bytes());
    push(&mut log, 1000, limits);
    assert_eq!(counted(), 11 * 1128);
    log.remove_behind(limits);
    assert_eq!(counted(), 11 * 1128);
    log.remove_behind(limits);
    assert_eq!(counted(), 0);
    push(&mut log, 100_000, limits);
    assert_eq!(counted(), log.bytes() - UNCOUNTED);
    log.delivered_up_to(0, log.next());
    assert!(!log.trim(limits, &mut Removed::default()));
    assert_eq!((counted(), log.bytes()), (0, 0));
}
