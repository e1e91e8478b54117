//! What a room with history does in addition: keeping messages, and handing them out again.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    super::{
        entry::{Entry, Logged},
        error::PublishError,
        history::{Budget, Cut, Kept, Window},
        log::{Log, Removed},
        names::MemberId,
        past::Past,
        position::Position,
        publication::{Publication, Sent},
        recovery::{GapReason, Listener, Parties, Recovery, Replayed, Resume},
    },
    RoomState,
};
use crate::{
    codec::{SMALL, SharedMessage},
    socket::now,
    time::Moment,
    words::Message,
};

/// What a message in a history counts in addition to what its entry counts.
const KEPT: usize = 192;

/// Copies a short message. A received one may share its buffer with others, and the history would keep all of it alive.
fn compact(message: Message) -> Message {
    match message {
        Message::Text(text) if text.len() <= SMALL => Message::text(text.as_str().to_owned()),
        Message::Binary(bytes) if bytes.len() <= SMALL => {
            Message::Binary(Bytes::copy_from_slice(&bytes))
        }
        long => long,
    }
}

impl<T> RoomState<T> {
    pub(in crate::hub) fn budget(&self) -> Budget<'_> {
        Budget {
            used: &self.hub.history,
            max: self.hub.max_history,
        }
    }

    /// Ends the history of a room without members, if nothing is kept. Returns whether it has ended, or there is none.
    pub(in crate::hub) fn end_history(&self) -> bool {
        if !self.settings.has_history() {
            return true;
        }
        let now = now();
        let mut removed = Removed::default();
        let mut log = self.log();
        let has_ended = match log.history_mut() {
            None => true,
            Some(history) => {
                history.expire(now, self.budget(), &mut removed);
                history.ends_at(now).is_some_and(|end| now >= end)
            }
        };
        if has_ended {
            log.set_history(None);
        }
        drop(log);
        drop(removed);
        has_ended
    }

    /// Removes old messages, and the room itself once nobody needs it. Returns when there may be more to remove;
    /// `None` if the room has ended.
    pub(in crate::hub) fn sweep(&self, now: Moment) -> Option<Moment> {
        let mut members = self.members();
        let is_gone = self.end_if_unused(&mut members);
        let is_unused = members.is_unused();
        drop(members);
        if is_gone {
            self.end();
        }
        let mut removed = Removed::default();
        let mut log = self.log();
        let next = log.history_mut().map(|history| {
            let next = history.expire(now, self.budget(), &mut removed);
            let end = history.ends_at(now).filter(|_| is_unused);
            end.unwrap_or(next)
        });
        drop(log);
        drop(removed);
        next
    }

    /// Ends the room if it is only there for its history. Returns whether it has ended.
    pub(in crate::hub) fn abandon(&self) -> bool {
        let mut members = self.members();
        let removed = members.is_unused().then(|| self.forget(None));
        let is_gone = self.end_if_unused(&mut members);
        drop(members);
        drop(removed);
        if is_gone {
            self.end();
        }
        is_gone
    }

    /// Determines where a member begins, and the offset of the log at which its replay begins.
    pub(in crate::hub) fn cut(
        &self,
        log: &mut Log<T>,
        resume: &Resume,
        listener: &Listener,
        removed: &mut Removed<T>,
    ) -> Option<(Cut, u64)> {
        let history = log.history_mut()?;
        history.expire(now(), self.budget(), removed);
        let cut = history.cut(resume, listener);
        let first = history.get(cut.first);
        Some((cut, first.map_or(0, |kept| kept.entry.offset)))
    }

    pub(in crate::hub) fn count_recovery(
        log: &mut Log<T>,
        cut: Option<&Cut>,
        resume: &Resume,
    ) -> Recovery {
        let recovery = match (cut, resume.position) {
            (Some(cut), _) => cut.recovery,
            (None, None) => Recovery::Fresh,
            (None, Some(_)) => Recovery::Gap {
                reason: GapReason::Unknown,
            },
        };
        match recovery {
            Recovery::Fresh => {}
            Recovery::Recovered { .. } => log.rare_counters().recovered += 1,
            Recovery::Gap { .. } => log.rare_counters().not_recovered += 1,
        }
        recovery
    }

    /// Returns up to `limit` messages after a position; without one, the newest.
    pub(in crate::hub) fn history(
        &self,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Past>, GapReason> {
        let mut removed = Removed::default();
        let mut log = self.log();
        let Some(history) = log.history_mut() else {
            return match after {
                Some(_) => Err(GapReason::Unknown),
                None => Ok(Vec::new()),
            };
        };
        history.expire(now(), self.budget(), &mut removed);
        let past = history.messages(after).map(|messages| {
            let newest = match after {
                Some(_) => 0,
                None => messages.len().saturating_sub(limit),
            };
            let messages = messages.skip(newest).take(limit);
            messages.filter_map(past).collect()
        });
        drop(log);
        drop(removed);
        past
    }

    pub(in crate::hub) fn clear_history(&self) {
        let removed = self.forget(Some(self.hub.next_epoch()));
        drop(removed);
    }

    /// Removes all messages, and begins a new epoch, or ends the history.
    fn forget(&self, epoch: Option<u64>) -> Removed<T> {
        let mut removed = Removed::default();
        let mut log = self.log();
        if let Some(history) = log.history_mut() {
            history.clear(epoch.unwrap_or(1), self.budget(), &mut removed);
        }
        if epoch.is_none() {
            log.set_history(None);
        }
        removed
    }
}

impl<T: Send + Sync + 'static> RoomState<T> {
    /// Publishes a message that is kept.
    pub(in crate::hub) fn publish_kept(
        self: &Arc<Self>,
        publication: Publication,
    ) -> Result<Sent, PublishError> {
        let Publication {
            message,
            by,
            except,
            key,
            ..
        } = publication;
        let form = &self.settings.form;
        let draft = form.draft(self.name(), by.as_ref(), compact(message))?;
        let left_out = except.and_then(|except| self.members().key_of(except));
        let is_left_out = left_out.is_some();
        let at = now();
        let mut removed = Removed::default();
        let mut log = self.log();
        let position = log.history().map(Window::next_position);
        let silent_key = || log.silent_key(except?);
        let except_key = left_out.flatten().or_else(silent_key);
        let (message, payload) = draft.finish(position.as_ref());
        let entry = Entry::message(SharedMessage::new(message), except, key);
        let entry = Arc::new(entry);
        let kept = Kept {
            bytes: entry.bytes() + KEPT,
            entry: Logged::plain(log.next(), Arc::clone(&entry)),
            parties: Parties {
                by: by.map(|by| by.member),
                except,
                except_key,
            },
            payload,
            at,
        };
        let refused = log.keep(kept, self.budget(), &mut removed);
        if refused > 0 {
            log.rare_counters().history_refused += refused;
        }
        let members = match log.members {
            0 => {
                log.skip();
                drop(log);
                0
            }
            _ => self.append(log, entry),
        };
        drop(removed);
        Ok(Self::sent(members, is_left_out, position))
    }

    /// Begins to deliver to a member that was paused.
    pub(in crate::hub) fn start(self: &Arc<Self>, id: MemberId) {
        let chunks = self.chunks(&self.log());
        let Some(chunk) = chunks.of(id) else {
            return;
        };
        let mut seats = chunk.lock();
        if let Some(seat) = seats.seat(id) {
            seat.start();
        }
        drop(seats);
        self.catch_up(id);
    }

    /// Takes what would be replayed to a member that is paused.
    pub(in crate::hub) fn take_replay(&self, id: MemberId) -> Vec<Past> {
        let chunks = self.chunks(&self.log());
        let Some(chunk) = chunks.of(id) else {
            return Vec::new();
        };
        let mut seats = chunk.lock();
        let Some(seat) = seats.seat(id) else {
            return Vec::new();
        };
        let from = seat.next();
        let Some(replay) = seat.replay().filter(|replay| from < replay.end) else {
            return Vec::new();
        };
        let mut log = self.log();
        let history = log.history().into_iter();
        let kept = history.flat_map(|history| history.from(|logged| logged.offset < from));
        let kept = kept.take_while(|(_, kept)| kept.entry.offset < replay.end);
        let gets = |parties| replay.listener.gets(parties) == Replayed::Yes;
        let kept = kept.filter(|(_, kept)| gets(&kept.parties));
        let taken: Vec<_> = kept.filter_map(past).collect();
        let tally = seat.skip_replay(&replay, taken.len());
        let line = self.count(&mut log, &tally);
        drop(log);
        drop(seats);
        if let Some(line) = line {
            self.log_line(line);
        }
        taken
    }
}

/// Makes what the user gets of a message.
fn past<T>((position, kept): (Position, &Kept<Logged<T>>)) -> Option<Past> {
    let shared = kept.entry.entry.shared()?;
    let message = shared.message().slice(kept.payload.clone());
    Some(Past {
        position,
        by: kept.parties.by,
        except: kept.parties.except,
        message,
    })
}
