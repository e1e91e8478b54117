//! The application's pings, and all pongs.

use std::{task::Context, time::Duration};

use super::Driver;
use crate::{
    socket::{io::Io, timer},
    time::{
        Moment,
        keepalive::{Keepalive, Pong},
    },
};

impl<IO: Io> Driver<IO> {
    /// Sends the ping that the application asked for.
    pub(super) fn send_ping(&mut self) {
        let mark = self.keepalive.as_ref().map_or(0, Keepalive::mark);
        let payload = self.link.begin_ping(mark, timer::now());
        self.push_control(|engine| engine.output.push_ping(&payload));
    }

    /// Records a pong. Returns whether it answers one of our pings.
    pub(super) fn note_pong(&mut self, payload: &[u8], now: Moment, cx: &Context<'_>) -> bool {
        let is_keepalive = self.note_keepalive_pong(payload, now);
        let keepalive = self.keepalive.as_ref().filter(|_| is_keepalive);
        let is_later = |mark| keepalive.is_some_and(|keepalive| keepalive.has_answer_after(mark));
        let Some(answered) = self.link.note_pong(payload, is_later, now, cx) else {
            return is_keepalive;
        };
        if !is_keepalive {
            self.report_round_trip(answered.round_trip);
            if let Some(keepalive) = &mut self.keepalive {
                keepalive.settle(answered.mark, now);
            }
        }
        true
    }

    fn note_keepalive_pong(&mut self, payload: &[u8], now: Moment) -> bool {
        let Some(keepalive) = &mut self.keepalive else {
            return false;
        };
        keepalive.mark_active(now);
        let pong = keepalive.pong(payload, now);
        if let Pong::Expected(round_trip) = pong {
            self.stall.backlog.clear();
            self.report_round_trip(round_trip);
        }
        pong != Pong::Unsolicited
    }

    fn report_round_trip(&self, round_trip: Duration) {
        self.link.set_round_trip(round_trip);
        if let Some(meter) = self.rare.as_ref().and_then(|rare| rare.meter.as_ref()) {
            meter.round_trip(round_trip);
        }
    }
}
