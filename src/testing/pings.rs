//! Removes pings from the bytes that a server sends. A client that gets no ping answers none.
//!
//! Source: [RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2).

const PING: u8 = 0x9;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Follows the frames of a server, which are not masked.
// The parser of `codec` holds back an incomplete head, and fails on the body of a refusal.
#[derive(Debug)]
pub(super) struct PingFilter {
    place: Place,
    /// Pings are removed. A change takes effect at the next frame.
    pub(super) is_on: bool,
}

/// The position in the stream.
#[derive(Debug)]
enum Place {
    /// In the head of the answer to the handshake, after `matched` bytes of [`END_OF_HEAD`].
    Answer { matched: usize },
    /// In the head of a frame.
    Head { head: Vec<u8>, is_removed: bool },
    /// In the payload of a frame.
    Payload { left: u64, is_removed: bool },
}

impl PingFilter {
    /// Makes a filter for a stream that begins with an answer of HTTP.
    pub(super) const fn after_http() -> Self {
        Self {
            place: Place::Answer { matched: 0 },
            is_on: false,
        }
    }

    /// Makes a filter for a stream that has frames only.
    pub(super) const fn of_frames() -> Self {
        Self {
            place: Place::next_frame(),
            is_on: false,
        }
    }

    /// Returns the bytes that the client gets.
    ///
    /// It holds no bytes back: the last bytes of a refusal's body may look like an incomplete head.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match &mut self.place {
                Place::Answer { matched } => {
                    passed.push(byte);
                    *matched = match byte == END_OF_HEAD[*matched] {
                        true => *matched + 1,
                        false => usize::from(byte == END_OF_HEAD[0]),
                    };
                    if *matched == END_OF_HEAD.len() {
                        self.place = Place::next_frame();
                    }
                }
                Place::Head { head, is_removed } => {
                    if head.is_empty() {
                        *is_removed = self.is_on && byte & 0x0f == PING;
                    }
                    if !*is_removed {
                        passed.push(byte);
                    }
                    head.push(byte);
                    if let Some(left) = payload_len(head) {
                        self.place = Place::payload(left, *is_removed);
                    }
                }
                Place::Payload { left, is_removed } => {
                    if !*is_removed {
                        passed.push(byte);
                    }
                    self.place = Place::payload(*left - 1, *is_removed);
                }
            }
        }
        passed
    }
}

impl Place {
    const fn next_frame() -> Self {
        Self::Head {
            head: Vec::new(),
            is_removed: false,
        }
    }

    const fn payload(left: u64, is_removed: bool) -> Self {
        match left {
            0 => Self::next_frame(),
            _ => Self::Payload { left, is_removed },
        }
    }
}

/// Returns the length of the payload, once the head of a frame is complete.
fn payload_len(head: &[u8]) -> Option<u64> {
    let len = match head.get(1)? & 0x7f {
        126 => head.get(2..4)?,
        127 => head.get(2..10)?,
        len => return Some(len.into()),
    };
    Some(len.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n";

    /// Two pings and two messages. The second message is 300 bytes long.
    fn frames() -> [Vec<u8>; 4] {
        let long = [&[0x82, 126, 1, 44][..], &[0x89; 300]].concat();
        let ping = b"\x89\x04ping".to_vec();
        [ping.clone(), b"\x81\x02ab".to_vec(), ping, long]
    }

    #[test]
    fn removes_pings_and_nothing_else_in_pieces_of_any_length() {
        let [ping, short, _, long] = &frames();
        let sent = [ANSWER, ping, short, ping, long, b"\x89\x00", short].concat();
        let expected = [ANSWER, short, long, short].concat();
        for len in 1..=sent.len() {
            let mut filter = PingFilter::after_http();
            filter.is_on = true;
            let passed = sent.chunks(len).flat_map(|piece| filter.pass(piece));
            assert_eq!(passed.collect::<Vec<_>>(), expected, "pieces of {len}");
        }
    }

    #[test]
    fn passes_everything_while_it_is_off() {
        let sent = frames().concat();
        let mut filter = PingFilter::of_frames();
        let passed = sent.chunks(3).flat_map(|piece| filter.pass(piece));
        assert_eq!(passed.collect::<Vec<_>>(), sent);
    }

    #[test]
    fn takes_a_change_at_the_next_frame() {
        let mut filter = PingFilter::of_frames();
        assert_eq!(filter.pass(b"\x89\x02p"), b"\x89\x02p");
        filter.is_on = true;
        assert_eq!(filter.pass(b"q\x89\x00"), b"q");
        filter.is_on = false;
        assert_eq!(filter.pass(b"\x89\x00"), b"\x89\x00");
    }
}
