//! Tokens, lists and single values in header fields, as defined in RFC 9110 §5.5 and §5.6.
//!
//! This module decides where one element of a field ends and the next begins. The callers decide the
//! meaning of an element, and whether a malformed one is an error.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A field was sent on more than one line, but only one is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Repeated;

/// Returns whether `bytes` is a token: one or more of the characters that are allowed in a method or a
/// field name.
///
/// Source: [RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

/// Returns `bytes` as text if they are a token, see [`is_token`].
pub(crate) fn as_token(bytes: &[u8]) -> Option<&str> {
    if is_token(bytes) {
        std::str::from_utf8(bytes).ok()
    } else {
        None
    }
}

/// Returns whether the list in all lines of field `name` has an element equal to `token`. The case of
/// ASCII letters is ignored.
///
/// Whole elements are compared: neither `no-upgrade` nor `upgrade/2` is `upgrade`.
pub(crate) fn contains_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let is_token = |bytes: &[u8]| bytes.eq_ignore_ascii_case(token.as_bytes());
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    // Fast path: most lines are just the token.
    lines.any(|line| is_token(line) || split(line, b',').any(is_token))
}

/// Iterates over the elements of the comma-separated list in all lines of field `name`, in the
/// order they were sent.
///
/// Whitespace around an element is removed and empty elements are skipped. A comma inside a quoted
/// string does not end an element. Quotes and escapes are returned as received. An unclosed quoted
/// string ends at the end of its line.
///
/// Source: [RFC 9110 §5.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1).
pub(crate) fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| split(line.as_bytes(), b','))
        .filter(|element| !element.is_empty())
}

/// Splits `value` at each `separator` outside quoted strings, and trims the whitespace around each part.
///
/// Empty parts are kept, so there is one part more than separators.
pub(crate) fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        let part = if let Some(end) = unquoted_position(value, separator) {
            rest = Some(&value[end + 1..]);
            &value[..end]
        } else {
            rest = None;
            value
        };
        // This removes OWS only: SP and HTAB are the only ASCII whitespace in a field value.
        Some(part.trim_ascii())
    })
}

/// Returns the value of field `name`, or `None` if it was not sent.
///
/// # Errors
///
/// [`Repeated`] if the field was sent on more than one line, even with equal values.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut lines = headers.get_all(name).into_iter();
    match (lines.next(), lines.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Repeated),
    }
}

/// Displays bytes that a client chose. Visible ASCII is shown as it is, everything else is escaped. The
/// output has at most 200 bytes.
///
/// It contains no control characters, so it is safe in a log, a terminal and a browser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visible<'a>(pub(crate) &'a [u8]);

impl Visible<'_> {
    const MAX: usize = 200;
    const CUT: &'static str = "...";
}

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each byte makes one to four bytes of output.
        let shown = &self.0[..self.0.len().min(Self::MAX + 1)];
        let mut text = String::new();
        // The text is cut here if it turns out too long.
        let mut cut = 0;
        for byte in shown {
            match byte {
                b' ' => text.push_str("\\x20"),
                byte => text.extend(byte.escape_ascii().map(char::from)),
            }
            if text.len() <= Self::MAX - Self::CUT.len() {
                cut = text.len();
            }
        }
        if text.len() <= Self::MAX {
            return f.write_str(&text);
        }
        f.write_str(&text[..cut])?;
        f.write_str(Self::CUT)
    }
}

const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn unquoted_position(value: &[u8], separator: u8) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    value.iter().position(|&byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            // A backslash escapes only inside a quoted string (RFC 9110 §5.6.4).
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use http::header::{CONNECTION, UPGRADE};

    use super::*;

    /// Makes the lines of one field. They may contain bytes outside ASCII.
    pub(crate) fn field(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).unwrap();
        let lines = lines.iter().map(|line| (name.clone(), value(line)));
        lines.collect()
    }

    fn connection(lines: &[&str]) -> HeaderMap {
        field(&CONNECTION, lines)
    }

    fn listed(lines: &[&str]) -> Vec<String> {
        elements(&connection(lines), &CONNECTION)
            .map(|element| String::from_utf8(element.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn allows_exactly_the_token_characters_of_rfc_9110() {
        let punctuation = b"!#$%&'*+-.^_`|~";
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_alphanumeric() || punctuation.contains(&byte);
            assert_eq!(is_token(&[byte]), expected, "byte {byte:#04x}");
        }
    }

    #[test]
    fn a_token_is_not_empty_and_has_token_characters_only() {
        for token in ["a", "permessage-deflate", "desk.v2", "13", "*"] {
            assert!(is_token(token.as_bytes()), "token {token:?}");
            assert_eq!(as_token(token.as_bytes()), Some(token), "token {token:?}");
        }
        for other in [
            "", " ", "a b", " a", "a,", "a=b", "\"a\"", "a/b", "é", "a\t",
        ] {
            assert!(!is_token(other.as_bytes()), "value {other:?}");
            assert_eq!(as_token(other.as_bytes()), None, "value {other:?}");
        }
    }

    #[test]
    fn finds_a_token_in_every_line_and_in_any_case() {
        for lines in [
            &["upgrade"][..],
            &["Upgrade"],
            &["UPGRADE"],
            &["keep-alive, Upgrade"],
            &["keep-alive,Upgrade,x"],
            &[" \t Upgrade \t , x"],
            &[",,Upgrade"],
            &["keep-alive", "Upgrade"],
            &["", "Upgrade"],
            &["\"a,b\", Upgrade"],
            &["\"never closed", "Upgrade"],
        ] {
            let headers = connection(lines);
            assert!(
                contains_token(&headers, &CONNECTION, "upgrade"),
                "lines {lines:?}"
            );
        }
    }

    #[test]
    fn compares_whole_elements_with_a_token() {
        for lines in [
            &[][..],
            &[""],
            &[","],
            &["no-upgrade"],
            &["upgrade-insecure"],
            &["upgrade/2"],
            &["keep-alive upgrade"],
            &["upgrade;q=1"],
            &["\"upgrade\""],
            &["\"a, upgrade, b\""],
            &["up", "grade"],
        ] {
            let headers = connection(lines);
            assert!(
                !contains_token(&headers, &CONNECTION, "upgrade"),
                "lines {lines:?}"
            );
        }
    }

    #[test]
    fn reads_only_the_named_field() {
        let headers = connection(&["upgrade"]);
        assert!(!contains_token(&headers, &UPGRADE, "upgrade"));
        assert_eq!(elements(&headers, &UPGRADE).count(), 0);
        assert_eq!(single(&headers, &UPGRADE), Ok(None));
    }

    #[test]
    fn lists_the_trimmed_elements_of_all_lines_in_order() {
        for (lines, expected) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&[" , ,\t,"], &[]),
            (&["a"], &["a"]),
            (&["a,b"], &["a", "b"]),
            (&[" a ,\tb\t"], &["a", "b"]),
            (&[",a,,b,"], &["a", "b"]),
            (&["a, b", "", "c"], &["a", "b", "c"]),
            (&["a b, c"], &["a b", "c"]),
        ] {
            assert_eq!(listed(lines), expected, "lines {lines:?}");
        }
    }

    #[test]
    fn does_not_split_at_a_comma_inside_a_quoted_string() {
        for (line, expected) in [
            (r#""a,b", c"#, &[r#""a,b""#, "c"][..]),
            (r#"x="a,b";y, c"#, &[r#"x="a,b";y"#, "c"]),
            (r#""a\",b", c"#, &[r#""a\",b""#, "c"]),
            (r#""a\\", b"#, &[r#""a\\""#, "b"]),
            (r#""", a"#, &[r#""""#, "a"]),
            (r#"a\"b,c", d"#, &[r#"a\"b,c""#, "d"]),
            (r"a\, b", &[r"a\", "b"]),
            (r#"a, "b, c"#, &["a", r#""b, c"#]),
            (r#"a, "b\"#, &["a", r#""b\"#]),
        ] {
            assert_eq!(listed(&[line]), expected, "line {line:?}");
        }
    }

    #[test]
    fn ends_an_unclosed_quoted_string_at_the_end_of_its_line() {
        assert_eq!(listed(&["\"a, b", "c, d"]), ["\"a, b", "c", "d"]);
    }

    #[test]
    fn shows_visible_ascii_and_escapes_the_rest() {
        for (bytes, shown) in [
            (&b""[..], ""),
            (b"https://example.com:81", "https://example.com:81"),
            (b"a b\tc\r\nd", r"a\x20b\tc\r\nd"),
            (b"<script>", "<script>"),
            (b"\"quoted\" \\", r#"\"quoted\"\x20\\"#),
            (b"\x1b[31m\x00\x7f", r"\x1b[31m\x00\x7f"),
            (
                "b\u{fc}cher \u{202e}".as_bytes(),
                r"b\xc3\xbccher\x20\xe2\x80\xae",
            ),
        ] {
            assert_eq!(Visible(bytes).to_string(), shown, "bytes {bytes:?}");
        }
    }

    #[test]
    fn shows_at_most_200_bytes() {
        for len in [199, 200, 201, 16 * 1024] {
            for byte in [b'a', 0, b'"'] {
                let shown = Visible(&vec![byte; len]).to_string();
                assert!(shown.len() <= 200, "{len} of {byte:#04x}: {}", shown.len());
                let is_whole = byte == b'a' && len <= 200;
                assert_eq!(shown.ends_with("..."), !is_whole, "{len} of {byte:#04x}");
                assert!(shown.len() > 190, "{len} of {byte:#04x}: {}", shown.len());
            }
        }
    }

    #[test]
    fn keeps_empty_parts_when_it_splits_a_value() {
        let parts = |value: &'static str| split(value.as_bytes(), b';').collect::<Vec<_>>();
        assert_eq!(parts(""), [b""]);
        assert_eq!(parts(";"), [b"", b""]);
        assert_eq!(parts(" a ;; b"), [&b"a"[..], b"", b"b"]);
        assert_eq!(parts("\"a;b\";c"), [&b"\"a;b\""[..], b"c"]);
    }

    #[test]
    fn returns_a_single_value_and_refuses_repeated_lines() {
        let one = HeaderValue::from_static("a, b");
        assert_eq!(single(&connection(&[]), &CONNECTION), Ok(None));
        assert_eq!(
            single(&connection(&["a, b"]), &CONNECTION),
            Ok(Some(&one)),
            "a comma does not repeat the field"
        );
        for lines in [&["a", "b"][..], &["a", "a"], &["", ""], &["a", "b", "c"]] {
            assert_eq!(
                single(&connection(lines), &CONNECTION),
                Err(Repeated),
                "lines {lines:?}"
            );
        }
    }
}
