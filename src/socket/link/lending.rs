//! The stream, which a connection lends to rooms while it sleeps.
//!
//! Only the owner of the stream writes, so the connection and a room never write at the same time. A room writes under
//! the lock. If the stream does not take everything, the rest is queued, perhaps from the middle of a frame, and the
//! connection is woken. It takes the stream back together with the queue, so no other frame comes in between. So nothing
//! is queued while the connection sleeps and has lent the stream.

use std::{
    io::{self, IoSlice},
    task::Waker,
};

use super::{Link, Rare, Stage, State};
use crate::{
    codec::{Bound, Load, Outgoing, SharedFrames},
    socket::lender::{Stream, write},
};

/// The most buffers of one write.
const SLICES: usize = 8;

/// The stream that a connection takes back, and the progress since it was lent.
#[derive(Debug)]
pub(in crate::socket) struct Back {
    pub(in crate::socket) stream: Option<Stream>,
    /// Why a room could not write.
    pub(in crate::socket) failed: Option<io::Error>,
    /// About the bytes of messages that rooms have written.
    pub(in crate::socket) written: u64,
}

impl Link {
    /// Lends the stream, if the connection still sleeps and is in a room. Returns whether it is lent.
    pub(in crate::socket) fn lend(&self, stream: impl FnOnce() -> Option<Stream>) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let sent = state.bytes_for_writing();
        if let (Some(rooms), true, Stage::Open) = (&mut state.rooms, state.asleep, state.stage) {
            rooms.sent_when_lent = sent;
            state.lent = stream();
        }
        state.lent.is_some()
    }

    /// Takes the stream back, and moves the queued frames to `output`, which is empty.
    pub(in crate::socket) fn take_back(&self, output: &mut Outgoing) -> Back {
        let mut state = self.lock();
        // The queue counts the heads of frames, too, so it may have more bytes than were sent in messages.
        let unwritten = state.unwritten().bytes as u64;
        let rooms = state.rooms.as_ref();
        let before = unwritten + rooms.map_or(0, |rooms| rooms.sent_when_lent);
        let written = state.bytes_for_writing().saturating_sub(before);
        state.move_outbox_to(output);
        let stream = state.lent.take();
        let failed = state.rare.as_mut().and_then(|rare| rare.write_error.take());
        let unused = state.take_unused_rooms();
        drop(state);
        drop(unused);
        Back {
            stream,
            failed,
            written,
        }
    }

    /// Writes new messages at once, if the connection has lent its stream, does not compress, and nobody waits for room
    /// or a flush, and if they are within the share of rooms. What the stream does not take is queued. Otherwise does
    /// nothing and returns `false`: they have to be [offered](Self::offer).
    ///
    /// `wakers` get those to call without locks.
    #[inline]
    pub(crate) fn write_lent(&self, frames: &SharedFrames, wakers: &mut Vec<Waker>) -> bool {
        let load = frames.load();
        if !self.share_of_rooms().holds(Load::default(), load) {
            return false;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        let is_usual = state.stage == Stage::Open && state.asleep && state.uncompressed.is_none();
        let (Some(stream), true) = (&state.lent, is_usual && state.nobody_waits()) else {
            return false;
        };
        let bytes = frames.as_bytes();
        // Without a look at tokio's readiness, which is a cache miss.
        let written = write(stream, &[IoSlice::new(bytes)]);
        state.count_sent(load);
        // Nothing is queued while the stream is lent. So the state of rooms, a cache miss, is not needed.
        match written {
            Ok(written) if written == bytes.len() => state.flushed = state.sent(),
            written => state.queue_rest(written, frames, self.config.outbox(), wakers),
        }
        true
    }

    /// Takes the stream back, because the connection ends.
    pub(in crate::socket) fn take_lent(&self) -> Option<Stream> {
        self.lock().lent.take()
    }
}

impl State {
    /// Returns whether rooms may write, so that the connection need not be woken.
    pub(super) const fn is_lent(&self) -> bool {
        self.asleep && self.lent.is_some()
    }

    /// Returns whether nobody waits for room or for a flush.
    const fn nobody_waits(&self) -> bool {
        self.waiters.is_none() && self.flush_target.is_none()
    }

    /// Returns the bytes of messages that were sent, as compressed by rooms.
    fn bytes_for_writing(&self) -> u64 {
        let uncompressed = self.uncompressed.as_ref();
        let saved = uncompressed.map_or(0, |uncompressed| uncompressed.saved);
        self.traffic.bytes_sent - saved
    }

    /// Queues what the stream has not taken of messages.
    #[cold]
    fn queue_rest(
        &mut self,
        written: io::Result<usize>,
        frames: &SharedFrames,
        bound: Bound,
        wakers: &mut Vec<Waker>,
    ) {
        let written = note_error(&mut self.rare, written);
        self.outbox.push_rest(frames, written);
        self.note_queued(frames.load());
        self.after_write(false, bound, wakers);
    }

    /// Writes the queue. Returns whether nothing is left.
    ///
    /// Payloads may be code of the user, but none is dropped here: all that is queued comes from a room that delivers,
    /// and keeps its entries.
    pub(super) fn write_queued(&mut self) -> bool {
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let slices = self.outbox.slices(&mut slices);
            let written = self
                .lent
                .as_ref()
                .map_or(Ok(0), |stream| write(stream, slices));
            match note_error(&mut self.rare, written) {
                0 => return false,
                written => self.outbox.advance(written),
            };
        }
        self.outbox.release_memory();
        self.uncompressed().is_empty()
    }

    /// Frees the room of what a room has written. Collects the wakers of those who waited for it, and that of the
    /// connection if it has something to do.
    pub(super) fn after_write(&mut self, is_written: bool, bound: Bound, wakers: &mut Vec<Waker>) {
        if is_written && self.nobody_waits() {
            self.flushed = self.sent();
            return;
        }
        let (writer, granted) = self.make_room(Load::default(), is_written, bound);
        wakers.extend(writer.into_iter().chain(granted));
        // The connection checks that the granted waiters send.
        let waiters = self.waiters.as_ref();
        if !is_written || waiters.is_some_and(|waiters| waiters.has_granted()) {
            wakers.extend(self.rouse());
        }
    }
}

/// Returns the number of bytes that a lent stream has taken, and keeps the error if it has failed.
fn note_error(rare: &mut Option<Box<Rare>>, written: io::Result<usize>) -> usize {
    written.unwrap_or_else(|error| {
        // Later ones only say that the stream is broken.
        let rare = rare.get_or_insert_default();
        rare.write_error.get_or_insert(error);
        0
    })
}

#[cfg(all(test, not(tower_websocket_loom)))]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod tests {
    use std::{
        sync::Arc,
        task::{Context, Waker},
    };

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    #[cfg(feature = "deflate")]
    use crate::{
        codec::Deflate,
        handshake::extension::deflate::{Direction, Terms},
        socket::link::Uncompressed,
    };
    use crate::{
        codec::{Role, SharedMessage},
        config::Config,
        socket::{
            HandshakeInfo,
            link::{TrySleep, Turn, rooms::Rooms},
        },
        words::Message,
    };

    /// A connection in a room that sleeps and has lent its stream. Its peer reads nothing.
    async fn sleeping() -> (Link, TcpStream) {
        sleeping_with(Config::new()).await
    }

    async fn sleeping_with(config: Config) -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let link = Link::new(Role::Server, HandshakeInfo::default(), Arc::new(config));
        let _ = link.enter_room(1, Waker::noop().clone());
        let sleep = link.try_sleep(None, &Context::from_waker(Waker::noop()));
        assert_eq!(sleep, TrySleep::Asleep);
        let stream = Box::new(server.unwrap().0);
        assert!(link.lend(|| Some(stream)));
        (link, client.unwrap())
    }

    fn message(len: usize) -> SharedMessage {
        SharedMessage::new(Message::Binary(vec![7; len].into()))
    }

    #[derive(Clone, Copy)]
    enum Way {
        Message,
        Frames,
        AtOnce,
    }

    const WAYS: [Way; 3] = [Way::Message, Way::Frames, Way::AtOnce];

    /// Delivers a message, and returns the wakers to call.
    fn deliver(link: &Link, len: usize, way: Way) -> Vec<Waker> {
        let message = message(len);
        let frames = SharedFrames::new(&[&message]).unwrap();
        let (mut wakers, membership) = (Vec::new(), || Waker::noop().clone());
        if let Way::AtOnce = way {
            assert!(link.write_lent(&frames, &mut wakers));
            return wakers;
        }
        let frames = matches!(way, Way::Frames).then_some(&frames);
        let taken = link.offer(&[&message], frames, Turn::Live, membership, &mut wakers);
        assert_eq!(taken, Some(1));
        wakers
    }

    #[test]
    fn a_lent_stream_needs_no_more_memory_than_measured() {
        assert!(size_of::<Rooms>() <= 40);
    }

    #[tokio::test]
    async fn messages_are_written_at_once_and_the_connection_sleeps() {
        let (link, mut client) = sleeping().await;
        let mut read = [0; 12];
        for way in WAYS.into_iter().chain(WAYS) {
            assert!(deliver(&link, 10, way).is_empty());
            assert_eq!(link.buffered(), Load::default());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(link.poll_flushed(&mut cx).is_ready());
            client.read_exact(&mut read).await.unwrap();
            assert_eq!(read[..3], [0x82, 10, 7]);
        }
        assert_eq!(link.traffic().messages_sent, 6);
        assert_eq!(link.traffic().bytes_sent, 60);
    }

    #[tokio::test]
    async fn what_the_stream_does_not_take_is_queued_for_the_connection() {
        for way in WAYS {
            let (link, mut client) = sleeping().await;
            let (mut offered, mut wakers) = (0, Vec::new());
            while wakers.is_empty() {
                offered += 1;
                wakers = deliver(&link, 4000, way);
            }
            let frames = SharedFrames::new(&[&message(4000)]).unwrap();
            assert!(!link.write_lent(&frames, &mut wakers), "it is awake");
            assert_eq!(wakers.len(), 1, "of the connection");
            let mut output = Outgoing::new(Role::Server, false);
            let back = link.take_back(&mut output);
            let queued = output.load();
            assert_eq!(link.buffered().messages, queued.messages);
            let total = offered * 4004;
            let mut read = vec![0; total - queued.bytes];
            client.read_exact(&mut read).await.unwrap();
            let mut slices = [IoSlice::new(&[]); SLICES];
            for slice in output.slices(&mut slices) {
                read.extend_from_slice(slice);
            }
            assert_eq!(read.len(), total);
            for frame in read.chunks(4004) {
                assert_eq!(frame[..5], [0x82, 126, 0x0f, 0xa0, 7]);
            }
            assert!(back.stream.is_some() && back.failed.is_none());
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_behind_once_is_written_to_at_once_again() {
        // The share of rooms is one message.
        let (link, _client) = sleeping_with(Config::new().max_outbox(2, 1000)).await;
        let (one, mut wakers) = (message(10), Vec::new());
        let membership = || Waker::noop().clone();
        let taken = link.offer(&[&one, &one], None, Turn::Live, membership, &mut wakers);
        assert_eq!((taken, wakers.len()), (Some(1), 1), "of the membership");
        let frames = SharedFrames::new(&[&one]).unwrap();
        assert!(link.write_lent(&frames, &mut wakers));
    }

    #[tokio::test]
    async fn no_more_than_the_share_of_rooms_is_written_at_once() {
        // The share of rooms is one message of 500 bytes.
        let (link, _client) = sleeping_with(Config::new().max_outbox(2, 1000)).await;
        let (small, mut wakers) = (message(10), Vec::new());
        let two = SharedFrames::new(&[&small, &small]).unwrap();
        assert!(!link.write_lent(&two, &mut wakers), "too many messages");
        let large = SharedFrames::new(&[&message(501)]).unwrap();
        assert!(!link.write_lent(&large, &mut wakers), "too many bytes");
        assert_eq!(link.traffic().messages_sent, 0);
        let one = SharedFrames::new(&[&message(500)]).unwrap();
        assert!(link.write_lent(&one, &mut wakers));
    }

    #[tokio::test]
    async fn an_aborted_connection_is_not_written_to_although_its_stream_is_still_lent() {
        let (link, mut client) = sleeping().await;
        link.abort();
        let (frames, mut wakers) = (SharedFrames::new(&[&message(10)]).unwrap(), Vec::new());
        assert!(!link.write_lent(&frames, &mut wakers));
        assert_eq!(link.traffic().messages_sent, 0);
        drop(link.take_lent());
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(read.is_empty());
    }

    #[tokio::test]
    async fn what_is_left_of_a_write_fills_the_share_of_rooms() {
        // The share of rooms is one message.
        let (link, _client) = sleeping_with(Config::new().max_outbox(2, 8000)).await;
        let mut wakers = Vec::new();
        while wakers.is_empty() {
            wakers = deliver(&link, 4000, Way::AtOnce);
        }
        let membership = || Waker::noop().clone();
        let taken = link.offer(&[&message(10)], None, Turn::Live, membership, &mut wakers);
        assert_eq!(taken, Some(0));
    }

    #[tokio::test]
    async fn an_error_of_a_write_wakes_the_connection_which_learns_of_it() {
        let (link, client) = sleeping().await;
        client.set_zero_linger().unwrap();
        drop(client);
        let mut wakers = Vec::new();
        while wakers.is_empty() {
            wakers = deliver(&link, 10, Way::AtOnce);
        }
        assert_eq!(wakers.len(), 1, "of the connection");
        let mut output = Outgoing::new(Role::Server, false);
        let back = link.take_back(&mut output);
        assert!(back.stream.is_some() && back.failed.is_some());
        assert_eq!(output.load().messages, 1);
    }

    #[cfg(feature = "deflate")]
    #[tokio::test]
    async fn a_connection_that_compresses_does_not_get_the_frames_as_they_are() {
        let (link, _client) = sleeping().await;
        let direction = Direction {
            window_bits: 15,
            context_takeover: true,
        };
        let terms = Terms {
            send: direction,
            receive: direction,
        };
        let uncompressed = Uncompressed::new(Deflate::new().agreed(terms));
        link.lock().uncompressed = Some(Box::new(uncompressed));
        let (frames, mut wakers) = (SharedFrames::new(&[&message(1000)]).unwrap(), Vec::new());
        assert!(!link.write_lent(&frames, &mut wakers));
        assert_eq!(link.traffic().messages_sent, 0);
    }
}
