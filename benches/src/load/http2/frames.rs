//! The little of HTTP/2's framing and of HPACK that a client of WebSockets needs.

/// The payload of a frame is as long at most, unless a side asks for more.
pub(super) const MAX_FRAME: usize = 16 * 1024;
/// The most that a side may allow the other to send.
pub(super) const MAX_WINDOW: u32 = (1 << 31) - 1;
/// What a side may send on a new connection, and on a new stream (RFC 9113 §6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;

/// The kinds of frames (RFC 9113 §6).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
}

/// What a frame says besides (RFC 9113 §6).
pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
}

/// The settings that matter here (RFC 9113 §6.5.2, RFC 8441 §3).
pub(super) mod setting {
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// `:status: 200`, by its place in HPACK's table.
pub(super) const STATUS_200: u8 = 0x88;

const HEAD: usize = 9;

/// Appends a frame.
pub(super) fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // 24 bits of length; whoever calls this knows `MAX_FRAME`.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends what a client sends first: large windows, so that it seldom has to renew them.
pub(super) fn push_preface(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut settings = Vec::new();
    for (name, value) in [
        (setting::ENABLE_PUSH, 0),
        (setting::INITIAL_WINDOW_SIZE, MAX_WINDOW),
    ] {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    push(out, kind::SETTINGS, 0, 0, &settings);
    push_window_update(out, 0, MAX_WINDOW - FIRST_WINDOW);
}

/// Appends the leave to send so many more bytes, on one stream or, with 0, on all together.
pub(super) fn push_window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    push(out, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

/// Appends the opening handshake of one stream (RFC 8441 §4), in literals (RFC 7541 §6.2.2).
pub(super) fn push_connect(out: &mut Vec<u8>, stream: u32) {
    let mut block = Vec::new();
    // Names by their place in the table: `:method` is 2, `:path` 4 and `:authority` 1.
    for (name, value) in [(2, "CONNECT"), (4, "/ws"), (1, "127.0.0.1")] {
        block.push(name);
        push_string(&mut block, value);
    }
    // `:scheme: http`.
    block.push(0x86);
    for (name, value) in [(":protocol", "websocket"), ("sec-websocket-version", "13")] {
        block.push(0);
        push_string(&mut block, name);
        push_string(&mut block, value);
    }
    push(out, kind::HEADERS, flag::END_HEADERS, stream, &block);
}

/// Appends a string without Huffman's code; one shorter than 127 bytes, as all are here.
fn push_string(block: &mut Vec<u8>, string: &str) {
    block.push(string.len() as u8);
    block.extend_from_slice(string.as_bytes());
}

/// Reads frames as they come, however they are cut.
#[derive(Default)]
pub(super) struct Reader {
    /// A frame that is not complete, but for DATA.
    kept: Vec<u8>,
    /// What is missing of a DATA frame.
    data: usize,
    /// The stream it is on.
    stream: u32,
}

/// What was read.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Part<'a> {
    /// Some of what a stream carries.
    Data(u32, &'a [u8]),
    /// A whole frame of any other kind.
    Frame(Frame),
}

/// A whole frame.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Reader {
    /// Takes from the front of `bytes`, and returns nothing when more have to come.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Part<'a>>, String> {
        loop {
            if self.data > 0 {
                let part = taken(bytes, self.data);
                self.data -= part.len();
                return Ok((!part.is_empty()).then_some(Part::Data(self.stream, part)));
            }
            let missing = HEAD.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(taken(bytes, missing));
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3, ref begun @ ..] = self.kept[..] else {
                return Ok(None);
            };
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            let stream = u32::from_be_bytes([s0, s1, s2, s3]) & MAX_WINDOW;
            if length > MAX_FRAME {
                return Err(format!("a frame of {length} bytes"));
            }
            if kind == kind::DATA {
                if flags & (flag::END_STREAM | flag::PADDED) != 0 {
                    return Err(format!("the server has ended or padded stream {stream}"));
                }
                (self.data, self.stream) = (length, stream);
                self.kept.clear();
                continue;
            }
            let missing = length - begun.len();
            let more = taken(bytes, missing);
            self.kept.extend_from_slice(more);
            if more.len() < missing {
                return Ok(None);
            }
            let payload = self.kept.split_off(HEAD);
            self.kept.clear();
            return Ok(Some(Part::Frame(Frame {
                kind,
                flags,
                stream,
                payload,
            })));
        }
    }
}

/// Takes so many bytes from the front, or as many as there are.
fn taken<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    front
}

impl Frame {
    /// Returns the number that stands at `at`, and 0 where there is none.
    pub(super) fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// Returns the settings of a SETTINGS frame.
    pub(super) fn settings(&self) -> impl Iterator<Item = (u16, u32)> {
        let (settings, _) = self.payload.as_chunks::<6>();
        settings
            .iter()
            .map(|&[n0, n1, value @ ..]| (u16::from_be_bytes([n0, n1]), u32::from_be_bytes(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let mut bytes = Vec::new();
        push(&mut bytes, kind::PING, flag::ACK, 0, b"12345678");
        push(&mut bytes, kind::DATA, 0, 5, b"");
        push(&mut bytes, kind::DATA, 0, 5, b"hello");
        push(&mut bytes, kind::SETTINGS, 0, 0, &[0, 8, 0, 0, 0, 1]);
        for size in 1..=bytes.len() {
            let mut reader = Reader::default();
            let (mut frames, mut data) = (Vec::new(), Vec::new());
            for mut piece in bytes.chunks(size) {
                while let Some(part) = reader.next(&mut piece).unwrap() {
                    match part {
                        Part::Data(stream, part) => {
                            assert_eq!(stream, 5);
                            data.extend_from_slice(part);
                        }
                        Part::Frame(frame) => frames.push(frame),
                    }
                }
            }
            assert_eq!(data, b"hello", "in pieces of {size}");
            let [ping, settings] = &frames[..] else {
                panic!("{frames:?} in pieces of {size}");
            };
            assert_eq!((ping.kind, ping.flags), (kind::PING, flag::ACK));
            assert_eq!(ping.payload, b"12345678");
            assert!(settings.settings().eq([(8, 1)]));
        }
    }

    #[test]
    fn streams_that_end_and_frames_that_are_too_long_are_errors() {
        let mut ended = Vec::new();
        push(&mut ended, kind::DATA, flag::END_STREAM, 1, b"x");
        let mut long = Vec::new();
        push(&mut long, kind::SETTINGS, 0, 0, &[0; MAX_FRAME + 1]);
        for wrong in [ended, long] {
            assert!(Reader::default().next(&mut &wrong[..]).is_err());
        }
    }
}
