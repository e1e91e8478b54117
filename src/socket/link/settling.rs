//! The usual end of a poll, in one step: the answers are written, and the connection sleeps.

use std::{
    io, mem,
    task::{Context, Waker},
};

use super::{Link, Stage, State, TrySleep};

/// The most bytes that are written while the lock is held.
const MAX_WRITE: usize = 32 * 1024;

/// The result of [`Link::settle`].
#[derive(Debug)]
pub(in crate::socket) struct Settled {
    /// `None` if the connection has more to do, in the usual order.
    pub(in crate::socket) sleep: Option<TrySleep>,
    pub(in crate::socket) written: io::Result<usize>,
    /// A message was decoded since the connection last checked.
    pub(in crate::socket) message_decoded: bool,
}

impl Link {
    /// Lets a connection sleep that has nothing to read, if all that it would do before is to `write` a few small
    /// messages. If the handler in its task waits until they are written, it is awake.
    #[inline]
    pub(in crate::socket) fn settle(
        &self,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
        cx: &Context<'_>,
    ) -> Settled {
        let mut settled = Settled {
            sleep: None,
            written: Ok(0),
            message_decoded: false,
        };
        let mut guard = self.lock();
        let state = &mut *guard;
        let unwritten = state.small_output().filter(|_| state.is_quiet(cx));
        let Some(bytes) = unwritten else {
            return settled;
        };
        let len = bytes.len();
        if len > 0 {
            settled.written = write(bytes);
            if let Ok(written) = settled.written {
                state.outbox.advance(written);
            }
        }
        if !matches!(settled.written, Ok(written) if written == len) {
            return settled;
        }
        state.flushed = state.sent();
        state.dirty = false;
        state.holder_received = false;
        settled.message_decoded = mem::take(&mut state.message_decoded);
        settled.sleep = Some(
            match state.writer.take_if(|_| state.flush_target.is_some()) {
                Some(writer) => {
                    drop(guard);
                    drop(writer);
                    let handler_waits = true;
                    TrySleep::Awake { handler_waits }
                }
                None => {
                    state.give_back_buffers();
                    self.sleep_unless_dirty(guard, cx)
                }
            },
        );
        settled
    }
}

impl State {
    /// Returns whether there is nothing to do but to write the outbox.
    #[inline]
    fn is_quiet(&self, cx: &Context<'_>) -> bool {
        let receiver = self.receiver.as_ref();
        let is_own = |writer: &Waker| writer.will_wake(cx.waker());
        self.stage == Stage::Open
            && self.waiters.is_none()
            && (self.flush_target.is_none() || self.writer.as_ref().is_some_and(is_own))
            && self.writing.is_empty()
            && self.abandoned.is_none()
            && !self.inbox_full
            && !self.has_command()
            // A connection that compresses is never idle.
            && receiver.is_some_and(|receiver| receiver.is_idle() && !receiver.has_input())
    }

    /// Returns the outbox, if its bytes are few and in one buffer.
    #[inline]
    fn small_output(&self) -> Option<&[u8]> {
        let bytes = self.outbox.collected()?;
        (bytes.len() <= MAX_WRITE).then_some(bytes)
    }
}

#[cfg(all(test, not(tower_websocket_loom)))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        codec::{Load, Outgoing, Role, Rules},
        config::Config,
        socket::{
            HandshakeInfo,
            input::Input,
            link::{Caller, FastPath},
            timer,
        },
        words::{CloseCode, CloseFrame, Message},
    };

    /// A connection that is awake and has decoded all input.
    fn link(config: Config) -> Link {
        let config = Arc::new(config);
        let link = Link::new(Role::Server, HandshakeInfo::default(), Arc::clone(&config));
        let rules = Rules {
            role: Role::Server,
            limits: config.limits(),
            deflation: None,
        };
        link.begin(rules, &[], false, timer::now());
        link
    }

    /// Counts wakes.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn message(len: usize) -> Message {
        Message::Binary(vec![7; len].into())
    }

    /// Settles with a stream that takes up to `most` bytes. Returns the bytes that it took, too.
    fn settle(link: &Link, most: usize, waker: &Waker) -> (Settled, Vec<u8>) {
        let mut taken = Vec::new();
        let write = |bytes: &[u8]| {
            taken.extend_from_slice(&bytes[..bytes.len().min(most)]);
            Ok(taken.len())
        };
        let settled = link.settle(write, &Context::from_waker(waker));
        (settled, taken)
    }

    #[test]
    fn answers_are_written_and_the_next_change_wakes_the_connection() {
        let link = link(Config::new());
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        for round in 1..=3 {
            link.try_send(message(2)).unwrap();
            link.try_send(message(1)).unwrap();
            let (settled, taken) = settle(&link, 100, &waker);
            assert_eq!(settled.sleep, Some(TrySleep::Asleep));
            assert_eq!(taken, [0x82, 2, 7, 7, 0x82, 1, 7]);
            assert_eq!(link.buffered(), Load::default());
            assert!(
                link.poll_flushed(&mut Context::from_waker(&waker))
                    .is_ready()
            );
            assert_eq!(wakes.0.load(Ordering::Relaxed), round - 1);
            link.ignore_incoming();
            assert_eq!(wakes.0.load(Ordering::Relaxed), round);
        }
        // Nothing to write is as good.
        let (settled, taken) = settle(&link, 0, &waker);
        assert_eq!((settled.sleep, taken.len()), (Some(TrySleep::Asleep), 0));
    }

    #[test]
    fn what_happened_since_the_last_look_is_told_once() {
        let link = link(Config::new());
        // "Hi", with a mask of zeros.
        let input = Input::from_bytes(b"\x81\x82\0\0\0\0Hi").unwrap();
        link.lock().receiver.as_mut().unwrap().put_input(input);
        link.try_send(link.try_recv().unwrap()).unwrap();
        for decoded in [true, false] {
            let (settled, _) = settle(&link, 100, Waker::noop());
            assert_eq!(settled.sleep, Some(TrySleep::Asleep));
            assert_eq!(settled.message_decoded, decoded);
            assert!(!link.holder_has_received());
            link.lock().notify_on_receive = false;
            // Shared memory is given back.
            let outbox = format!("{:?}", link.lock().outbox);
            assert!(outbox.contains("frames: None"), "{outbox}");
        }
    }

    #[test]
    fn what_the_stream_does_not_take_is_left_for_the_connection() {
        for most in [0, 1, 3, 4] {
            let link = link(Config::new());
            link.try_send(message(1)).unwrap();
            link.try_send(message(2)).unwrap();
            let (settled, mut taken) = settle(&link, most, Waker::noop());
            assert_eq!((settled.sleep, settled.written.unwrap()), (None, most));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(link.poll_flushed(&mut cx).is_pending());
            assert_eq!(link.buffered().bytes, 7 - most);
            let mut output = Outgoing::new(Role::Server, false);
            let mut none = None;
            let read = link.fast_path(&mut none, &mut output, &cx);
            assert!(matches!(read, FastPath::Read { .. }));
            taken.extend_from_slice(output.only_slice().unwrap());
            assert_eq!(taken, [0x82, 1, 7, 0x82, 2, 7, 7]);
        }
    }

    #[test]
    fn an_error_of_the_stream_is_returned_and_nothing_counts_as_written() {
        let link = link(Config::new());
        link.try_send(message(1)).unwrap();
        let broken = |_: &[u8]| Err(io::ErrorKind::ConnectionReset.into());
        let settled = link.settle(broken, &Context::from_waker(Waker::noop()));
        assert!(settled.sleep.is_none() && settled.written.is_err());
        assert_eq!(link.buffered().messages, 1);
    }

    #[test]
    fn the_handler_that_waits_for_its_flush_is_polled_next() {
        let link = link(Config::new());
        link.try_send(message(1)).unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        assert!(link.poll_flushed(&mut cx).is_pending());
        let (settled, taken) = settle(&link, 100, &waker);
        let handler_waits = true;
        assert_eq!(settled.sleep, Some(TrySleep::Awake { handler_waits }));
        assert_eq!(taken.len(), 3);
        assert!(link.poll_flushed(&mut cx).is_ready());
        assert_eq!(link.try_sleep(None, &cx), TrySleep::Asleep);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_connection_with_anything_else_to_do_writes_nothing_here() {
        type Busy = fn(&Link);
        let others: [(&str, Busy); 10] = [
            ("a close", |link| {
                link.close(CloseFrame::without_reason(CloseCode::NORMAL))
            }),
            ("a ping", |link| {
                link.lock().rare_mut().command = Some(Box::new(crate::socket::link::Command::Ping));
            }),
            ("a flush of another task", |link| {
                let other = Waker::from(Arc::new(Wakes::default()));
                let mut cx = Context::from_waker(&other);
                assert!(link.poll_flushed(&mut cx).is_pending());
            }),
            ("a waiter for room", |link| {
                let mut send = Box::pin(link.send(message(1), Caller::Holder));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(send.as_mut().poll(&mut cx).is_pending());
                // Its place in the queue outlives the test.
                std::mem::forget(send);
            }),
            ("the holder is gone", |link| link.abandon(false)),
            ("the inbox is full", |link| link.lock().inbox_full = true),
            ("input that is not decoded", |link| {
                let mut state = link.lock();
                let input = Input::from_bytes(&[0x82]).unwrap();
                state.receiver.as_mut().unwrap().put_input(input);
            }),
            ("a message that has begun", |link| {
                let input = Input::from_bytes(&[0x82, 0x85]).unwrap();
                link.lock().receiver.as_mut().unwrap().put_input(input);
                assert!(link.try_recv().is_err());
            }),
            ("the end", |link| {
                link.end(None, None, &Context::from_waker(Waker::noop()));
            }),
            ("output that was taken", |link| {
                let mut output = Outgoing::new(Role::Server, false);
                assert!(link.take_outgoing(&mut output).is_none());
            }),
        ];
        for (name, make_busy) in others {
            // The outbox has room for one message.
            let link = link(Config::new().max_outbox(1, 1000));
            link.try_send(message(1)).unwrap();
            make_busy(&link);
            let (settled, taken) = settle(&link, 100, Waker::noop());
            assert!(settled.sleep.is_none() && taken.is_empty(), "{name}");
            assert!(!settled.message_decoded);
        }
    }

    #[test]
    fn large_output_is_not_written_under_the_lock() {
        for (len, count, is_small) in [(3000, 10, true), (3000, 11, false), (4096, 1, false)] {
            let link = link(Config::new());
            for _ in 0..count {
                link.try_send(message(len)).unwrap();
            }
            let (settled, taken) = settle(&link, usize::MAX, Waker::noop());
            assert_eq!(settled.sleep.is_some(), is_small, "{count} x {len}");
            assert_eq!(taken.is_empty(), !is_small);
        }
    }
}
