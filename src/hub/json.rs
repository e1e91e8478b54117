//! Checking and writing JSON ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)).
//!
//! Texts that a room inserts into its objects are checked: otherwise a text of a client could end the object and forge
//! its fields.

/// How deep lists and objects may be in each other. With the three around a value this is 127, the most that
/// `serde_json` reads: a text must not make the message around it unreadable.
const MAX_DEPTH: usize = 124;

/// Returns whether a text is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    let mut rest = Rest(text.as_bytes());
    rest.value() && {
        rest.spaces();
        rest.0.is_empty()
    }
}

/// Appends a text as a JSON string.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// What is left to check. Each method takes one element, and returns false if there is none.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Takes a value. Open lists and objects are on a stack of their own, so no text can exhaust that of the thread.
    fn value(&mut self) -> bool {
        let mut open = Vec::new();
        loop {
            self.spaces();
            let begun = match self.0.first() {
                Some(b'{') => Some(b'}'),
                Some(b'[') => Some(b']'),
                _ => None,
            };
            if let Some(end) = begun {
                if open.len() == MAX_DEPTH {
                    return false;
                }
                self.0 = &self.0[1..];
                self.spaces();
                if !self.byte(end) {
                    open.push(end);
                    if end == b'}' && !self.name() {
                        return false;
                    }
                    continue;
                }
            } else if !self.scalar() {
                return false;
            }
            // A value has ended: so may what is around it.
            loop {
                let Some(end) = open.last().copied() else {
                    return true;
                };
                self.spaces();
                if self.byte(b',') {
                    self.spaces();
                    if end == b'}' && !self.name() {
                        return false;
                    }
                    break;
                }
                if !self.byte(end) {
                    return false;
                }
                open.pop();
            }
        }
    }

    fn scalar(&mut self) -> bool {
        match self.0.first() {
            Some(b'"') => self.string(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// Takes the name of a field and its colon.
    fn name(&mut self) -> bool {
        self.string() && {
            self.spaces();
            self.byte(b':')
        }
    }

    fn spaces(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    fn byte(&mut self, byte: u8) -> bool {
        self.word(&[byte])
    }

    fn word(&mut self, word: &[u8]) -> bool {
        match self.0.strip_prefix(word) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn string(&mut self) -> bool {
        if !self.byte(b'"') {
            return false;
        }
        loop {
            match self.0 {
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    return true;
                }
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    rest @ ..,
                ] => self.0 = rest,
                [b'\\', b'u', a, b, c, d, rest @ ..]
                    if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
                {
                    self.0 = rest;
                }
                [b'\\' | 0..=0x1f, ..] | [] => return false,
                [_, rest @ ..] => self.0 = rest,
            }
        }
    }

    fn number(&mut self) -> bool {
        let _ = self.byte(b'-');
        let is_integer = self.byte(b'0') || self.digits();
        if !is_integer {
            return false;
        }
        if self.byte(b'.') && !self.digits() {
            return false;
        }
        if self.byte(b'e') || self.byte(b'E') {
            let _ = self.byte(b'-') || self.byte(b'+');
            return self.digits();
        }
        true
    }

    fn digits(&mut self) -> bool {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit());
        let count = digits.count();
        self.0 = &self.0[count..];
        count > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_json_and_nothing_else() {
        for text in [
            "null",
            "true",
            " false ",
            "0",
            "-0",
            "12.5e-3",
            "1E+9",
            "\"\"",
            "\"\\u00e9\\n ü\"",
            "[]",
            "[1, 2,[ ] ]",
            "{}",
            "{\"a\" : {\"b\":[null]} , \"c\":1}",
            "\t[\n]\r",
        ] {
            assert!(is_json(text), "{text}");
        }
        for text in [
            "",
            " ",
            "nul",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "{",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "1 2",
            "1}",
            "{}{}",
            "1},\"gap\":{",
            "[}",
            "{]",
            "NaN",
            "'a'",
        ] {
            assert!(!is_json(text), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_too_deep() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(&nested(MAX_DEPTH)));
        assert!(!is_json(&nested(MAX_DEPTH + 1)));
        assert!(!is_json(&"[".repeat(1_000_000)));
    }

    #[test]
    fn writes_strings_that_are_json() {
        let mut out = String::new();
        push_string(&mut out, "a\"b\\c\n\u{1}é");
        assert_eq!(out, "\"a\\\"b\\\\c\\u000a\\u0001é\"");
        assert!(is_json(&out));
    }

    /// A number of xorshift.
    fn next(random: &mut u64) -> usize {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 33) as usize
    }

    /// Appends a random value.
    fn push_value(out: &mut String, random: &mut u64, depth: usize) {
        const SCALARS: [&str; 14] = [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-12.5e-3",
            "1E+999",
            "123456789012345678901234567890",
            "\"\"",
            "\"a\u{2028}\"",
            "\"\\ud800\"",
            "\"\\u00e9\\/\"",
            "\"\u{7f}ü\"",
            "\"\\\"}\"",
        ];
        const SPACES: [&str; 5] = ["", "", " ", "\n\t", "\r"];
        let space = |out: &mut String, random: &mut u64| out.push_str(SPACES[next(random) % 5]);
        space(out, random);
        match next(random) % if depth == 0 { 1 } else { 3 } {
            0 => out.push_str(SCALARS[next(random) % SCALARS.len()]),
            kind => {
                out.push(if kind == 1 { '[' } else { '{' });
                space(out, random);
                for at in 0..next(random) % 4 {
                    if at > 0 {
                        out.push(',');
                    }
                    if kind == 2 {
                        out.push_str(["\"a\":", " \"\" : ", "\"\\n\":"][next(random) % 3]);
                    }
                    push_value(out, random, depth - 1);
                }
                out.push(if kind == 1 { ']' } else { '}' });
            }
        }
        space(out, random);
    }

    #[test]
    fn agrees_with_serde_json() {
        const PIECES: [&str; 32] = [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "u", "d800", "n", "0", "1", "-", "+", ".",
            "e", "E", " ", "\n", "\u{1}", "\u{1f}", "\u{7f}", "ü", "\u{2028}", "null", "true",
            "\u{feff}", "\u{a0}", "\u{c}", "/", "\"a\":",
        ];
        let mut random = 7;
        let mut valid = 0;
        for _ in 0..200_000 {
            let mut text = String::new();
            push_value(&mut text, &mut random, 4);
            for _ in 0..next(&mut random) % 3 {
                // Another piece in the place of up to two characters, or between two.
                let piece = PIECES[next(&mut random) % PIECES.len()];
                let from = next(&mut random) % (text.len() + 1);
                let to = (from + next(&mut random) % 3).min(text.len());
                if text.is_char_boundary(from) && text.is_char_boundary(to) {
                    text.replace_range(from..to, piece);
                }
            }
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            assert_eq!(is_json(&text), expected, "{text:?}");
            valid += usize::from(expected);
        }
        assert!(
            (50_000..150_000).contains(&valid),
            "{valid} of 200,000 are valid"
        );
    }

    #[test]
    fn the_deepest_text_that_is_sent_can_be_read_by_serde_json() {
        // An object around a list of members around an object with a value.
        let value = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert!(is_json(&value));
        let message = format!("{{\"members\":[{{\"value\":{value}}}]}}");
        serde_json::from_str::<serde_json::Value>(&message).unwrap();
    }
}
