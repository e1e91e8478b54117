//! A message that many connections send. The head of its frame is made once, and each compressed form as well.
//!
//! A compressed form is made in parts, of up to 32 KiB of the message, by any of the tasks that need it. It is made
//! without a lock: a task takes the compressor out, and a second task that comes meanwhile finds the form busy.

use std::{
    mem,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    task::Poll,
};

use bytes::Bytes;

use super::{
    deflate::{Compression, Form},
    frames::data_header,
    segments::Head,
};
use crate::words::Message;

/// The bytes of a message that are compressed at once.
const PART: usize = 32 * 1024;

/// A message with the head of its unmasked, uncompressed frame.
#[derive(Debug)]
pub(crate) struct SharedMessage {
    message: Message,
    head: Head,
    compressed: OnceLock<Box<Compressed>>,
}

/// A compressed form of a message, in a list that only grows.
#[derive(Debug)]
struct Compressed {
    form: Form,
    progress: Mutex<Progress>,
    /// `None` if the message would not become smaller.
    payload: OnceLock<Option<Bytes>>,
    next: OnceLock<Box<Self>>,
}

#[derive(Debug)]
struct Progress {
    stage: Stage,
    /// A task that found the form busy waits for the result.
    is_awaited: bool,
}

#[derive(Debug)]
enum Stage {
    Paused(Box<Compression>),
    /// A task compresses a part.
    Busy,
    Done,
}

/// The result of compressing a part of a shared message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compressing {
    /// It was done before.
    Done,
    /// This call has done the last part.
    Finished {
        /// The bytes that the form adds to the message.
        bytes: usize,
        /// Another task has found it [`Busy`](Self::Busy).
        is_awaited: bool,
    },
    Paused,
    /// Another task compresses a part. The task that finishes learns that this one waits.
    Busy,
}

/// A part in progress. It ends when this is dropped, also by a panic.
struct Part<'a> {
    form: &'a Compressed,
    next: Stage,
    is_awaited: &'a mut bool,
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let next = mem::replace(&mut self.next, Stage::Done);
        if matches!(next, Stage::Done) {
            // After a panic, the message is sent uncompressed.
            self.form.payload.get_or_init(|| None);
        }
        let mut progress = self.form.lock();
        progress.stage = next;
        *self.is_awaited = progress.is_awaited;
    }
}

impl Compressed {
    fn new(form: Form) -> Box<Self> {
        Box::new(Self {
            form,
            progress: Mutex::new(Progress {
                stage: Stage::Paused(Compression::in_form(form)),
                is_awaited: false,
            }),
            payload: OnceLock::new(),
            next: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // No code panics under the lock.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compress(&self, message: &[u8], budget: &mut usize) -> Compressing {
        if self.payload.get().is_some() {
            return Compressing::Done;
        }
        let mut progress = self.lock();
        let mut compression = match mem::replace(&mut progress.stage, Stage::Busy) {
            Stage::Paused(compression) => compression,
            Stage::Busy => {
                progress.is_awaited = true;
                return Compressing::Busy;
            }
            Stage::Done => {
                progress.stage = Stage::Done;
                return Compressing::Done;
            }
        };
        drop(progress);
        let mut is_awaited = false;
        let mut part = Part {
            form: self,
            next: Stage::Done,
            is_awaited: &mut is_awaited,
        };
        let mut left = PART.min(*budget);
        *budget -= left;
        let compressed = compression.compress(message, &mut left);
        *budget += left;
        let Poll::Ready(payload) = compressed else {
            part.next = Stage::Paused(compression);
            return Compressing::Paused;
        };
        let bytes = mem::size_of::<Self>() + payload.as_ref().map_or(0, Bytes::len);
        self.payload.get_or_init(|| payload);
        drop(part);
        Compressing::Finished { bytes, is_awaited }
    }
}

impl SharedMessage {
    pub(crate) fn new(message: Message) -> Self {
        Self {
            head: Head::new(&data_header(message.is_text()), message.len()),
            message,
            compressed: OnceLock::new(),
        }
    }

    pub(crate) const fn message(&self) -> &Message {
        &self.message
    }

    pub(crate) fn len(&self) -> usize {
        self.message.len()
    }

    pub(super) fn head(&self) -> &[u8] {
        self.head.as_bytes()
    }

    /// Returns a handle of the payload, without copying it.
    pub(super) fn payload(&self) -> Bytes {
        self.message.clone().into_bytes()
    }

    /// Compresses a part of the message, of up to `budget` bytes, which are subtracted. An empty budget is spent.
    pub(crate) fn compress(&self, form: Form, budget: &mut usize) -> Compressing {
        let mut found = self.compressed.get_or_init(|| Compressed::new(form));
        while found.form != form {
            found = found.next.get_or_init(|| Compressed::new(form));
        }
        found.compress(self.message.as_bytes(), budget)
    }

    /// Returns the payload in this form if it is made: `None` within if the message would not become smaller.
    pub(crate) fn compressed(&self, form: Form) -> Option<Option<&Bytes>> {
        let mut found = self.compressed.get();
        while let Some(compressed) = found.filter(|found| found.form != form) {
            found = compressed.next.get();
        }
        Some(found?.payload.get()?.as_ref())
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use std::{iter, sync::Barrier, thread};

    use super::*;
    use crate::{
        codec::{Deflate, Sharing},
        handshake::extension::deflate::{Direction, Terms},
    };

    fn sharing(window_bits: u8, level: u32) -> Sharing {
        let direction = Direction {
            window_bits,
            context_takeover: false,
        };
        let terms = Terms {
            send: direction,
            receive: direction,
        };
        let deflation = Deflate::new().level(level).agreed(terms);
        deflation.sharing().expect("there is no context takeover")
    }

    /// Numbers that do not repeat.
    fn numbers() -> impl Iterator<Item = u64> {
        let mut state = 1_u64;
        iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
    }

    /// A text that shrinks to about half.
    fn text(len: usize) -> String {
        let numbers = numbers().map(|number| format!("{number:016x}"));
        let mut text: String = numbers.take(len / 16 + 2).collect();
        text.truncate(len);
        text
    }

    fn own(form: Form, message: &str) -> Option<Bytes> {
        Compression::in_form(form).compress_at_once(message.as_bytes())
    }

    #[test]
    fn a_connection_with_context_takeover_shares_nothing() {
        let direction = |context_takeover| Direction {
            window_bits: 12,
            context_takeover,
        };
        let settings = Deflate::new().min_size(100);
        for takeover in [false, true] {
            let terms = Terms {
                send: direction(takeover),
                receive: direction(!takeover),
            };
            let sharing = settings.agreed(terms).sharing();
            assert_eq!(sharing.is_some(), !takeover);
            if let Some(sharing) = sharing {
                let applies = [0, 99, 100].map(|len| sharing.applies_to(len));
                assert_eq!(applies, [false, false, true]);
            }
        }
        let all = settings.min_size(0).agreed(Terms {
            send: direction(false),
            receive: direction(false),
        });
        let all = all.sharing().unwrap();
        assert_eq!([0, 1].map(|len| all.applies_to(len)), [false, true]);
    }

    #[test]
    fn each_form_is_made_once_and_in_parts() {
        let text = text(100_000);
        let shared = SharedMessage::new(Message::text(text.clone()));
        for (window_bits, level) in [(12, 6), (9, 6), (9, 1), (15, 9)] {
            let form = sharing(window_bits, level).form();
            assert_eq!(shared.compressed(form), None);
            let mut budget = 128 * 1024;
            for part in 1..=3 {
                assert_eq!(shared.compress(form, &mut budget), Compressing::Paused);
                assert_eq!(budget, 128 * 1024 - part * PART);
                assert_eq!(shared.compressed(form), None);
            }
            let Compressing::Finished { bytes, is_awaited } = shared.compress(form, &mut budget)
            else {
                panic!("it has more parts");
            };
            assert_eq!((budget, is_awaited), (128 * 1024 - text.len(), false));
            let payload = shared.compressed(form).unwrap().unwrap().clone();
            assert!((payload.len()..payload.len() + 256).contains(&bytes));
            assert!(payload.len() < text.len());
            assert_eq!(shared.compress(form, &mut budget), Compressing::Done);
            let again = shared.compressed(form).unwrap().unwrap();
            assert_eq!(again.as_ptr(), payload.as_ptr());
        }
        // A small message has the same bytes as one that its connection compresses.
        let text = &text[..5000];
        let shared = SharedMessage::new(Message::text(text));
        let form = sharing(12, 6).form();
        let finished = shared.compress(form, &mut 5000);
        assert!(matches!(finished, Compressing::Finished { .. }));
        assert_eq!(shared.compressed(form).unwrap(), own(form, text).as_ref());
    }

    #[test]
    fn a_message_that_does_not_shrink_is_tried_once() {
        let noise: Vec<u8> = numbers().flat_map(u64::to_le_bytes).take(2000).collect();
        let shared = SharedMessage::new(Message::binary(noise));
        let form = sharing(12, 6).form();
        let finished = shared.compress(form, &mut 5000);
        assert!(matches!(finished, Compressing::Finished { .. }));
        assert_eq!(shared.compressed(form), Some(None));
        assert_eq!(shared.compress(form, &mut 5000), Compressing::Done);
    }

    #[test]
    fn one_of_several_threads_finishes_and_learns_that_others_wait() {
        for _ in 0..20 {
            let text = text(60_000);
            let shared = SharedMessage::new(Message::text(text));
            let form = sharing(12, 6).form();
            let barrier = Barrier::new(4);
            // Each goes on until the form is made or busy, as the task of a chunk does.
            let compress = || {
                barrier.wait();
                loop {
                    match shared.compress(form, &mut 100_000) {
                        Compressing::Paused => {}
                        last => return last,
                    }
                }
            };
            let results: Vec<_> = thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(compress));
                threads.map(|thread| thread.join().unwrap()).to_vec()
            });
            let busy = results.contains(&Compressing::Busy);
            let finished: Vec<bool> = results
                .iter()
                .filter_map(|result| match result {
                    Compressing::Finished { is_awaited, .. } => Some(*is_awaited),
                    _ => None,
                })
                .collect();
            assert_eq!(finished, [busy]);
            assert!(shared.compressed(form).unwrap().is_some());
        }
    }

    #[test]
    fn a_part_that_panics_leaves_the_message_uncompressed() {
        let form = sharing(12, 6).form();
        let compressed = Compressed::new(form);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            compressed.lock().stage = Stage::Busy;
            let mut is_awaited = false;
            let _part = Part {
                form: &compressed,
                next: Stage::Done,
                is_awaited: &mut is_awaited,
            };
            panic!("while it compresses");
        }));
        assert!(panicked.is_err());
        let done = compressed.compress(b"a message", &mut 100);
        assert_eq!(done, Compressing::Done);
        assert_eq!(compressed.payload.get(), Some(&None));
    }
}
