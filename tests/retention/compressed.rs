//! The client's side of histories of compressed messages.

use flate2::{Compress, Compression, FlushCompress};

use super::{
    KIB,
    client::{Peer, drains, frame},
};
use crate::support::wire::{BINARY, CONTINUATION, FIN};

const RSV1: u8 = 0x40;

/// Writes a message of 64 KiB in frames, and reads the answer.
pub(crate) async fn asks(mut peer: Peer, frames: usize) -> Peer {
    let message: Vec<u8> = (0..64 * KIB).map(|at| (at / 256) as u8).collect();
    let mut compressed = Vec::with_capacity(4 * KIB);
    Compress::new(Compression::fast(), false)
        .compress_vec(&message, &mut compressed, FlushCompress::Sync)
        .unwrap();
    // The sender cuts the tail off.
    compressed.truncate(compressed.len() - 4);
    let pieces = compressed.chunks(compressed.len().div_ceil(frames));
    let last = pieces.len() - 1;
    for (number, piece) in pieces.enumerate() {
        let first = if number == 0 {
            RSV1 | BINARY
        } else {
            CONTINUATION
        };
        let fin = if number == last { FIN } else { 0 };
        peer.write(&frame(fin | first, piece)).await;
    }
    drains_some(peer).await
}

/// Reads answers that are much shorter than what was sent.
pub(crate) async fn drains_some(mut peer: Peer) -> Peer {
    let len = peer.read(usize::MAX).await;
    assert!((1..2 * KIB).contains(&len), "{len} bytes");
    peer
}

/// Writes a message that does not become smaller, and reads the answer.
pub(crate) async fn makes_noise(mut peer: Peer) -> Peer {
    let mut state = 1_u64;
    let noise = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..16 * KIB).map(noise).collect();
    let frame = frame(FIN | BINARY, &noise);
    peer.write(&frame).await;
    drains(peer, frame.len() - 4).await
}
