//! The peer's output, the messages that this side receives, and the end.

use std::time::Duration;

use tokio::time::Instant;
use tower_websocket::{Closed, Message, error::RecvError};

use super::{Candidate, Oracle};
use crate::words::{Cause, End, Fault, explains, peer_message, reason};

impl Oracle {
    /// The peer has written something. With `between`, a message or a frame outside of a message has ended.
    /// With `began`, another one has begun since.
    pub(crate) fn peer_wrote(&mut self, between: bool, began: bool) {
        self.look_at_clock();
        if between {
            self.begun = None;
        } else if began || self.begun.is_none() {
            self.begun = Some(Instant::now());
            self.excused = Duration::ZERO;
            self.paused = self.paused.map(|_| Instant::now());
            self.unread = self.unread.or(Some((Instant::now(), self.sent)));
        }
    }

    pub(crate) fn write_message(&mut self, number: u32) {
        self.note("peer has written message", number);
        debug_assert_eq!(number, self.sent);
        self.sent += 1;
        if self.socket_gone.is_none() {
            let len = peer_message(number, self.limits.largest).len();
            self.unreceived.push_back(len);
        }
        self.hear();
    }

    pub(crate) fn write_ping(&mut self, number: u32) {
        self.note("peer has written ping", number);
        self.pings = number;
        if self.blockable {
            self.skippable = number;
        }
        self.write_to_peer(6);
        self.hear();
    }

    /// The peer has written something that keepalive counts.
    pub(crate) fn hear(&mut self) {
        self.look_at_clock();
        self.last_heard = Instant::now();
    }

    /// The peer has answered a ping. Unless it is `fresh`, a newer ping may be under way, and then the
    /// pong does not count.
    pub(crate) fn write_pong(&mut self, fresh: bool) {
        let silence = self.limits.keepalive.map(|(silence, _)| silence);
        if fresh || silence.is_some_and(|silence| Instant::now() < self.last_heard + silence) {
            self.hear();
        }
    }

    pub(crate) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    pub(crate) fn write_close(&mut self, code: Option<u16>) {
        self.note("peer has written Close", code.map_or(0, i64::from));
        self.look_at_clock();
        self.peer_closed = Some(Instant::now());
        self.begin(Cause::Peer(code));
    }

    pub(crate) fn begin_violation(&mut self, fault: Fault) {
        self.note("peer begins a violation", fault as i64);
        self.look_at_clock();
        self.violates = true;
        self.begin(Cause::Violation(fault));
    }

    pub(crate) fn write_violation(&mut self) {
        self.note("peer has written the violation", 0);
        self.violated = true;
    }

    pub(crate) fn shut_down(&mut self) {
        self.note("peer shuts down", 0);
        self.look_at_clock();
        self.fin = true;
        if self.peer_closed.is_none() && !self.violated {
            self.begin(Cause::Fin);
        }
    }

    pub(crate) fn reset(&mut self) {
        self.note("peer drops the stream", 0);
        self.look_at_clock();
        self.reset = true;
        self.begin(Cause::Reset);
    }

    // Received messages, and the end.

    /// `recv` is pending.
    pub(crate) fn ask(&mut self) {
        self.asked = self.received;
    }

    /// `recv` has returned. Returns whether more messages may come.
    pub(crate) fn receive(&mut self, result: Result<Option<Message>, RecvError>) -> bool {
        match result {
            Ok(Some(message)) => {
                self.receive_message(&message);
                return true;
            }
            Ok(None) => {
                self.note("holder receives the end", 0);
                if !self.fault_told {
                    self.ended("the holder received the end", |cause| {
                        matches!(
                            cause,
                            Cause::Local(_) | Cause::Peer(_) | Cause::Lifetime | Cause::Neglected
                        )
                    });
                }
            }
            Err(error) => {
                self.note("holder receives an error", 0);
                let twice = self.fault_told || self.told;
                self.ensure(!twice, |_| format!("{error} came after the end"));
                self.fault_told = true;
                self.ended(&format!("the holder received {error:?}"), |cause| {
                    explains(cause, &error)
                });
            }
        }
        if !self.told {
            self.told = true;
            self.ensure_all_received();
        }
        false
    }

    pub(super) fn receive_message(&mut self, message: &Message) {
        let number = self.received;
        self.note("holder receives message", number);
        let only_local = matches!(
            *self.causes,
            [Candidate {
                cause: Cause::Local(_),
                ..
            }]
        );
        let after = self.told || (self.closing && only_local);
        self.ensure(!after, |_| format!("message {number} came after the end"));
        let there = number < self.sent;
        self.ensure(there, |_| format!("message {number} was never whole"));
        let same = message == &peer_message(number, self.limits.largest);
        self.ensure(same, |_| {
            format!("{message:?} was received, not message {number}")
        });
        self.look_at_clock();
        self.resume();
        self.received += 1;
        self.unreceived.pop_front();
        self.last_received = Instant::now();
    }

    /// A holder that keeps receiving gets every message that was complete before the peer's end.
    pub(super) fn ensure_all_received(&mut self) {
        let by_peer = |candidate: &Candidate| {
            matches!(
                candidate.cause,
                Cause::Peer(_)
                    | Cause::Violation(_)
                    | Cause::Fin
                    | Cause::TooSlow
                    | Cause::Unresponsive
            )
        };
        let least = self.causes.iter().map(|candidate| candidate.sent).min();
        if !self.closing && self.causes.iter().all(by_peer) {
            let received = self.received;
            self.ensure(least.is_none_or(|least| received >= least), |_| {
                format!("{received} messages were received before the end, of {least:?}")
            });
        }
    }

    /// A holder or a sender closes.
    pub(crate) fn close(&mut self, code: u16) {
        self.note("this side closes with", code);
        self.close_now(code);
    }

    /// The socket is about to be dropped.
    pub(crate) fn drop_socket(&mut self, panicking: bool) {
        self.note("holder drops the socket", i64::from(panicking));
        self.look_at_clock();
        self.resume();
        self.socket_gone = Some(panicking);
        self.unreceived.clear();
        // The connection acts on it when it is polled next. A sender may close before.
        if !self.handler_runs && !self.closing {
            self.begin(Cause::Local(if panicking { 1011 } else { 1000 }));
        }
    }

    /// The handler is about to end.
    pub(crate) fn end_handler(&mut self, end: End) {
        self.note("handler ends", 0);
        self.handler_runs = false;
        match end {
            End::Ok => match self.socket_gone {
                None => {}
                Some(false) => self.close_now(1000),
                Some(true) => {
                    // Both are correct, because the handler does not see the panic.
                    self.begin(Cause::Local(1011));
                    self.close_now(1000);
                }
            },
            End::Error | End::Panic => self.close_now(1011),
            End::Frame(code) => self.close_now(code),
        }
    }

    /// The API returned the end of the connection.
    pub(crate) fn learn(&mut self, closed: &Closed) {
        if let Some(before) = self.closed.clone() {
            self.ensure(before == *closed, |_| {
                format!("{before:?} became {closed:?}")
            });
            return;
        }
        self.note("the connection is closed", i64::from(closed.is_clean()));
        self.closed = Some(closed.clone());
        let (side, clean) = (closed.side(), closed.is_clean());
        let code = closed.code().map(|code| code.get());
        self.ended(&format!("{closed:?}"), |cause| {
            cause.side() == side && cause.code() == code
        });
        let stream_closed = self.reset || self.may_have_given_up();
        let [Candidate { cause, .. }] = *self.causes else {
            return;
        };
        let peer_closed = self.peer_closed.is_some();
        match cause {
            Cause::Local(_) | Cause::Lifetime => {
                self.ensure(!clean || peer_closed, |_| {
                    "it ended cleanly without the peer's Close".to_owned()
                });
                // The connection does not wait for a Close after an incomplete message.
                let slow = self.slow || self.is_slow();
                let excused = stream_closed || self.violates || slow || (self.fin && !peer_closed);
                self.ensure(clean || excused, |_| {
                    "the peer's Close came and does not count, or had no time to come".to_owned()
                });
            }
            Cause::Peer(_) => self.ensure(clean || stream_closed, |_| {
                "the peer's Close was answered, yet it is not clean".to_owned()
            }),
            _ => self.ensure(!clean, |_| "it cannot have ended cleanly".to_owned()),
        }
        if let Cause::Local(code) | Cause::Peer(Some(code)) = cause {
            let expected = reason(code);
            self.ensure(closed.reason() == expected, |_| {
                format!("{expected:?} became {:?}", closed.reason())
            });
        }
    }

    /// A flush has failed: not everything was written.
    pub(crate) fn see_end(&mut self) {
        self.note("a flush fails", 0);
        self.refused = true;
        self.ended("a flush failed", |_| true);
    }

    /// A `close` has returned. By then `Sender::closed` has to be ready.
    pub(crate) fn see_over(&mut self, closed: Option<Closed>) {
        match closed {
            Some(closed) => self.learn(&closed),
            None => self.fail("close returned before the end".to_owned()),
        }
    }
}
