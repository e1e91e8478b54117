//! The writing half of the stream, which a connection lends to rooms while it sleeps.
//!
//! Only the owner of the half writes, so the connection and a room never write at the same time. A room writes the queue,
//! under the lock. If the stream does not take all of it, the rest stays queued, perhaps from the middle of a frame, and
//! the connection is woken. It takes the half back together with the queue, so no other frame comes in between.

use std::{
    io::{self, IoSlice},
    mem,
};

use super::{Link, Stage, State};
use crate::{
    codec::{Load, Outgoing},
    socket::lender::{Writer, write},
    words::catch_panic,
};

/// The most buffers of one write.
const SLICES: usize = 8;

/// The lent half of a stream.
#[derive(Debug)]
pub(in crate::socket) enum Lent {
    Writer(Writer),
    /// A room could not write. The system reports an error once, so the connection would not learn of it.
    Failed(io::Error),
}

/// The half that a connection takes back, and the progress since it was lent.
#[derive(Debug)]
pub(in crate::socket) struct Back {
    pub(in crate::socket) lent: Option<Lent>,
    /// About the bytes of messages that were sent and written, since the connection began.
    pub(in crate::socket) written: u64,
}

impl Link {
    /// Lends the writing half, if the connection still sleeps and is in a room. Returns the bytes of messages
    /// that it has sent, or `None` if nothing was lent.
    pub(in crate::socket) fn lend(&self, writer: impl FnOnce() -> Option<Writer>) -> Option<u64> {
        let mut state = self.lock();
        let may_lend = state.asleep && state.stage == Stage::Open;
        let rooms = state.rooms.as_mut().filter(|_| may_lend)?;
        rooms.lent = writer().map(Lent::Writer);
        let is_lent = rooms.lent.is_some();
        is_lent.then(|| state.bytes_for_writing())
    }

    /// Takes the half back, and moves the queued frames to `output`, which is empty.
    pub(in crate::socket) fn take_back(&self, output: &mut Outgoing) -> Back {
        let mut state = self.lock();
        // The queue counts the heads of frames, too, so it may have more bytes than were sent in messages.
        let unwritten = state.unwritten().bytes as u64;
        let written = state.bytes_for_writing().saturating_sub(unwritten);
        state.move_outbox_to(output);
        let lent = state.take_lent();
        let unused = state.take_unused_rooms();
        drop(state);
        drop(unused);
        Back { lent, written }
    }

    /// Takes the half back, because the connection ends.
    pub(in crate::socket) fn take_lent(&self) -> Option<Lent> {
        self.lock().take_lent()
    }

    /// Writes what rooms have queued, or wakes the connection to do so.
    pub(crate) fn write_or_wake(&self) {
        let mut state = self.lock();
        let (mut is_done, mut writer, mut granted) = (false, None, Vec::new());
        // Otherwise the connection runs, and has the queue or will look for it.
        if state.is_lent() {
            is_done = state.write_queued();
            let bound = self.config.outbox();
            (writer, granted) = state.make_room(Load::default(), is_done, bound);
            // The connection checks that the granted waiters send.
            let waiters = state.waiters.as_ref();
            is_done &= !waiters.is_some_and(|waiters| waiters.has_granted());
        }
        let connection = match is_done {
            true => None,
            false => state.rouse(),
        };
        drop(state);
        for waker in connection.into_iter().chain(writer).chain(granted) {
            // One that panics must not keep the others asleep.
            let _ = catch_panic(|| waker.wake());
        }
    }
}

impl State {
    /// Returns whether rooms may write, so that the connection need not be woken.
    pub(super) fn is_lent(&self) -> bool {
        let lent = self.rooms.as_ref().and_then(|rooms| rooms.lent.as_ref());
        self.asleep && matches!(lent, Some(Lent::Writer(_)))
    }

    /// Returns the bytes of messages that were sent, as compressed by rooms.
    fn bytes_for_writing(&self) -> u64 {
        let uncompressed = self.uncompressed.as_ref();
        let saved = uncompressed.map_or(0, |uncompressed| uncompressed.saved);
        self.traffic.bytes_sent - saved
    }

    fn take_lent(&mut self) -> Option<Lent> {
        self.rooms.as_mut()?.lent.take()
    }

    /// Writes the queue. Returns whether nothing is left to write.
    ///
    /// Payloads may be code of the user, but none is dropped here: all that is queued while the connection sleeps and
    /// has lent its stream comes from rooms, whose tasks keep their entries until they have called this.
    fn write_queued(&mut self) -> bool {
        let lent = self.rooms.as_mut().and_then(|rooms| rooms.lent.as_mut());
        let Some(lent) = lent else {
            return false;
        };
        while let (Lent::Writer(writer), false) = (&*lent, self.outbox.is_empty()) {
            let mut slices = [IoSlice::new(&[]); SLICES];
            // Without a look at tokio's readiness, which is a cache miss.
            match write(writer, self.outbox.slices(&mut slices)) {
                Ok(0) => return false,
                Ok(written) => {
                    self.outbox.advance(written);
                }
                Err(error) => {
                    if let Lent::Writer(writer) = mem::replace(lent, Lent::Failed(error)) {
                        // Without it the stream is closed as a whole.
                        writer.forget();
                    }
                    return false;
                }
            }
        }
        self.outbox.release_memory();
        self.uncompressed().is_empty()
    }
}

#[cfg(all(test, not(tower_websocket_loom)))]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Context, Wake, Waker},
    };

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        codec::{Role, SharedMessage},
        config::Config,
        socket::{
            HandshakeInfo,
            link::{Caller, Offered, Then, TrySleep, Turn},
        },
        words::Message,
    };

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    impl Woken {
        fn waker(self: &Arc<Self>) -> Waker {
            Waker::from(Arc::clone(self))
        }

        fn times(&self) -> usize {
            self.0.load(Relaxed)
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as the test wants");
        }
    }

    /// A connection in a room that sleeps, has lent its stream, and is woken by `waker`. Its peer reads nothing.
    async fn sleeping(config: Config, waker: &Waker) -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let link = Link::new(Role::Server, HandshakeInfo::default(), Arc::new(config));
        let _ = link.enter_room(1, Waker::noop().clone());
        let sleep = link.try_sleep(None, &Context::from_waker(waker));
        assert_eq!(sleep, TrySleep::Asleep);
        let (_, writer) = server.unwrap().0.into_split();
        assert!(link.lend(|| Some(writer)).is_some());
        (link, client.unwrap())
    }

    fn offer(link: &Link, bytes: usize) -> Then {
        let message = SharedMessage::new(Message::Binary(vec![7; bytes].into()));
        match link.offer(&[&message], None, Turn::Live, || Waker::noop().clone()) {
            Offered::Taken { count: 1, then } => then,
            offered => panic!("{offered:?}"),
        }
    }

    #[test]
    fn a_lent_stream_needs_no_more_memory_than_measured() {
        assert!(size_of::<super::super::rooms::Rooms>() <= 48);
    }

    /// The room that becomes free is granted to the first, which may never ask again.
    #[tokio::test]
    async fn the_connection_checks_that_a_sender_uses_the_room_that_it_was_granted() {
        let [connection, first, second]: [Arc<Woken>; 3] = Default::default();
        let waker = connection.waker();
        let (link, _client) = sleeping(Config::new().max_outbox(8, 1000), &waker).await;
        assert!(matches!(offer(&link, 400), Then::Write));
        let send = || link.send(Message::Binary(vec![7; 900].into()), Caller::Sender);
        let (mut first_send, mut second_send) = (pin!(send()), pin!(send()));
        for (send, woken) in [(&mut first_send, &first), (&mut second_send, &second)] {
            let poll = send.as_mut().poll(&mut Context::from_waker(&woken.waker()));
            assert!(poll.is_pending());
        }
        link.write_or_wake();
        assert_eq!((first.times(), second.times()), (1, 0));
        assert_eq!(connection.times(), 1, "the connection has to check");
        let _ = link.take_lent();
        let mut cx = Context::from_waker(&waker);
        let mut polls = 0..3;
        while second.times() == 0 && polls.next().is_some() {
            let _ = link.try_sleep(None, &cx);
        }
        assert_eq!(second.times(), 1);
        assert!(second_send.as_mut().poll(&mut cx).is_ready());
    }

    #[tokio::test]
    async fn a_flush_is_complete_when_the_room_has_written() {
        let [connection, holder]: [Arc<Woken>; 2] = Default::default();
        let (link, mut client) = sleeping(Config::new(), &connection.waker()).await;
        let mut read = [0; 12];
        for times in 1..4 {
            assert!(matches!(offer(&link, 10), Then::Write));
            assert_eq!(
                link.buffered(),
                Load {
                    messages: 1,
                    bytes: 12
                }
            );
            let waker = holder.waker();
            let mut cx = Context::from_waker(&waker);
            assert!(link.poll_flushed(&mut cx).is_pending());
            link.write_or_wake();
            assert_eq!((holder.times(), connection.times()), (times, 0));
            assert_eq!(link.buffered(), Load::default());
            assert!(link.poll_flushed(&mut cx).is_ready());
            client.read_exact(&mut read).await.unwrap();
            assert_eq!(read[..3], [0x82, 10, 7]);
        }
        assert_eq!(link.traffic().messages_sent, 3);
        assert_eq!(link.traffic().bytes_sent, 30);
    }

    #[tokio::test]
    async fn a_waker_of_a_connection_that_panics_does_not_hurt_the_room() {
        let waker = Waker::from(Arc::new(Panics));
        let (link, _client) = sleeping(Config::new(), &waker).await;
        assert!(matches!(offer(&link, 10), Then::Write));
        // The connection runs, but has not looked at the rest yet.
        let lent = link.take_lent();
        assert!(matches!(lent, Some(Lent::Writer(_))));
        link.write_or_wake();
    }
}
