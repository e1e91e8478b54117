//! Extensions: checks that the client's offers are well formed.
//!
//! This module checks the grammar of `Sec-WebSocket-Extensions` and the number of offers and parameters.
//! Each extension decides which offers it accepts, and whether a parameter may be repeated.

#[cfg(feature = "deflate")]
pub(crate) mod deflate;

use std::borrow::Cow;

use http::{HeaderMap, header::SEC_WEBSOCKET_EXTENSIONS};

use crate::words::header::{as_token, elements, split};

/// The maximum number of extensions that a client may offer, over all lines.
const MAX_OFFERS: usize = 8;

/// The maximum number of parameters in one offer.
const MAX_PARAMETERS: usize = 16;

/// `Sec-WebSocket-Extensions` breaks its grammar, or has too many offers or parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// A server answered with an extension or with parameters that are not allowed in its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unacceptable;

/// Checks the grammar of every offer of a client, even of unknown extensions.
///
/// A request without the field is valid: the client need not offer an extension.
///
/// # Errors
///
/// [`Malformed`] if the field is present without an offer, if an offer breaks the grammar, if there are more
/// than 8 offers over all lines, or if an offer has more than 16 parameters.
///
/// Source: [RFC 6455 §9.1](https://www.rfc-editor.org/rfc/rfc6455#section-9.1).
pub(crate) fn validate(headers: &HeaderMap) -> Result<(), Malformed> {
    if !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Ok(());
    }
    let mut offers = 0;
    for element in elements(headers, &SEC_WEBSOCKET_EXTENSIONS) {
        offers += 1;
        if offers > MAX_OFFERS {
            return Err(Malformed);
        }
        let (_, parameters) = offer(element)?;
        for (earlier, parameter) in parameters.enumerate() {
            if earlier == MAX_PARAMETERS {
                return Err(Malformed);
            }
            parameter?;
        }
    }
    if offers == 0 {
        return Err(Malformed);
    }
    Ok(())
}

/// A parameter's name, and its value with quotes and escapes removed.
type Parameter<'a> = (&'a str, Option<Cow<'a, str>>);

/// Reads one element of the list: the name of the extension, and an iterator over its parameters.
fn offer(
    element: &[u8],
) -> Result<(&str, impl Iterator<Item = Result<Parameter<'_>, Malformed>>), Malformed> {
    let mut parts = split(element, b';');
    let name = parts.next().and_then(as_token).ok_or(Malformed)?;
    Ok((name, parts.map(parameter)))
}

fn parameter(part: &[u8]) -> Result<Parameter<'_>, Malformed> {
    // This removes the whitespace around the `=`. It is legal: the grammar is that of RFC 2616, with its
    // "implied *LWS".
    let mut sides = split(part, b'=');
    let name = sides.next().and_then(as_token).ok_or(Malformed)?;
    let value = sides.next().map(value).transpose()?;
    match sides.next() {
        None => Ok((name, value)),
        Some(_) => Err(Malformed),
    }
}

fn value(side: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    match side.strip_prefix(b"\"") {
        None => as_token(side).map(Cow::Borrowed).ok_or(Malformed),
        Some(after_quote) => quoted(after_quote).map(Cow::Owned),
    }
}

/// Reads a quoted string, without its opening quote. The content has to be a token, unlike in other quoted
/// strings of HTTP.
fn quoted(after_quote: &[u8]) -> Result<String, Malformed> {
    let mut content = Vec::new();
    let mut bytes = after_quote.iter();
    loop {
        match bytes.next().ok_or(Malformed)? {
            b'"' => break,
            b'\\' => content.push(*bytes.next().ok_or(Malformed)?),
            byte => content.push(*byte),
        }
    }
    if !bytes.as_slice().is_empty() {
        return Err(Malformed);
    }
    as_token(&content).map(str::to_owned).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::header::tests::field;

    fn request(lines: &[&str]) -> HeaderMap {
        field(&SEC_WEBSOCKET_EXTENSIONS, lines)
    }

    fn with_parameters(count: usize) -> String {
        format!("x{}", "; p=1".repeat(count))
    }

    #[test]
    fn accepts_well_formed_offers() {
        for lines in [
            &[][..],
            &["foo"],
            &["permessage-deflate"],
            &["permessage-deflate; client_max_window_bits"],
            &["permessage-deflate; client_max_window_bits; server_max_window_bits=10"],
            &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            &["foo, bar; baz=2"],
            &["foo;a;b=c"],
            &["foo ; a = b"],
            &["foo\t;\ta\t=\tb"],
            &["foo; a=\"b\""],
            &["foo; a = \"b\" ; c"],
            &["foo; a=\"\\b\\c\""],
            &[",foo,,bar,"],
            &["foo", "bar; a=1"],
            &["", "foo"],
        ] {
            assert_eq!(validate(&request(lines)), Ok(()), "lines {lines:?}");
        }
    }

    #[test]
    fn leaves_a_repeated_parameter_to_the_extension() {
        assert_eq!(validate(&request(&["foo; a; a; a=1"])), Ok(()));
    }

    #[test]
    fn refuses_a_field_without_an_offer() {
        for lines in [&[""][..], &[" "], &[","], &[" ,\t,"], &["", ""]] {
            assert_eq!(validate(&request(lines)), Err(Malformed), "lines {lines:?}");
        }
    }

    #[test]
    fn refuses_an_extension_name_that_is_not_a_token() {
        for line in [
            ";",
            "; a",
            "two words",
            "two words; a",
            "\"foo\"",
            "foo=1",
            "foo/1; a",
            "(foo)",
            "caf\u{e9}",
            "foo, ;a",
        ] {
            assert_eq!(validate(&request(&[line])), Err(Malformed), "line {line:?}");
        }
    }

    #[test]
    fn refuses_a_malformed_parameter() {
        for line in [
            "foo;",
            "foo; ",
            "foo;;a",
            "foo; a;",
            "foo; =",
            "foo; =b",
            "foo; a=",
            "foo; a=;b",
            "foo; a=b=c",
            "foo; a==b",
            "foo; a b",
            "foo; a=b c",
            "foo; \"a\"=b",
            "foo; a=b/c",
            "foo; a=caf\u{e9}",
            "bar, foo; a=",
        ] {
            assert_eq!(validate(&request(&[line])), Err(Malformed), "line {line:?}");
        }
    }

    #[test]
    fn refuses_a_quoted_value_that_is_unclosed_or_not_a_token() {
        for line in [
            r#"foo; a=""#,
            r#"foo; a="""#,
            r#"foo; a="b"#,
            r#"foo; a="b\""#,
            r#"foo; a="b\"#,
            r#"foo; a="b c""#,
            r#"foo; a=" b""#,
            r#"foo; a="b,c""#,
            r#"foo; a="b;c""#,
            r#"foo; a="b=c""#,
            r#"foo; a="\"""#,
            r#"foo; a="\\""#,
            r#"foo; a="\ ""#,
            r#"foo; a="b"c"#,
            r#"foo; a="b" c"#,
            r#"foo; a="b""c""#,
            r#"foo; a=b"c""#,
            "foo; a='b c'",
        ] {
            assert_eq!(validate(&request(&[line])), Err(Malformed), "line {line:?}");
        }
    }

    #[test]
    fn refuses_a_quoted_value_that_goes_on_in_the_next_line() {
        assert_eq!(validate(&request(&["foo; a=\"b", "c\""])), Err(Malformed));
    }

    #[test]
    fn limits_the_number_of_offers() {
        let full = ["x"; MAX_OFFERS].join(", ");
        assert_eq!(validate(&request(&[&full])), Ok(()));
        for lines in [
            &[&*full, "x"][..],
            &[&*full, "x; a"],
            &[&*format!("{full}, x")],
        ] {
            assert_eq!(validate(&request(lines)), Err(Malformed), "lines {lines:?}");
        }
    }

    #[test]
    fn limits_the_number_of_parameters_in_each_offer() {
        let full = with_parameters(MAX_PARAMETERS);
        let beyond = with_parameters(MAX_PARAMETERS + 1);
        assert_eq!(validate(&request(&[&full, &full])), Ok(()));
        assert_eq!(validate(&request(&[&beyond])), Err(Malformed));
        assert_eq!(
            validate(&request(&["x", &beyond])),
            Err(Malformed),
            "in the second offer"
        );
    }

    #[test]
    fn removes_quotes_and_escapes_from_values() {
        let (name, parameters) = offer(br#"foo; a; b=c ; d="e"; f = "\1\0""#).unwrap();
        assert_eq!(name, "foo");
        assert_eq!(
            parameters.collect::<Result<Vec<_>, _>>(),
            Ok(vec![
                ("a", None),
                ("b", Some("c".into())),
                ("d", Some("e".into())),
                ("f", Some("10".into())),
            ])
        );
    }
}
