//! What connections have done, in numbers.

use std::collections::BTreeMap;

use crate::{
    socket::Traffic,
    words::{CloseCode, Closed, Side},
};

/// How many different codes from 3000 on are told apart, for each side.
const MAX_CODES: usize = 64;

/// How many connections a shutdown ended, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that ended with a closing handshake, and whose handler returned.
    pub clean: u64,
    /// Connections that did not: their peer was gone or did not answer in time, or the handler was
    /// still running when the time was over.
    pub aborted: u64,
}

/// The close code of a connection, as it is counted.
///
/// The codes below 3000 are fixed ones. Applications and peers choose those from 3000 on, of which the first 64 are
/// told apart for each side. So neither the memory nor the labels of a metric grow without end.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum CountedCode {
    /// There was no Close, or the first one had no code.
    None,
    /// The first Close had this code.
    Code(CloseCode),
    /// The first Close had a code from 3000 on, after 64 others had been counted for its side.
    Other,
}

/// What the connections of a registry have done, counted since their [`Connections`](crate::Connections) was made.
///
/// # Examples
///
/// ```
/// use tower_websocket::{Connections, CountedCode, Side};
///
/// let counts = Connections::new().counts();
/// let refused: u64 = counts.refused().map(|(_label, count)| count).sum();
/// let lost: u64 = counts
///     .closed()
///     .filter(|(key, _)| *key == (Side::Remote, CountedCode::None))
///     .map(|(_key, count)| count)
///     .sum();
/// assert_eq!((counts.open(), refused, lost), (0, 0, 0));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub(super) open: usize,
    pub(super) buffered: usize,
    pub(super) lingering: usize,
    pub(super) handed_on: u64,
    pub(super) accepted: u64,
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) closed: Ends,
    pub(super) traffic: Traffic,
}

impl Counts {
    /// Returns the connections and handshakes that are open now.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Returns the bytes that the connections hold, exact to 4 KiB for each. It is 0 without
    /// [`Connections::max_buffered`](crate::Connections::max_buffered).
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.buffered
    }

    /// Returns the handlers that go on after their connection is over, for at most
    /// [`Config::handler_grace`](crate::Config::handler_grace).
    #[must_use]
    pub const fn lingering(&self) -> usize {
        self.lingering
    }

    /// Returns the handlers so far that returned while their [`WebSocket`](crate::WebSocket) lived on elsewhere, and
    /// kept the connection open.
    #[must_use]
    pub const fn handed_on(&self) -> u64 {
        self.handed_on
    }

    /// Returns the connections that were opened: handshakes that were answered with 101, or over HTTP/2 with 200,
    /// those of clients, and the sockets of [`Connections::from_io`](crate::Connections::from_io).
    #[must_use]
    pub const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Returns the handshakes that a layer refused, by
    /// [`HandshakeError::label`](crate::error::HandshakeError::label), in the order of these names.
    ///
    /// The labels are a fixed set. One under which nothing is counted does not appear.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refused.iter().map(|(label, count)| (*label, *count))
    }

    /// Returns the handshakes that a layer refused under one label.
    #[must_use]
    pub fn refused_as(&self, label: &str) -> u64 {
        self.refused.get(label).copied().unwrap_or_default()
    }

    /// Returns the connections that ended, by who ended them and with which code, in this order.
    pub fn closed(&self) -> impl Iterator<Item = ((Side, CountedCode), u64)> {
        self.closed.0.iter().map(|(key, count)| (*key, *count))
    }

    /// Returns the connections that a side ended with a code.
    #[must_use]
    pub fn closed_as(&self, side: Side, code: CountedCode) -> u64 {
        self.closed
            .0
            .get(&(side, code))
            .copied()
            .unwrap_or_default()
    }

    /// Returns the messages that came and went.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }
}

/// Makes the code of a connection that is counted without a bound.
impl From<Option<CloseCode>> for CountedCode {
    fn from(code: Option<CloseCode>) -> Self {
        code.map_or(Self::None, Self::Code)
    }
}

/// The ends of connections, counted under a bounded set of keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Ends(BTreeMap<(Side, CountedCode), u64>);

impl Ends {
    /// Counts an end, and returns the code that it was counted under.
    pub(super) fn count(&mut self, closed: &Closed) -> CountedCode {
        let side = closed.side();
        let mut code = CountedCode::from(closed.code());
        if is_free(code) && !self.0.contains_key(&(side, code)) {
            let of_side = self.0.keys().filter(|(other, _)| *other == side);
            if of_side.filter(|(_, code)| is_free(*code)).count() >= MAX_CODES {
                code = CountedCode::Other;
            }
        }
        *self.0.entry((side, code)).or_default() += 1;
        code
    }
}

/// Returns whether an application or a peer can choose the code.
const fn is_free(code: CountedCode) -> bool {
    matches!(code, CountedCode::Code(code) if code.get() >= 3000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::CloseFrame;

    #[test]
    fn tells_so_many_codes_apart_for_each_side() {
        let mut ends = Ends::default();
        for number in (1000..=1003).chain(3000..=4999) {
            for side in [Side::Local, Side::Remote, Side::Remote] {
                let frame = CloseFrame::without_reason(CloseCode::new(number).unwrap());
                let counted = ends.count(&Closed::new(side, Some(frame.clone()), true));
                match number {
                    ..3064 => assert_eq!(counted, CountedCode::Code(frame.code())),
                    _ => assert_eq!(counted, CountedCode::Other),
                }
            }
        }
        assert_eq!(
            ends.count(&Closed::new(Side::Local, None, true)),
            CountedCode::None
        );
        assert_eq!(ends.0.len(), 2 * (4 + 64 + 1) + 1);
        assert_eq!(ends.0[&(Side::Local, CountedCode::Other)], 2000 - 64);
        assert_eq!(ends.0[&(Side::Remote, CountedCode::Other)], 2 * (2000 - 64));
    }
}
