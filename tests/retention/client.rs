//! The client's side of each history.

use std::iter;

use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

use super::{KIB, MOMENT};
use crate::support::{
    stream::End,
    wire::{self, BINARY, CONTINUATION, FIN, PING, PONG, header, read_frame},
};

pub(crate) struct Peer(pub(crate) End);

/// Builds a frame with a mask that changes nothing, which takes no time.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&*header(first, payload.len(), true), &[0; 4], payload].concat()
}

impl Peer {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        wire::write(&mut self.0, bytes).await;
    }

    /// Reads until nothing more comes or `most` bytes have come, and returns how many did.
    pub(crate) async fn read(&mut self, most: usize) -> usize {
        let mut bytes = vec![0; 16 * KIB];
        let mut len = 0;
        while len < most {
            let bytes = &mut bytes[..(16 * KIB).min(most - len)];
            match timeout(5 * MOMENT, self.0.read(bytes)).await {
                Ok(read) => len += read.unwrap(),
                Err(_) => break,
            }
        }
        self.0.forget_reader();
        len
    }
}

pub(crate) async fn drains(mut peer: Peer, len: usize) -> Peer {
    assert_eq!(peer.read(usize::MAX).await, len);
    peer
}

pub(crate) async fn drains_late(peer: Peer, len: usize) -> Peer {
    sleep(3 * MOMENT).await;
    drains(peer, len).await
}

pub(crate) async fn drains_in_halves(mut peer: Peer, len: usize) -> Peer {
    assert_eq!(peer.read(len / 2).await, len / 2);
    drains_late(peer, len - len / 2).await
}

/// Writes messages, and reads the same without their masks.
pub(crate) async fn asks(mut peer: Peer, count: usize, len: usize) -> Peer {
    let frame = frame(FIN | BINARY, &vec![7; len]);
    peer.write(&frame.repeat(count)).await;
    drains(peer, count * (frame.len() - 4)).await
}

/// Returns the 64 frames of a message.
fn pieces(len: usize) -> Vec<Vec<u8>> {
    let piece = vec![7; len / 64];
    let first = frame(BINARY, &piece);
    let last = frame(FIN | CONTINUATION, &piece);
    let middle = iter::repeat_n(frame(CONTINUATION, &piece), 62);
    iter::once(first).chain(middle).chain([last]).collect()
}

/// Writes a message in pieces, and reads it in one.
pub(crate) async fn asks_in_pieces(mut peer: Peer, len: usize) -> Peer {
    for piece in pieces(len) {
        peer.write(&piece).await;
    }
    drains(peer, len + 10).await
}

/// The same with a pause within each piece, and a pause and a ping behind each.
pub(crate) async fn asks_in_halves(mut peer: Peer, len: usize) -> Peer {
    for piece in pieces(len) {
        let (first, second) = piece.split_at(piece.len() / 2);
        peer.write(first).await;
        sleep(MOMENT).await;
        peer.write(second).await;
        sleep(MOMENT).await;
        peer.write(&frame(FIN | PING, b"between")).await;
    }
    drains(peer, len + 10 + 64 * 9).await
}

/// Writes 150 pings, and reads as many pongs.
pub(crate) async fn pings(mut peer: Peer, at_once: usize) -> Peer {
    let pings = frame(FIN | PING, &[1; 125]).repeat(at_once);
    for _ in 0..150 / at_once {
        peer.write(&pings).await;
        peer = drains(peer, at_once * 127).await;
    }
    peer
}

/// Answers a ping of the server's.
pub(crate) async fn answers(mut peer: Peer) -> Peer {
    let ping = read_frame(&mut peer.0).await.unwrap();
    assert_eq!(ping.first, FIN | PING);
    peer.write(&frame(FIN | PONG, &ping.payload)).await;
    peer
}
