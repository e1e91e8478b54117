//! The messages of a client, and the expected answers.

use std::{fmt, iter, str::FromStr};

/// A message, and its encoding on the connection.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The length of the payload in bytes.
    pub size: usize,
    /// Whether the message is text instead of binary.
    pub text: bool,
    /// Whether the server speaks WebSocket. Otherwise it sends the client's frame back.
    pub websocket: bool,
    /// The answer of a server that speaks WebSocket.
    pub answer: Answer,
}

/// A server's answer to a message. Every answer is as long as the message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answer {
    /// The message.
    #[default]
    Same,
    /// The message in upper case.
    UpperCase,
    /// Another message, in which every byte is [`ANOTHER`].
    Another,
}

/// Each byte of [`Answer::Another`].
pub const ANOTHER: u8 = b'x';

/// The size of a message in bytes, written as `32`, `16k` or `1m`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let (digits, factor) = match written.split_at_checked(written.len().saturating_sub(1)) {
            Some((digits, "k")) => (digits, 1 << 10),
            Some((digits, "m")) => (digits, 1 << 20),
            _ => (written, 1),
        };
        let number: usize = digits
            .parse()
            .map_err(|_| format!("{written} is no size"))?;
        Ok(Self(number * factor))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl Shape {
    /// Returns the masked frame of the message.
    #[must_use]
    pub fn request(self) -> Vec<u8> {
        masked(self.text, &payload(self.size))
    }

    /// Returns the bytes of the answer.
    #[must_use]
    pub fn reply(self) -> Vec<u8> {
        if !self.websocket {
            return self.request();
        }
        let answer = |byte: u8| match self.answer {
            Answer::Same => byte,
            Answer::UpperCase => byte.to_ascii_uppercase(),
            Answer::Another => ANOTHER,
        };
        let payload = payload(self.size).into_iter().map(answer);
        unmasked(self.text, &payload.collect::<Vec<_>>())
    }
}

/// Returns the payload of this size that clients send.
#[must_use]
pub fn payload(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

/// Returns a client's frame.
#[must_use]
pub fn masked(text: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(text, 0x80, payload.len());
    frame.extend(MASK);
    frame.extend(iter::zip(payload, MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns a server's frame.
#[must_use]
pub fn unmasked(text: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(text, 0, payload.len());
    frame.extend(payload);
    frame
}

fn head(text: bool, masked: u8, size: usize) -> Vec<u8> {
    let mut head = vec![0x80 | if text { 1 } else { 2 }];
    // The match arms ensure that the casts are lossless.
    match size {
        size @ ..126 => head.push(masked | size as u8),
        size @ 126..0x1_0000 => {
            head.push(masked | 126);
            head.extend((size as u16).to_be_bytes());
        }
        size => {
            head.push(masked | 127);
            head.extend((size as u64).to_be_bytes());
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_minimal() {
        for (size, head) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let shape = Shape {
                size,
                text: false,
                websocket: true,
                answer: Answer::Same,
            };
            assert_eq!(shape.reply().len(), head + size, "{size}");
            assert_eq!(shape.request().len(), head + 4 + size, "{size}");
        }
    }

    #[test]
    fn answers_match_the_server() {
        for (answer, payload) in [
            (Answer::Same, b"abc"),
            (Answer::UpperCase, b"ABC"),
            (Answer::Another, b"xxx"),
        ] {
            let mut shape = Shape {
                size: 3,
                text: true,
                websocket: true,
                answer,
            };
            assert_eq!(shape.reply(), [&[0x81, 3], &payload[..]].concat());
            // The baseline sends the frame back.
            shape.websocket = false;
            assert_eq!(shape.reply(), shape.request());
        }
    }

    #[test]
    fn sizes_are_parsed() {
        for (written, bytes) in [("32", 32), ("16k", 16_384), ("1m", 1_048_576)] {
            assert_eq!(written.parse(), Ok(Size(bytes)));
        }
        for wrong in ["", "k", "1g", "é"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
