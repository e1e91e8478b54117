//! The counts of a registry: connections, refusals, ends and traffic.

use std::collections::BTreeMap;

use crate::{
    socket::Traffic,
    words::{CloseCode, Closed, Side},
};

/// The maximum number of different codes from 3000 on that are counted for each side.
const MAX_CUSTOM_CODES: usize = 64;

/// How many connections a shutdown ended, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that ended with a closing handshake, and whose handler returned.
    pub clean: u64,
    /// All others: the peer was gone or did not answer in time, or the handler was still running when the time was
    /// over.
    pub aborted: u64,
}

/// The close code under which the end of a connection is counted.
///
/// Codes below 3000 are a fixed set. Applications and peers choose the codes from 3000 on: for each side, the first
/// 64 different ones are counted separately, all further ones as [`Other`](Self::Other). So memory and the labels of
/// a metric stay bounded.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum CountedCode {
    /// There was no Close, or the first one had no code.
    None,
    /// The first Close had this code.
    Code(CloseCode),
    /// The first Close had a code from 3000 on, and 64 other such codes had been counted for its side.
    Other,
}

/// The counts of a registry since its [`Connections`](crate::Connections) was made.
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
    /// Returns the number of connections that are open and handshakes that are in progress.
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

    /// Returns the number of handlers that still run although their connection is over. Each may do so for at most
    /// [`Config::handler_grace`](crate::Config::handler_grace).
    #[must_use]
    pub const fn lingering(&self) -> usize {
        self.lingering
    }

    /// Returns the number of handlers so far that returned, but had moved their [`WebSocket`](crate::WebSocket)
    /// elsewhere. Such a `WebSocket` keeps the connection open.
    #[must_use]
    pub const fn handed_on(&self) -> u64 {
        self.handed_on
    }

    /// Returns the number of connections that were opened: by handshakes that were answered with 101, or with 200
    /// over HTTP/2, by clients, and by [`Connections::from_io`](crate::Connections::from_io).
    #[must_use]
    pub const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Returns the number of handshakes that layers refused for each
    /// [`HandshakeError::label`](crate::error::HandshakeError::label), sorted by label.
    ///
    /// The labels are a fixed set. Labels without a refusal are left out.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refused.iter().map(|(label, count)| (*label, *count))
    }

    /// Returns the number of handshakes that layers refused under one label.
    #[must_use]
    pub fn refused_as(&self, label: &str) -> u64 {
        self.refused.get(label).copied().unwrap_or_default()
    }

    /// Returns the number of connections that ended for each side and code, sorted by side, then code. The side is
    /// the one that ended the connection.
    pub fn closed(&self) -> impl Iterator<Item = ((Side, CountedCode), u64)> {
        self.closed.0.iter().map(|(key, count)| (*key, *count))
    }

    /// Returns the number of connections that a side ended with a code.
    #[must_use]
    pub fn closed_as(&self, side: Side, code: CountedCode) -> u64 {
        self.closed
            .0
            .get(&(side, code))
            .copied()
            .unwrap_or_default()
    }

    /// Returns the messages and bytes that were received and sent.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }
}

/// Never returns [`Other`](CountedCode::Other): the conversion does not know how many codes are counted.
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
        if is_custom(code) && !self.0.contains_key(&(side, code)) {
            let of_side = self.0.keys().filter(|(other, _)| *other == side);
            if of_side.filter(|(_, code)| is_custom(*code)).count() >= MAX_CUSTOM_CODES {
                code = CountedCode::Other;
            }
        }
        *self.0.entry((side, code)).or_default() += 1;
        code
    }
}

/// Returns whether the code is from 3000 on. Applications and peers choose such codes.
const fn is_custom(code: CountedCode) -> bool {
    matches!(code, CountedCode::Code(code) if code.get() >= 3000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::CloseFrame;

    #[test]
    fn counts_64_custom_codes_separately_for_each_side() {
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
