//! Checking and writing JSON ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)).
//!
//! What a room inserts into its objects is checked: otherwise a text of a client could end the object and forge its
//! fields.

/// How deep lists and objects may be in each other.
const MAX_DEPTH: usize = 128;

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
                self.0 = &self.0[1..];
                self.spaces();
                if !self.byte(end) {
                    open.push(end);
                    if open.len() > MAX_DEPTH || (end == b'}' && !self.name()) {
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
}
