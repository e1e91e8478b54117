//! The settings of a session.

use tower_websocket::Config;

use super::{MILLI, SECOND, words::Limits};
use crate::support::schedule::Random;

/// Chooses settings and a pipe, mostly so small that everybody waits for everybody.
pub(crate) fn limits(random: &mut Random) -> Limits {
    let capacity = random.pick(&[1, 7, 64, 300, 5000, 100_000]);
    let largest = match capacity {
        0..100 => 200,
        100..1000 => 5_000,
        _ => random.pick(&[5_000, 70_000]),
    };
    Limits {
        capacity,
        pieces: random.below(3) == 0,
        largest,
        message: largest + random.pick(&[6 + 4, 30_000]),
        inbox: random.pick(&[(1, 1), (1, 1000), (2, 60), (16, 64 * 1024)]),
        outbox: random.pick(&[
            (1, 1),
            (2, 100),
            (5, 600),
            (100, 20_000),
            (1024, 1024 * 1024),
        ]),
        keepalive: random.pick(&[
            None,
            Some((20 * SECOND, 10 * SECOND)),
            Some((2 * SECOND, SECOND)),
        ]),
        write: random.pick(&[SECOND, 10 * SECOND]),
        assembly: random.pick(&[3 * SECOND, 30 * SECOND]),
        close: random.pick(&[500 * MILLI, 5 * SECOND]),
        lifetime: random.pick(&[None, None, None, None, None, Some(30 * SECOND)]),
        fragments: random.pick(&[(16, 4), (40, 16)]),
    }
}

pub(crate) fn config(limits: &Limits) -> Config {
    let Limits {
        inbox,
        outbox,
        fragments,
        ..
    } = *limits;
    let mut config = Config::new()
        .max_inbox(inbox.0, inbox.1)
        .max_outbox(outbox.0, outbox.1)
        .max_fragments(fragments.0, fragments.1)
        .max_message_size(limits.message)
        .max_control_frames(u32::MAX, u32::MAX)
        .write_timeout(limits.write)
        .assembly_timeout(limits.assembly)
        .close_timeout(limits.close);
    config = match limits.keepalive {
        Some((silence, answer)) => config.keepalive(silence, answer),
        None => config.without_keepalive(),
    };
    match limits.lifetime {
        Some(lifetime) => config.max_lifetime(lifetime),
        None => config,
    }
}
