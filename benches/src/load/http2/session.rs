//! The state of one HTTP/2 connection: its streams and the flow-control windows.

use std::{collections::VecDeque, iter, time::Instant};

use super::{
    super::{Common, Pattern},
    frames::{
        FIRST_WINDOW, Frame, MAX_FRAME, MAX_WINDOW, Part, Reader, STATUS_200, flag, kind, push,
        push_connect, push_preface, push_window_update, setting,
    },
};
use crate::BoxError;

/// The number of received bytes after which the server gets a window update.
const RENEWED: u32 = MAX_WINDOW / 2;

/// The approximate size of one write.
const WRITE: usize = 64 * 1024;

/// One connection, without its socket.
pub(super) struct Session {
    reader: Reader,
    streams: Vec<Stream>,
    /// A queue of the streams that can send.
    ready: VecDeque<usize>,
    /// The streams with answers for which no new message was sent yet.
    answered: Vec<usize>,
    /// The send window of the connection.
    window: i64,
    /// The initial send window of a stream.
    first_window: i64,
    /// The number of bytes received since the last window update.
    received: u32,
    /// The number of streams that the server has accepted.
    opened: usize,
    /// Whether the server allows WebSockets.
    allowed: bool,
    /// Frames to write.
    out: Vec<u8>,
    /// The number of bytes of `out` that are written.
    written: usize,
}

struct Stream {
    /// The send window. A setting can make it negative (RFC 9113 §6.9.2).
    window: i64,
    /// The number of bytes received since the last window update.
    received: u32,
    /// The number of message bytes to send.
    unsent: usize,
    /// The offset of the next byte in its message.
    at: usize,
    /// The number of received bytes of an incomplete answer.
    partial: usize,
    /// Whether the first answer was compared.
    checked: bool,
    /// The number of answers for which no new message was sent yet.
    due: usize,
    /// The time at which the outstanding messages were sent.
    sent: Instant,
    /// Whether the stream is in `Session::ready`.
    ready: bool,
}

impl Session {
    /// Begins a connection for this many streams.
    pub(super) fn new(streams: usize) -> Self {
        let stream = || Stream {
            window: FIRST_WINDOW.into(),
            received: 0,
            unsent: 0,
            at: 0,
            partial: 0,
            checked: false,
            due: 0,
            sent: Instant::now(),
            ready: false,
        };
        let mut out = Vec::new();
        push_preface(&mut out);
        Self {
            reader: Reader::default(),
            streams: iter::repeat_with(stream).take(streams).collect(),
            ready: VecDeque::with_capacity(streams),
            answered: Vec::with_capacity(streams),
            window: FIRST_WINDOW.into(),
            first_window: FIRST_WINDOW.into(),
            received: 0,
            opened: 0,
            allowed: false,
            out,
            written: 0,
        }
    }

    /// Returns whether the server has accepted all streams.
    pub(super) fn is_open(&self) -> bool {
        self.opened == self.streams.len()
    }

    /// Handles the server's frames before all streams are open.
    pub(super) fn shake_hands(&mut self, mut bytes: &[u8]) -> Result<(), BoxError> {
        while let Some(part) = self.reader.next(&mut bytes)? {
            match part {
                Part::Data(..) => return Err("the server sends an unexpected message".into()),
                Part::Frame(frame) => self.frame(&frame)?,
            }
        }
        Ok(())
    }

    /// Schedules the first messages of every stream.
    pub(super) fn begin(&mut self, now: Instant, common: &Common) {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            stream.sent = now;
            stream.unsent = common.depth * common.pattern.frame;
            stream.make_ready(at, &mut self.ready);
        }
    }

    /// Handles the first `read` bytes of `scratch`, and returns the number of answers they complete.
    pub(super) fn receive(&mut self, read: usize, common: &Common) -> Result<u64, BoxError> {
        let mut bytes = &common.scratch[..read];
        let answer = &common.pattern.answer;
        let mut answers = 0;
        while let Some(part) = self.reader.next(&mut bytes)? {
            let (id, part) = match part {
                Part::Data(id, part) => (id, part),
                Part::Frame(frame) => {
                    self.frame(&frame)?;
                    continue;
                }
            };
            // The cast is lossless, because a part is at most one frame.
            self.received += part.len() as u32;
            let at = index(id);
            let stream = self.streams.get_mut(at).ok_or("unknown stream")?;
            stream.received += part.len() as u32;
            if stream.received >= RENEWED {
                push_window_update(&mut self.out, id, stream.received);
                stream.received = 0;
            }
            let came = stream.receive(part, answer)?;
            if came == 0 {
                continue;
            }
            answers += came as u64;
            if stream.due == 0 {
                self.answered.push(at);
            }
            stream.due += came;
        }
        if self.received >= RENEWED {
            push_window_update(&mut self.out, 0, self.received);
            self.received = 0;
        }
        Ok(answers)
    }

    /// Schedules new messages on streams that have received enough answers.
    pub(super) fn renew(&mut self, now: Instant, common: &mut Common) {
        self.answered.retain(|&at| {
            let stream = &mut self.streams[at];
            if stream.due < common.refill {
                return true;
            }
            common.histogram.add(now - stream.sent, stream.due);
            stream.sent = now;
            stream.unsent += stream.due * common.pattern.frame;
            stream.due = 0;
            stream.make_ready(at, &mut self.ready);
            false
        });
    }

    /// Makes DATA frames of scheduled messages, up to the size of one write.
    pub(super) fn fill(&mut self, pattern: &Pattern) {
        while self.out.len() < WRITE && self.window > 0 {
            let Some(at) = self.ready.pop_front() else {
                return;
            };
            let stream = &mut self.streams[at];
            stream.ready = false;
            // Both windows are positive, because the stream is in the ready queue.
            let window = self.window.min(stream.window) as usize;
            let length = stream.unsent.min(window).min(MAX_FRAME);
            let bytes = &pattern.bytes[stream.at..];
            let bytes = &bytes[..length.min(bytes.len())];
            push(&mut self.out, kind::DATA, 0, id(at), bytes);
            stream.unsent -= bytes.len();
            stream.at = (stream.at + bytes.len()) % pattern.frame;
            stream.window -= bytes.len() as i64;
            self.window -= bytes.len() as i64;
            stream.make_ready(at, &mut self.ready);
        }
    }

    /// Returns the bytes to write.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// Records that this many bytes were written.
    pub(super) fn written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// Handles a frame other than DATA.
    fn frame(&mut self, frame: &Frame) -> Result<(), BoxError> {
        let stream = frame.stream;
        match frame.kind {
            kind::SETTINGS if frame.flags & flag::ACK == 0 => self.settings(frame)?,
            kind::PING if frame.flags & flag::ACK == 0 => {
                push(&mut self.out, kind::PING, flag::ACK, 0, &frame.payload);
            }
            kind::WINDOW_UPDATE if stream == 0 => self.window += i64::from(frame.number(0)),
            kind::WINDOW_UPDATE => {
                let at = index(stream);
                let known = self.streams.get_mut(at).ok_or("unknown stream")?;
                known.window += i64::from(frame.number(0));
                known.make_ready(at, &mut self.ready);
            }
            kind::HEADERS => {
                let ended = frame.flags & flag::END_STREAM != 0;
                if ended || frame.payload.first() != Some(&STATUS_200) {
                    return Err(format!("stream {stream} is refused: {frame:?}").into());
                }
                self.opened += 1;
            }
            kind::RST_STREAM => {
                let code = frame.number(0);
                return Err(format!("the server has reset stream {stream}: {code}").into());
            }
            kind::GOAWAY => {
                let code = frame.number(4);
                return Err(format!("the server ends a connection: {code}").into());
            }
            // Acknowledgements and other frames may be ignored (RFC 9113 §5.5).
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, frame: &Frame) -> Result<(), BoxError> {
        let mut allows = self.allowed;
        for (name, value) in frame.settings() {
            match name {
                setting::INITIAL_WINDOW_SIZE => {
                    let more = i64::from(value) - self.first_window;
                    self.first_window += more;
                    for (at, stream) in self.streams.iter_mut().enumerate() {
                        stream.window += more;
                        stream.make_ready(at, &mut self.ready);
                    }
                }
                setting::ENABLE_CONNECT_PROTOCOL => allows = value == 1,
                _ => {}
            }
        }
        push(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        if !allows {
            return Err("the server does not allow WebSockets over HTTP/2".into());
        }
        if !self.allowed {
            self.allowed = true;
            for at in 0..self.streams.len() {
                push_connect(&mut self.out, id(at));
            }
        }
        Ok(())
    }
}

impl Stream {
    /// Counts the bytes and returns the number of answers they complete.
    fn receive(&mut self, part: &[u8], answer: &[u8]) -> Result<usize, BoxError> {
        if !self.checked {
            let expected = &answer[self.partial..];
            let compared = expected.len().min(part.len());
            if expected[..compared] != part[..compared] {
                return Err("the answer is not what was sent".into());
            }
            self.checked = compared == expected.len();
        }
        self.partial += part.len();
        let complete = self.partial / answer.len();
        self.partial %= answer.len();
        Ok(complete)
    }

    fn make_ready(&mut self, at: usize, ready: &mut VecDeque<usize>) {
        if !self.ready && self.unsent > 0 && self.window > 0 {
            self.ready = true;
            ready.push_back(at);
        }
    }
}

/// Returns the HTTP/2 identifier of a stream. A client's identifiers are odd (RFC 9113 §5.1.1).
fn id(at: usize) -> u32 {
    // The server's limit on streams keeps the number small.
    at as u32 * 2 + 1
}

/// Returns the index of the stream with this identifier. It is out of range for identifiers of a server.
fn index(id: u32) -> usize {
    match id % 2 {
        1 => (id / 2) as usize,
        _ => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{Common, Histogram, Pattern},
        *,
    };

    const CONNECT_IS_ALLOWED: [u8; 6] = [0, 8, 0, 0, 0, 1];

    fn common(size: usize, depth: usize) -> Common {
        let message = vec![7; size];
        Common {
            pattern: Pattern {
                bytes: message.repeat(depth + 1),
                frame: size,
                answer: message,
            },
            depth,
            refill: 1,
            scratch: vec![0; 64 * 1024],
            histogram: Histogram::new(),
        }
    }

    /// Returns a session whose streams are open, with nothing to write.
    fn opened(streams: usize) -> Session {
        let mut session = Session::new(streams);
        let mut server = Vec::new();
        push(&mut server, kind::SETTINGS, 0, 0, &CONNECT_IS_ALLOWED);
        for at in 0..streams {
            push(
                &mut server,
                kind::HEADERS,
                flag::END_HEADERS,
                id(at),
                &[STATUS_200],
            );
        }
        session.shake_hands(&server).unwrap();
        assert!(session.is_open());
        session.written(session.unwritten().len());
        session
    }

    /// Returns the kind, stream and length of each frame that the session writes now.
    fn written(session: &mut Session, common: &Common) -> Vec<(u8, u32, usize)> {
        let mut frames = Vec::new();
        loop {
            session.fill(&common.pattern);
            let mut bytes = session.unwritten();
            if bytes.is_empty() {
                return frames;
            }
            let mut reader = Reader::default();
            while let Some(part) = reader.next(&mut bytes).unwrap() {
                frames.push(match part {
                    Part::Data(stream, part) => (kind::DATA, stream, part.len()),
                    Part::Frame(frame) => (frame.kind, frame.stream, frame.payload.len()),
                });
            }
            session.written(session.unwritten().len());
        }
    }

    fn receive(session: &mut Session, bytes: &[u8], common: &mut Common) -> u64 {
        common.scratch[..bytes.len()].copy_from_slice(bytes);
        let answers = session.receive(bytes.len(), common).unwrap();
        session.renew(Instant::now(), common);
        answers
    }

    fn sum(frames: &[(u8, u32, usize)], stream: u32) -> usize {
        let of = frames.iter().filter(|frame| frame.1 == stream);
        of.map(|frame| frame.2).sum()
    }

    #[test]
    fn opens_streams_when_the_server_allows_them() {
        let mut session = Session::new(2);
        let mut refusing = Vec::new();
        push(&mut refusing, kind::SETTINGS, 0, 0, &[]);
        assert!(Session::new(2).shake_hands(&refusing).is_err());
        let mut allowing = Vec::new();
        push(&mut allowing, kind::SETTINGS, 0, 0, &CONNECT_IS_ALLOWED);
        session.written(session.unwritten().len());
        session.shake_hands(&allowing).unwrap();
        let frames: Vec<_> = written(&mut session, &common(1, 1))
            .into_iter()
            .map(|(kind, stream, _)| (kind, stream))
            .collect();
        let headers = kind::HEADERS;
        assert_eq!(frames, [(kind::SETTINGS, 0), (headers, 1), (headers, 3)]);
        assert!(!session.is_open());
    }

    #[test]
    fn sending_respects_both_windows() {
        let mut common = common(100_000, 1);
        let mut session = opened(2);
        session.begin(Instant::now(), &common);
        let first = written(&mut session, &common);
        let window = FIRST_WINDOW as usize;
        assert_eq!(sum(&first, 1) + sum(&first, 3), window, "{first:?}");
        assert!(first.iter().all(|frame| frame.2 <= MAX_FRAME), "{first:?}");

        let mut more = Vec::new();
        push_window_update(&mut more, 0, 1_000_000);
        receive(&mut session, &more, &mut common);
        let second = written(&mut session, &common);
        for stream in [1, 3] {
            let sent = sum(&first, stream) + sum(&second, stream);
            assert_eq!(sent, window, "on stream {stream}");
        }

        let mut more = Vec::new();
        push_window_update(&mut more, 3, 1_000_000);
        receive(&mut session, &more, &mut common);
        let third = written(&mut session, &common);
        assert_eq!(sum(&third, 3), 100_000 - window);
        assert_eq!(sum(&third, 1), 0);
    }

    #[test]
    fn sends_one_message_per_answer_and_rejects_a_wrong_answer() {
        let mut common = common(10, 2);
        let mut session = opened(1);
        session.begin(Instant::now(), &common);
        assert_eq!(sum(&written(&mut session, &common), 1), 20);
        let mut answer = Vec::new();
        push(&mut answer, kind::DATA, 0, 1, &[7; 8]);
        assert_eq!(receive(&mut session, &answer, &mut common), 0);
        assert_eq!(written(&mut session, &common), []);
        assert_eq!(receive(&mut session, &answer, &mut common), 1);
        assert_eq!(sum(&written(&mut session, &common), 1), 10);

        let mut session = opened(1);
        let mut wrong = Vec::new();
        push(&mut wrong, kind::DATA, 0, 1, &[7, 7, 8]);
        common.scratch[..wrong.len()].copy_from_slice(&wrong);
        assert!(session.receive(wrong.len(), &common).is_err());
    }

    #[test]
    fn updates_the_windows_before_the_server_has_used_them_up() {
        let mut common = common(MAX_FRAME, 1);
        let mut session = opened(1);
        let mut answer = Vec::new();
        push(&mut answer, kind::DATA, 0, 1, &[7; MAX_FRAME]);
        let mut granted = [0_u64; 2];
        let frames = u64::from(MAX_WINDOW) / MAX_FRAME as u64 + 1;
        for _ in 0..frames {
            receive(&mut session, &answer, &mut common);
            let mut bytes = session.unwritten();
            let mut reader = Reader::default();
            while let Some(Part::Frame(frame)) = reader.next(&mut bytes).unwrap() {
                assert_eq!(frame.kind, kind::WINDOW_UPDATE);
                granted[frame.stream as usize] += u64::from(frame.number(0));
            }
            session.written(session.unwritten().len());
        }
        let least = u64::from(RENEWED);
        assert!(
            granted.iter().all(|granted| *granted >= least),
            "{granted:?}"
        );
    }
}
