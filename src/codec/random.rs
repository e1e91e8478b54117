//! Random numbers for a client: its handshake keys and its masks.
//!
//! If masks were predictable, a page could choose the bytes that its browser writes to the network
//! ([RFC 6455 §10.3](https://www.rfc-editor.org/rfc/rfc6455#section-10.3)). So all of these bytes come from
//! the system's random number generator.
//!
//! # If the system's generator fails
//!
//! [`nonce`] fails, and so does the attempt to connect. An open connection does not fail: its masks are then
//! derived from a secret, which the system provided before the first handshake.

use std::{
    cell::RefCell,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use getrandom::Error;
use sha1_smol::{DIGEST_LENGTH, Sha1};

/// The bytes of one call to the system: 256 masks. One call for each mask would cost far more.
const BLOCK: usize = 1024;
const MASK: usize = 4;

type Secret = OnceLock<[u8; 32]>;
type Source = fn(&mut [u8]) -> Result<(), Error>;

static SECRET: Secret = OnceLock::new();

thread_local! {
    static MASKS: RefCell<Masks> = const { RefCell::new(Masks::new()) };
}

/// Draws the 16 bytes of a `Sec-WebSocket-Key` (RFC 6455 §4.1).
///
/// # Errors
///
/// The error of the system's generator.
#[cfg(feature = "client")]
pub(crate) fn nonce() -> Result<[u8; 16], Error> {
    draw_nonce(&SECRET, getrandom::fill)
}

/// Draws a masking key (RFC 6455 §5.3). A [`nonce`] must have been drawn before.
pub(crate) fn mask() -> [u8; MASK] {
    MASKS.with_borrow_mut(|masks| masks.draw(&SECRET, getrandom::fill))
}

#[cfg(any(test, feature = "client"))]
fn draw_nonce(secret: &Secret, source: Source) -> Result<[u8; 16], Error> {
    if secret.get().is_none() {
        let mut bytes = [0; 32];
        source(&mut bytes)?;
        // Fails if another thread has set it meanwhile.
        let _ = secret.set(bytes);
    }
    let mut nonce = [0; 16];
    source(&mut nonce)?;
    Ok(nonce)
}

/// The unused masks of one thread.
struct Masks {
    bytes: [u8; BLOCK],
    /// The number of unused bytes. They are at the front.
    left: usize,
}

impl Masks {
    const fn new() -> Self {
        Self {
            bytes: [0; BLOCK],
            left: 0,
        }
    }

    #[inline]
    fn draw(&mut self, secret: &Secret, source: Source) -> [u8; MASK] {
        if self.left == 0 {
            self.refill(secret, source);
        }
        self.left -= MASK;
        let mut mask = [0; MASK];
        mask.copy_from_slice(&self.bytes[self.left..self.left + MASK]);
        mask
    }

    #[cold]
    fn refill(&mut self, secret: &Secret, source: Source) {
        if source(&mut self.bytes).is_err() {
            self.derive(secret);
        }
        self.left = BLOCK;
    }

    /// Makes a block from hashes of the secret and a counter. Without the secret it is unpredictable.
    fn derive(&mut self, secret: &Secret) {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let secret = secret
            .get()
            .expect("a client masks frames only after its handshake, which sets the secret");
        for chunk in self.bytes.chunks_mut(DIGEST_LENGTH) {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let mut hash = Sha1::new();
            hash.update(secret);
            hash.update(&count.to_le_bytes());
            chunk.copy_from_slice(&hash.digest().bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    fn failing(_: &mut [u8]) -> Result<(), Error> {
        Err(Error::UNSUPPORTED)
    }

    fn distinct(masks: impl IntoIterator<Item = [u8; MASK]>) -> usize {
        masks.into_iter().collect::<HashSet<_>>().len()
    }

    #[test]
    fn draws_every_byte_of_a_block_once() {
        fn counting(bytes: &mut [u8]) -> Result<(), Error> {
            for (index, chunk) in bytes.chunks_mut(2).enumerate() {
                chunk.copy_from_slice(&(index as u16).to_le_bytes());
            }
            Ok(())
        }

        let mut masks = Masks::new();
        let mut drawn: Vec<u8> = Vec::new();
        for _ in 0..BLOCK / MASK {
            drawn.extend(masks.draw(&Secret::new(), counting));
        }
        let halves = drawn.chunks(2).map(|half| [half[0], half[1]]);
        assert_eq!(halves.collect::<HashSet<_>>().len(), BLOCK / 2);
        assert_eq!(masks.left, 0);
        let first = masks.draw(&Secret::new(), counting);
        assert_eq!(first, drawn[..MASK]);
    }

    #[test]
    fn draws_different_masks_on_each_thread() {
        let threads = [0; 4].map(|_| thread::spawn(|| [0; 1000].map(|_| mask())));
        let masks = threads.map(|thread| thread.join().expect("drawing does not panic"));
        // With 4,000 of 2^32 masks, a repetition happens about once in 500 runs.
        assert!(distinct(masks.into_iter().flatten()) > 3990);
    }

    #[test]
    fn a_nonce_fails_if_the_system_fails() {
        let secret = Secret::new();
        assert_eq!(draw_nonce(&secret, failing), Err(Error::UNSUPPORTED));
        assert_eq!(secret.get(), None);
        let nonces =
            [0; 2].map(|_| draw_nonce(&secret, getrandom::fill).expect("the system has some"));
        assert_ne!(nonces[0], nonces[1]);
        assert_eq!(draw_nonce(&secret, failing), Err(Error::UNSUPPORTED));
    }

    #[test]
    fn masks_are_derived_if_the_system_fails_later() {
        let (secret, other) = (Secret::new(), Secret::new());
        draw_nonce(&secret, getrandom::fill).expect("the system has some");
        draw_nonce(&other, getrandom::fill).expect("the system has some");
        let (mut masks, mut others) = (Masks::new(), Masks::new());
        let drawn: Vec<_> = (0..1000)
            .flat_map(|_| [masks.draw(&secret, failing), others.draw(&other, failing)])
            .collect();
        assert!(distinct(drawn) > 1990);
    }
}
