//! The messages that this side sends, and those that the peer reads.

use tokio::time::Instant;
use tower_websocket::Message;

use super::{Candidate, GRACE, Oracle};
use crate::words::{Cause, SENDERS, message, name, reason};

impl Oracle {
    /// Makes the next message of a sender.
    pub(crate) fn attempt(&mut self, sender: usize) -> (u32, Message) {
        self.attempts += 1;
        let number = self.attempts;
        (number, message(sender, number, self.limits.largest))
    }

    /// A message was accepted: it has to arrive.
    pub(crate) fn accept(&mut self, sender: usize, number: u32) {
        self.note("accepted of sender", sender);
        let closing = self.closing || self.refused || self.fault_told || self.close_seen.is_some();
        self.ensure(!closing, |_| {
            format!("message {number} of sender {sender} was accepted behind the end")
        });
        // So no timeout had expired.
        if !self.frozen {
            self.causes.retain(|candidate| !candidate.cause.is_timed());
            (self.stalled, self.slow) = (false, false);
        }
        self.accepted[sender].push_back(number);
        let len = message(sender, number, self.limits.largest).len();
        self.accepted_bytes += 2 + len;
        self.write_to_peer(len + 10);
    }

    pub(super) fn write_to_peer(&mut self, len: usize) {
        self.outstanding += len;
        if self.may_be_full() {
            self.blockable = true;
            self.skippable = self.pings;
        }
    }

    /// A message was refused because the connection is closing or gone.
    pub(crate) fn refuse(&mut self, sender: usize) {
        self.note("refused of sender", sender);
        self.refused = true;
        self.ended("a message was refused", |_| true);
        let only_peer = self
            .causes
            .iter()
            .all(|candidate| matches!(candidate.cause, Cause::Peer(_)));
        let early = only_peer && !self.may_answer_close();
        self.ensure(!early, |_| {
            "a message was refused while the handler could still answer".to_owned()
        });
    }

    /// A reply was refused that was sent in the same poll in which the message was received.
    pub(crate) fn refuse_reply(&mut self) {
        let by_peer = |cause: Cause| cause.is_of_the_stream() || matches!(cause, Cause::Peer(_));
        let early = self.causes.iter().all(|candidate| by_peer(candidate.cause));
        self.ensure(!early, |_| {
            "a reply in the turn of the message was refused".to_owned()
        });
    }

    /// Returns whether the peer's Close may have been answered by now.
    pub(super) fn may_answer_close(&self) -> bool {
        let grace = GRACE.min(self.limits.close);
        let is_late = |closed: Instant| Instant::now() >= closed + grace;
        self.told
            || self.socket_gone.is_some()
            || self.closing
            || self.reset
            || self.peer_closed.is_some_and(is_late)
    }

    pub(crate) fn peer_read(&mut self, bytes: usize) {
        self.note("peer reads bytes:", bytes);
        self.look_at_clock();
        // The bytes that the peer reads now may have been written before.
        self.stalled |= self.may_be_stalled();
        self.resume();
        self.read_bytes += bytes;
        self.last_read = Instant::now();
        self.outstanding = self.outstanding.saturating_sub(bytes);
    }

    /// The peer has read a message, which has to be the next one of its sender.
    pub(crate) fn arrive(&mut self, text: bool, payload: &[u8]) {
        let (sender, number) = name(payload);
        self.note("peer reads a message of", sender);
        let known = sender < SENDERS;
        self.ensure(known, |_| format!("a message of sender {sender}"));
        if !known {
            return;
        }
        let next = self.accepted[sender].pop_front();
        self.ensure(next == Some(number), |_| {
            format!("message {number} of sender {sender} arrived, not {next:?}")
        });
        let expected = message(sender, number, self.limits.largest);
        let same = payload == expected.as_bytes() && text == expected.is_text();
        self.ensure(same, |_| {
            format!("message {number} of sender {sender} is torn")
        });
    }

    /// The peer has read a pong.
    pub(crate) fn pong(&mut self, number: u32) {
        self.note("peer reads pong", number);
        let (pongs, pings) = (self.pongs, self.pings);
        self.ensure(pongs < number && number <= pings, |_| {
            format!("pong {number} of {pings} came after pong {pongs}")
        });
        let skipped = number.saturating_sub(1);
        self.ensure(skipped == pongs || skipped <= self.skippable, |_| {
            format!("pong {number} came after pong {pongs} although output was never blocked")
        });
        self.pongs = number;
    }

    /// The peer has read our Close.
    pub(crate) fn see_close(&mut self, code: Option<u16>, why: &[u8]) {
        self.note("peer reads a Close with", code.map_or(0, i64::from));
        self.close_seen = Some(Instant::now());
        self.ended(&format!("the peer read a Close with {code:?}"), |cause| {
            cause.is_told() && cause.sent() == code
        });
        self.ensure_all_arrived("before the Close");
        match self.causes.as_slice() {
            [
                Candidate {
                    cause: Cause::Peer(_),
                    ..
                },
            ] => {
                let early = !self.may_answer_close();
                self.ensure(!early, |_| "the Close was answered too early".to_owned());
                self.ensure_pongs();
                self.ensure(why.is_empty(), |_| "the reason was echoed".to_owned());
            }
            [
                Candidate {
                    cause: Cause::Violation(_) | Cause::Fin,
                    ..
                },
            ] => self.ensure_pongs(),
            [
                Candidate {
                    cause: Cause::Local(code),
                    ..
                },
            ] => {
                let expected = reason(*code);
                self.ensure(why == expected.as_bytes(), |_| {
                    format!("{expected:?} became {why:x?}")
                });
            }
            _ => {}
        }
    }

    pub(super) fn ensure_all_arrived(&mut self, when: &str) {
        let lost = self.accepted.iter().any(|accepted| !accepted.is_empty());
        self.ensure(!lost, |oracle| {
            format!("accepted, and not there {when}: {:?}", oracle.accepted)
        });
    }

    /// Every ping is answered, except if a newer ping is answered.
    pub(super) fn ensure_pongs(&mut self) {
        let (pongs, pings) = (self.pongs, self.pings);
        self.ensure(pongs == pings, |_| {
            format!("ping {pings} was not answered, only {pongs}")
        });
    }

    /// The peer has read the end of the stream.
    pub(crate) fn see_eof(&mut self) {
        self.note("peer reads the end", 0);
        self.eof_seen = true;
        if self.close_seen.is_none() {
            self.look_at_clock();
            let gave_up = self.may_have_given_up();
            let evidence = "the peer read the end without a Close";
            self.ended(evidence, |cause| gave_up || !cause.is_told());
        }
    }

    /// Returns whether this side may have given up closing.
    pub(super) fn may_have_given_up(&self) -> bool {
        let now = Instant::now();
        let is_late = |candidate: &Candidate| now >= candidate.since + self.limits.close;
        self.causes.iter().any(is_late) || self.may_be_stalled()
    }
}
