//! Tests of the encoder.

use super::*;
use crate::{
    codec::{
        Mask,
        frames::{LARGE, SEGMENT},
    },
    words::CloseCode,
};

fn contiguous() -> Outgoing {
    Outgoing::new(Role::Server, true)
}

fn tail(outgoing: &Outgoing) -> &[u8] {
    outgoing.frames.as_ref().map_or(&[], |frames| &frames.tail)
}

/// Writes everything, up to `at_once` bytes at a time. Returns the written bytes and the removed load.
fn drain(outgoing: &mut Outgoing, at_once: usize) -> (Vec<u8>, Load) {
    let mut written = Vec::new();
    let mut removed = Load::default();
    while !outgoing.is_empty() {
        let mut slices = [IoSlice::new(&[]); 4];
        let slices = outgoing.slices(&mut slices);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let chunk: Vec<u8> = bytes.take(at_once).collect();
        written.extend_from_slice(&chunk);
        let advanced = outgoing.advance(chunk.len());
        removed.messages += advanced.messages;
        removed.bytes += advanced.bytes;
    }
    (written, removed)
}

#[test]
fn writes_heads_of_all_three_lengths() {
    for (len, head) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xff, 0xff]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut outgoing = Outgoing::default();
        outgoing.push(&mut Message::binary(vec![7; len]));
        let (written, _) = drain(&mut outgoing, usize::MAX);
        assert_eq!(&written[..head.len()], head, "length {len}");
        assert_eq!(&written[head.len()..], vec![7; len], "length {len}");
    }
}

#[cfg(feature = "hub")]
#[test]
fn a_shared_message_has_the_same_bytes_as_an_own_one() {
    for contiguous in [false, true] {
        for len in [0, 1, 125, 126, LARGE - 1, LARGE, 65_535, 65_536, 100_000] {
            let message = Message::text("x".repeat(len));
            let shared = crate::codec::SharedMessage::new(message.clone());
            let (mut own, mut outgoing) = (
                Outgoing::new(Role::Server, contiguous),
                Outgoing::new(Role::Server, contiguous),
            );
            for _ in 0..3 {
                own.push(&mut message.clone());
                outgoing.push_shared(&shared);
            }
            assert_eq!(own.load(), outgoing.load(), "length {len}");
            assert_eq!(drain(&mut own, 999), drain(&mut outgoing, 777));
        }
    }
}

#[cfg(feature = "hub")]
#[test]
fn shared_frames_have_the_same_bytes_as_single_messages() {
    use crate::codec::{SharedFrames, SharedMessage};

    for len in [0, 1, 125, 126, LARGE - 1] {
        let message = SharedMessage::new(Message::text("x".repeat(len)));
        let messages = [&message; 3];
        let frames = SharedFrames::new(&messages).unwrap();
        let (mut single, mut shared) = (Outgoing::default(), Outgoing::default());
        for _ in 0..2 {
            single.push_ping(b"before");
            shared.push_ping(b"before");
            for message in messages {
                single.push_shared(message);
            }
            assert!(shared.push_shared_frames(&frames));
        }
        assert_eq!(single.load(), shared.load(), "length {len}");
        assert_eq!(drain(&mut single, 999), drain(&mut shared, 777));
    }
}

#[cfg(feature = "hub")]
#[test]
fn shared_frames_are_written_without_a_copy() {
    use crate::codec::{SharedFrames, SharedMessage};

    let message = SharedMessage::new(Message::text("x".repeat(64)));
    let frames = SharedFrames::new(&[&message, &message]).unwrap();
    let mut outgoing = Outgoing::default();
    assert!(outgoing.push_shared_frames(&frames));
    let whole = outgoing.only_slice().map(<[u8]>::as_ptr);
    assert_eq!(whole, Some(frames.frames().as_ptr()));
    // One small message is copied, as are frames for a stream that writes one buffer at a time.
    let single = SharedFrames::new(&[&message]).unwrap();
    assert!(!outgoing.push_shared_frames(&single));
    assert!(!contiguous().push_shared_frames(&frames));
}

#[cfg(feature = "hub")]
#[test]
fn a_large_shared_payload_is_not_copied() {
    let payload = Bytes::from(vec![1; LARGE]);
    let shared = crate::codec::SharedMessage::new(Message::Binary(payload.clone()));
    for _ in 0..100 {
        let mut outgoing = Outgoing::default();
        outgoing.push_shared(&shared);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.slices(&mut slices)[1].as_ptr(), payload.as_ptr());
        let mut outgoing = Outgoing::default();
        outgoing.push_compressed(true, &payload);
        let mut slices = [IoSlice::new(&[]); 4];
        let slices = outgoing.slices(&mut slices);
        assert_eq!(slices[0][..2], [0x80 | 0x40 | 0x1, 126]);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());
    }
}

#[test]
fn collects_small_frames_in_one_slice() {
    let mut outgoing = Outgoing::default();
    for _ in 0..64 {
        outgoing.push(&mut Message::text("x".repeat(32)));
    }
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(outgoing.slices(&mut slices).len(), 1);
}

#[test]
fn copies_a_large_payload_only_if_contiguous() {
    let payload = Bytes::from(vec![1; LARGE]);
    let mut outgoing = Outgoing::default();
    outgoing.push(&mut Message::Binary(payload.clone()));
    let mut slices = [IoSlice::new(&[]); 4];
    let slices = outgoing.slices(&mut slices);
    assert_eq!(slices.len(), 2);
    assert_eq!(slices[1].as_ptr(), payload.as_ptr());

    let mut outgoing = contiguous();
    outgoing.push(&mut Message::Binary(payload));
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(outgoing.slices(&mut slices).len(), 1);
}

#[test]
fn writes_large_payloads_between_small_frames_in_one_write() {
    let payload = Bytes::from(vec![1; LARGE]);
    let mut outgoing = Outgoing::default();
    for text in ["a", "b"] {
        outgoing.push(&mut Message::text(text));
        outgoing.push(&mut Message::Binary(payload.clone()));
    }
    outgoing.push_ping(b"");
    let mut slices = [IoSlice::new(&[]); 8];
    let slices = outgoing.slices(&mut slices);
    let small: Vec<&[u8]> = slices
        .iter()
        .map(|slice| &**slice)
        .filter(|slice| slice.len() < LARGE)
        .collect();
    let head = [0x82, 126, 0x10, 0].as_slice();
    assert_eq!(small, [b"\x81\x01a", head, b"\x81\x01b", head, b"\x89\0"]);
    for at in [2, 5] {
        assert_eq!(slices[at].as_ptr(), payload.as_ptr(), "slice {at}");
    }
    // A message is removed when all of its bytes are written.
    let (mut ended, mut load) = (Vec::new(), outgoing.load());
    while !outgoing.is_empty() {
        let removed = outgoing.advance(1);
        load.bytes -= removed.bytes;
        if removed.messages > 0 {
            ended.push((load.bytes, removed.messages));
        }
    }
    let frame = 4 + LARGE;
    assert_eq!(
        ended,
        [(2 * frame + 5, 1), (frame + 5, 1), (frame + 2, 1), (2, 1)]
    );
}

#[test]
fn keeps_the_order_if_the_buffer_is_full_or_moved() {
    let fill = |outgoing: &mut Outgoing| {
        for number in 0..300_usize {
            let len = [1000, LARGE, 500, 7, LARGE + 1][number % 5];
            let payload = vec![number as u8; len];
            outgoing.push(&mut Message::binary(payload));
        }
    };
    let mut whole = contiguous();
    fill(&mut whole);
    fill(&mut whole);
    let load = whole.load();
    let (whole, _) = drain(&mut whole, usize::MAX);
    for at_once in [1, 333, 4099, 70_000] {
        let mut outgoing = Outgoing::default();
        fill(&mut outgoing);
        let bytes = 999;
        let mut written = whole[..bytes].to_vec();
        let mut removed = outgoing.advance(bytes);
        let mut more = Outgoing::default();
        fill(&mut more);
        outgoing.append(&mut more);
        assert!(more.is_empty() && more.frames.is_none());
        outgoing.release_memory();
        let (rest, drained) = drain(&mut outgoing, at_once);
        written.extend(rest);
        removed.messages += drained.messages;
        removed.bytes += drained.bytes;
        assert!(written == whole, "{at_once} at once");
        assert_eq!(removed, load, "{at_once} at once");
    }
}

#[test]
fn writes_the_same_bytes_in_writes_of_any_size() {
    let fill = |contiguous| {
        let mut outgoing = Outgoing::new(Role::Server, contiguous);
        for len in [0, 1, 5000, 3, 200_000, 4096, 10] {
            outgoing.push(&mut Message::binary(vec![b'm'; len]));
            outgoing.push_ping(b"ping");
        }
        outgoing.push_close(Some(&CloseFrame::new(CloseCode::NORMAL, "bye").unwrap()));
        outgoing
    };
    let load = fill(false).load();
    let (whole, _) = drain(&mut fill(true), usize::MAX);
    assert_eq!(load.bytes, whole.len());
    for at_once in [1, 2, 7, 4095, 4096, 70_000] {
        let (written, removed) = drain(&mut fill(false), at_once);
        assert!(written == whole, "{at_once} at once");
        assert_eq!(removed, load, "{at_once} at once");
    }
}

#[test]
fn keeps_the_rest_of_a_frame_alone() {
    for role in [Role::Server, Role::Client] {
        let mut outgoing = Outgoing::new(role, false);
        outgoing.push(&mut Message::binary(vec![1; LARGE]));
        for _ in 0..100 {
            outgoing.push(&mut Message::binary(vec![2; LARGE]));
            outgoing.push(&mut Message::text("small"));
        }
        let _ = outgoing.advance(1000);
        let frame = LARGE + if role == Role::Client { 8 } else { 4 };
        outgoing.keep(frame - 1000);
        assert_eq!(
            outgoing.load(),
            Load {
                messages: 0,
                bytes: frame - 1000
            }
        );
        outgoing.push_close(None);
        let (written, room) = drain(&mut outgoing, 777);
        assert_eq!(written[frame - 1000], 0x88);
        assert_eq!(
            room,
            Load {
                messages: 0,
                bytes: written.len()
            }
        );
        if role == Role::Server {
            assert!(written[..frame - 1000].iter().all(|byte| *byte == 1));
        }
        outgoing.push(&mut Message::text("more"));
        outgoing.keep(0);
        assert!(outgoing.is_empty());
    }
}

#[test]
fn appends_after_a_frame_that_is_partly_written() {
    let mut first = Outgoing::default();
    first.push(&mut Message::text("first"));
    let _ = first.advance(3);
    let mut second = Outgoing::default();
    second.push(&mut Message::text("second"));
    first.append(&mut second);
    assert!(second.is_empty());
    let (written, removed) = drain(&mut first, 1);
    assert_eq!(written, b"irst\x81\x06second");
    assert_eq!(removed.messages, 2);
}

fn capacity(outgoing: &Outgoing) -> Option<usize> {
    let frames = outgoing.frames.as_ref();
    frames.map(|frames| frames.tail.capacity())
}

#[test]
fn releases_a_large_buffer_with_a_few_queued_bytes() {
    let mut outgoing = Outgoing {
        frames: Some(Box::new(Frames::new(Role::Server, SEGMENT))),
        ..Outgoing::default()
    };
    outgoing.push(&mut Message::text("x".repeat(100)));
    let _ = outgoing.advance(1);
    outgoing.release_memory();
    assert_eq!(capacity(&outgoing), Some(102));
    let (written, removed) = drain(&mut outgoing, 10);
    assert_eq!((written.len(), removed.messages), (101, 1));
    // The next queue gets the large buffer again.
    outgoing.release_memory();
    outgoing.acquire_memory();
    assert_eq!(capacity(&outgoing), Some(SEGMENT));
}

#[test]
fn releases_its_memory_when_its_frames_are_appended_to_another() {
    for queued in [0, 1] {
        let mut first = Outgoing::default();
        for _ in 0..queued {
            first.push(&mut Message::text("first"));
        }
        let mut second = Outgoing::default();
        second.push(&mut Message::binary(vec![1; LARGE]));
        first.append(&mut second);
        assert!(second.frames.is_none());
    }
}

#[test]
fn an_empty_queue_releases_its_memory() {
    let mut outgoing = Outgoing::default();
    for _ in 0..100 {
        outgoing.push(&mut Message::binary(vec![0; 3000]));
    }
    let _ = drain(&mut outgoing, usize::MAX);
    outgoing.release_memory();
    assert!(outgoing.frames.is_none());
}

/// Server and client connections of a thread share the memory.
#[test]
fn reused_memory_has_no_old_frames() {
    for role in [Role::Server, Role::Client, Role::Server] {
        let mut outgoing = Outgoing::new(role, false);
        outgoing.acquire_memory();
        assert!(outgoing.is_empty());
        outgoing.push(&mut Message::text("small"));
        outgoing.push(&mut Message::binary(vec![0; LARGE]));
        let half = outgoing.load().bytes / 2;
        let _ = outgoing.advance(half);
        // As at the end of a lost connection.
        let mut frames = outgoing.frames.take().unwrap();
        frames.clear();
        frame_pool::give_back(frames);
        outgoing.acquire_memory();
        assert!(outgoing.is_empty());
        outgoing.push_ping(b"");
        let len = if role == Role::Client { 6 } else { 2 };
        assert_eq!(drain(&mut outgoing, usize::MAX).0.len(), len);
        outgoing.release_memory();
    }
}

/// Splits the bytes of a client into frames: their heads without the keys, and their payloads.
fn unmasked(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert_ne!(bytes[1] & 0x80, 0, "not masked");
        let (width, len) = match bytes[1] & 0x7f {
            126 => (2, u16::from_be_bytes([bytes[2], bytes[3]]).into()),
            127 => (8, usize::from_be_bytes(bytes[2..10].try_into().unwrap())),
            len => (0, len.into()),
        };
        let (head, rest) = bytes.split_at(2 + width);
        let (key, rest) = rest.split_at(4);
        let (payload, rest) = rest.split_at(len);
        let mut payload = payload.to_vec();
        Mask::new(key.try_into().unwrap()).apply(&mut payload);
        frames.push((head.to_vec(), payload));
        bytes = rest;
    }
    frames
}

#[test]
fn masks_the_frames_of_a_client() {
    let mut outgoing = Outgoing::new(Role::Client, false);
    let payload = |len: usize| -> Vec<u8> { (0..len).map(|at| at as u8).collect() };
    let cases = [
        (0, vec![0x82, 0x80]),
        (125, vec![0x82, 0x80 | 125]),
        (126, vec![0x82, 0x80 | 126, 0, 126]),
        (LARGE, vec![0x82, 0x80 | 126, 0x10, 0]),
        (SEGMENT, vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ];
    for (len, _) in &cases {
        outgoing.push(&mut Message::binary(payload(*len)));
    }
    outgoing.push_ping(b"ping");
    outgoing.push_close(None);
    let load = outgoing.load();
    let (written, removed) = drain(&mut outgoing, usize::MAX);
    assert_eq!((removed, load.bytes), (load, written.len()));
    let mut frames = unmasked(&written);
    assert_eq!(frames.pop(), Some((vec![0x88, 0x80], vec![])));
    assert_eq!(frames.pop(), Some((vec![0x89, 0x84], b"ping".to_vec())));
    let cases = cases.map(|(len, head)| (head, payload(len)));
    assert!(frames == cases, "the frames differ from the pushed ones");
}

#[test]
fn collects_masked_frames_with_few_reallocations() {
    let mut outgoing = Outgoing::new(Role::Client, false);
    let mut moves = 0;
    let mut place = tail(&outgoing).as_ptr();
    for _ in 0..1000 {
        outgoing.push(&mut Message::text("x".repeat(32)));
        moves += usize::from(tail(&outgoing).as_ptr() != place);
        place = tail(&outgoing).as_ptr();
    }
    assert!(moves < 20, "{moves} moves");
}
