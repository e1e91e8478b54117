//! The parts of HTTP/2 framing and HPACK that a WebSocket client needs.

/// The default maximum payload of a frame.
pub(super) const MAX_FRAME: usize = 16 * 1024;
/// The maximum flow-control window.
pub(super) const MAX_WINDOW: u32 = (1 << 31) - 1;
/// The initial window of a connection and of a stream (RFC 9113 §6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;

/// Frame types (RFC 9113 §6).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
}

/// Frame flags (RFC 9113 §6).
pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
}

/// Settings (RFC 9113 §6.5.2, RFC 8441 §3).
pub(super) mod setting {
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// `:status: 200`, by its index in HPACK's static table.
pub(super) const STATUS_200: u8 = 0x88;

const HEAD: usize = 9;

/// Appends a frame.
pub(super) fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // The length has 24 bits. Callers keep to `MAX_FRAME`.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends the client's preface. It opens large windows, so that they seldom need an update.
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

/// Appends a window update for one stream, or with stream 0 for the connection.
pub(super) fn push_window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    push(out, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

/// Appends the opening handshake of one stream (RFC 8441 §4), with literal fields (RFC 7541 §6.2.2).
pub(super) fn push_connect(out: &mut Vec<u8>, stream: u32) {
    let mut block = Vec::new();
    // Names by their index in the static table: `:method` is 2, `:path` 4 and `:authority` 1.
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

/// Appends a string without Huffman coding. It must be shorter than 127 bytes.
fn push_string(block: &mut Vec<u8>, string: &str) {
    block.push(string.len() as u8);
    block.extend_from_slice(string.as_bytes());
}

/// Parses frames from pieces of any size.
#[derive(Default)]
pub(super) struct Reader {
    /// An incomplete frame, or the incomplete head of a DATA frame.
    kept: Vec<u8>,
    /// The number of missing bytes of a DATA frame.
    data: usize,
    /// The stream of that DATA frame.
    stream: u32,
}

/// A parsed part of the input.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Part<'a> {
    /// Data of a stream.
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
    /// Parses the front of `bytes`. Returns `None` if more bytes are needed.
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

/// Takes up to `most` bytes from the front.
fn taken<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    front
}

impl Frame {
    /// Returns the 32-bit number at offset `at`, or 0 if the payload is too short.
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
    fn frames_are_parsed_from_pieces_of_any_size() {
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
    fn ended_streams_and_long_frames_are_errors() {
        let mut ended = Vec::new();
        push(&mut ended, kind::DATA, flag::END_STREAM, 1, b"x");
        let mut long = Vec::new();
        push(&mut long, kind::SETTINGS, 0, 0, &[0; MAX_FRAME + 1]);
        for wrong in [ended, long] {
            assert!(Reader::default().next(&mut &wrong[..]).is_err());
        }
    }
}
