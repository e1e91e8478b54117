//! Tracks frame boundaries in the written bytes, so that output can be cut at the end of a frame.

use std::io::IoSlice;

/// The maximum length of a head without its mask.
const HEAD: usize = 10;
const MASK: usize = 4;

/// A frame that is partly written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Begun {
    head: [u8; HEAD],
    /// The number of written bytes of the head, until the length of the frame is known. 0 afterwards.
    known: usize,
    /// The number of unwritten bytes of the frame, once its length is known.
    missing: usize,
}

impl Begun {
    /// Records that the first `written` bytes of the output were written.
    pub(crate) fn note(&mut self, output: &[IoSlice<'_>], written: usize) {
        let mut left = written;
        for slice in output {
            let bytes = &slice[..slice.len().min(left)];
            left -= bytes.len();
            let mut taken = 0;
            while taken < bytes.len() {
                taken += self.take(&bytes[taken..]);
            }
        }
    }

    /// Returns the number of bytes at the front of the output that complete the frame: 0 between two frames.
    pub(crate) fn rest_of(&self, output: &[IoSlice<'_>]) -> usize {
        let mut begun = self.clone();
        let mut rest = 0;
        for slice in output {
            let mut taken = 0;
            while taken < slice.len() {
                if begun.is_between_frames() {
                    return rest + taken;
                }
                taken += begun.take(&slice[taken..]);
            }
            rest += taken;
        }
        // The slices may end before the frame.
        rest + begun.missing
    }

    const fn is_between_frames(&self) -> bool {
        self.known == 0 && self.missing == 0
    }

    /// Records at least one byte from the front of `bytes`. Returns how many it recorded.
    fn take(&mut self, bytes: &[u8]) -> usize {
        if self.missing > 0 {
            let taken = bytes.len().min(self.missing);
            self.missing -= taken;
            return taken;
        }
        self.head[self.known] = bytes[0];
        self.known += 1;
        if let Some(missing) = self.behind_head() {
            (self.known, self.missing) = (0, missing);
        }
        1
    }

    /// Returns the length of the mask and the payload, once the head is complete (RFC 6455 §5.2).
    fn behind_head(&self) -> Option<usize> {
        let head = &self.head[..self.known];
        let (second, extended) = head.get(1..)?.split_first()?;
        let mask = if second & 0x80 == 0 { 0 } else { MASK };
        let len = match second & 0x7f {
            126 => u16::from_be_bytes(extended.try_into().ok()?).into(),
            127 => u64::from_be_bytes(extended.try_into().ok()?) as usize,
            len => len.into(),
        };
        Some(mask + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{Outgoing, Role},
        words::Message,
    };

    /// Returns the bytes of some frames, and the offset at which each ends.
    fn frames(role: Role) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for len in [0, 1, 125, 126, 5000, 0, 70_000, 3] {
            let mut outgoing = Outgoing::new(role, true);
            outgoing.push(&mut Message::binary(vec![0xff; len]));
            let mut slices = [IoSlice::new(&[]); 8];
            for slice in outgoing.slices(&mut slices) {
                bytes.extend_from_slice(slice);
            }
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn finds_the_end_of_the_frame_wherever_it_was_cut() {
        for role in [Role::Server, Role::Client] {
            let (bytes, ends) = frames(role);
            let cuts = (0..6000)
                .chain((6000..bytes.len()).step_by(997))
                .chain([bytes.len()]);
            for cut in cuts {
                let (written, left) = bytes.split_at(cut);
                let mut begun = Begun::default();
                for part in written.chunks(333) {
                    begun.note(&[IoSlice::new(part)], part.len());
                }
                let end = ends.iter().find(|end| **end >= cut).unwrap();
                let end = if cut == 0 || ends.contains(&cut) {
                    &cut
                } else {
                    end
                };
                for at in [1, left.len() / 2 + 1] {
                    let slices: Vec<_> = left.chunks(at.max(500)).map(IoSlice::new).collect();
                    assert_eq!(begun.rest_of(&slices), end - cut, "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn notes_no_more_than_was_written() {
        let (bytes, _) = frames(Role::Server);
        let mut begun = Begun::default();
        begun.note(&[IoSlice::new(&bytes[..1]), IoSlice::new(&bytes[1..])], 3);
        // Written: a frame of two bytes, and the first byte of a frame of three bytes.
        assert_eq!(begun.rest_of(&[IoSlice::new(&bytes[3..])]), 2);
    }
}
