//! What is left for a member that is behind: in the backlog, and in the history.

use super::{
    super::{
        entry::Logged,
        history::{Budget, Kept, Window},
        names::{Key, MemberId},
        recovery::{Listener, Replayed},
    },
    Log, Removed,
};

/// Where the entries are that are left for a member that is behind.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) enum Reach<'a> {
    /// In the backlog.
    Backlog,
    /// In the history, as far as it reaches back further than the backlog, and in the backlog.
    Both,
    /// In the history, for a member that came back.
    Replay(&'a Replay),
}

/// The messages that are replayed to a member: those that were there when it joined.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Replay {
    pub(in crate::hub) listener: Listener,
    /// The offset of the log at its join.
    pub(in crate::hub) end: u64,
    /// How many they were.
    pub(in crate::hub) messages: usize,
    /// What comes after that may be in the backlog, too.
    pub(in crate::hub) uses_backlog: bool,
}

impl<T> Log<T> {
    pub(in crate::hub) fn history(&self) -> Option<&Window<Logged<T>>> {
        self.rare.as_ref()?.history.as_deref()
    }

    pub(in crate::hub) fn history_mut(&mut self) -> Option<&mut Window<Logged<T>>> {
        self.rare.as_mut()?.history.as_deref_mut()
    }

    /// Begins a history, or ends it. One that ends is empty.
    pub(in crate::hub) fn set_history(&mut self, history: Option<Window<Logged<T>>>) {
        match history {
            Some(history) => self.rare.get_or_insert_default().history = Some(history.into()),
            None => {
                if let Some(rare) = &mut self.rare {
                    rare.history = None;
                }
            }
        }
    }

    /// Records the key of a silent member.
    pub(in crate::hub) fn set_silent_key(&mut self, id: MemberId, key: Key) {
        let rare = self.rare.get_or_insert_default();
        rare.silent_keys.insert(id, key);
    }

    pub(in crate::hub) fn silent_key(&self, id: MemberId) -> Option<Key> {
        self.rare.as_ref()?.silent_keys.get(&id).cloned()
    }

    /// Forgets the key of a member that leaves.
    pub(in crate::hub) fn remove_silent_key(&mut self, id: MemberId) {
        if let Some(rare) = &mut self.rare {
            rare.silent_keys.remove(&id);
        }
    }

    /// Returns the offset of the first entry, or the next one.
    pub(in crate::hub) fn first(&self) -> u64 {
        self.entries.front().map_or(self.next, |front| front.offset)
    }

    /// Leaves out an offset: nobody is there who would get the entry.
    pub(in crate::hub) const fn skip(&mut self) {
        self.next += 1;
    }

    /// Adds a message to the history, if there is one. It is the entry that is appended [next](Self::next). Returns how
    /// many messages the limit over all rooms has cost.
    pub(in crate::hub) fn keep(
        &mut self,
        kept: Kept<Logged<T>>,
        budget: Budget<'_>,
        removed: &mut Removed<T>,
    ) -> u64 {
        let history = self.history_mut();
        history.map_or(0, |history| history.push(kept, budget, removed))
    }

    /// Counts the compressed forms that an entry got, if it is in the history.
    pub(in crate::hub) fn grow_kept(
        &mut self,
        offset: u64,
        bytes: usize,
        budget: Budget<'_>,
        removed: &mut Removed<T>,
    ) {
        if let Some(history) = self.history_mut() {
            history.grow(|logged| logged.offset.cmp(&offset), bytes, budget, removed);
        }
    }

    /// Returns the offset from which on the backlog takes the place of the history.
    fn backlog_from(&self, reach: Reach<'_>) -> u64 {
        let first = self.first();
        match reach {
            Reach::Backlog => 0,
            Reach::Both => first,
            Reach::Replay(replay) if replay.uses_backlog => first.max(replay.end),
            Reach::Replay(_) => u64::MAX,
        }
    }

    /// Returns the entries from an offset on that are left for a member that is behind.
    pub(in crate::hub) fn left<'a>(
        &'a self,
        offset: u64,
        reach: Reach<'a>,
    ) -> Box<dyn Iterator<Item = &'a Logged<T>> + 'a> {
        let backlog_from = self.backlog_from(reach);
        let backlog = self.after(offset.max(backlog_from));
        let (Some(history), true) = (self.history(), backlog_from > 0) else {
            return Box::new(backlog);
        };
        let is_replayed = move |kept: &&Kept<Logged<T>>| match reach {
            Reach::Replay(replay) if kept.entry.offset < replay.end => {
                replay.listener.gets(&kept.parties) == Replayed::Yes
            }
            _ => true,
        };
        let kept = history.from(move |logged| logged.offset < offset);
        let kept = kept.map(|(_, kept)| kept);
        let kept = kept.take_while(move |kept| kept.entry.offset < backlog_from);
        let kept = kept.filter(is_replayed).map(|kept| &kept.entry);
        Box::new(kept.chain(backlog))
    }

    /// Returns whether all entries from an offset on are certainly left. False is no statement.
    pub(in crate::hub) fn is_whole_from(&self, offset: u64, reach: Reach<'_>) -> bool {
        let kept = self.history().and_then(|history| history.get(0));
        let is_kept = kept.is_some_and(|kept| kept.entry.offset <= offset);
        match reach {
            // Entries with keys leave from the middle.
            Reach::Backlog => false,
            Reach::Both | Reach::Replay(_) => is_kept || self.backlog_from(reach) <= offset,
        }
    }
}
