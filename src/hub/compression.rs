//! Messages that members share compressed: each is compressed once for all members that have the same parameters and
//! refer to no earlier message.
//!
//! The first chunk that needs a form makes it, without a lock, before it delivers the message. Other chunks that need
//! it meanwhile end their tasks, and are scheduled again when it is made.

use super::{
    chunk::{Chunk, Seats},
    log::Logged,
    names::MemberId,
};
use crate::codec::{Compressing, Sharing};

/// The bytes that a chunk compresses before it lets other tasks run.
const BUDGET: usize = 128 * 1024;

/// A way in which members of a chunk share compressed messages.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    sharing: Sharing,
    /// The member, if it is the only one.
    only: Option<MemberId>,
}

/// What was compressed.
#[derive(Debug, Default)]
pub(super) struct Compressed {
    /// The number of entries, from the first on, that may be delivered.
    pub(super) ready: usize,
    /// Another task compresses the next entry, and schedules the chunk when it is done.
    pub(super) is_busy: bool,
    /// The entries that got a form, by offset, and the bytes of it.
    pub(super) made: Vec<(u64, usize)>,
    /// Chunks wait for one of them.
    pub(super) is_awaited: bool,
}

/// Compresses entries in the forms that members of the chunk need.
pub(super) fn compress<T>(chunk: &Chunk<T>, entries: &[Logged<T>]) -> Compressed {
    let mut result = Compressed::default();
    if !chunk.shares() {
        result.ready = entries.len();
        return result;
    }
    let wanted = wanted(&chunk.lock());
    let mut budget = BUDGET;
    for logged in entries {
        for wanted in &wanted {
            if !compress_one(logged, *wanted, &mut budget, &mut result) {
                return result;
            }
        }
        result.ready += 1;
    }
    result
}

/// Returns whether the entry is ready.
fn compress_one<T>(
    logged: &Logged<T>,
    wanted: Wanted,
    budget: &mut usize,
    result: &mut Compressed,
) -> bool {
    let Some(message) = logged.entry.shared() else {
        return true;
    };
    let is_left_out = wanted.only.is_some() && wanted.only == logged.entry.except;
    if is_left_out || !wanted.sharing.applies_to(message.len()) {
        return true;
    }
    let form = wanted.sharing.form();
    loop {
        if *budget == 0 && message.compressed(form).is_none() {
            return false;
        }
        match message.compress(form, budget) {
            Compressing::Done => return true,
            Compressing::Paused => {}
            Compressing::Finished { bytes, awaited } => {
                result.made.push((logged.offset, bytes));
                result.is_awaited |= awaited;
                return true;
            }
            Compressing::Busy => {
                result.is_busy = true;
                return false;
            }
        }
    }
}

fn wanted<T>(seats: &Seats<T>) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for seat in seats.iter() {
        let Some(sharing) = seat.sharing else {
            continue;
        };
        match all.iter_mut().find(|wanted| wanted.sharing == sharing) {
            Some(wanted) => wanted.only = None,
            None => all.push(Wanted {
                sharing,
                only: Some(seat.member.id()),
            }),
        }
    }
    all
}
