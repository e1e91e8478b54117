//! Subprotocols: the client offers a list, and the server chooses one.
//!
//! This module checks that `Sec-WebSocket-Protocol` is well formed, and picks one of its names. The
//! callers answer a malformed field and give the chosen name a meaning.

use std::borrow::Cow;

use http::{HeaderMap, header::SEC_WEBSOCKET_PROTOCOL};

use crate::words::header::{as_token, elements};

/// The maximum number of subprotocols that a client may offer, over all lines.
pub(crate) const MAX_OFFERED: usize = 32;

/// `Sec-WebSocket-Protocol` is not a list of distinct tokens, or the list is too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// Returns the subprotocols that a client offers, in its order of preference. It is for use in
/// [`Handler::accept`](crate::Handler::accept).
///
/// `headers` are those of the handshake. The crate has checked their list before: the names are distinct
/// tokens, at most 32. For a malformed list the iterator is empty.
///
/// # Examples
///
/// An access token in a subprotocol, because a page in a browser cannot set other fields:
///
/// ```
/// use http::request::Parts;
/// use tower_websocket::{Accept, Refusal, offered_subprotocols};
///
/// // new WebSocket(url, ["chat.v1", "token.sesame"])
/// fn decide(request: &Parts) -> Result<Accept, Refusal> {
///     let mut offered = offered_subprotocols(&request.headers);
///     match offered.find_map(|name| name.strip_prefix("token.")) {
///         Some("sesame") => Ok(Accept::new().subprotocol("chat.v1")),
///         _ => Err(Refusal::unauthorized()),
///     }
/// }
/// ```
///
/// Source: [RFC 6455 §11.3.4](https://www.rfc-editor.org/rfc/rfc6455#section-11.3.4).
pub fn offered_subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    offered(headers).unwrap_or_default().into_iter()
}

/// Reads the subprotocols a client offers, in its order of preference.
///
/// Without the field the list is empty: the client need not offer a subprotocol.
///
/// # Errors
///
/// [`Malformed`] if the field is present without a name, if a name is not a token, if a name is repeated
/// (names that differ in case are different), or if there are more than [`MAX_OFFERED`] names.
///
/// Source: [RFC 6455 §4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1), item 10 of the
/// request's requirements, and §11.3.4.
pub(crate) fn offered(headers: &HeaderMap) -> Result<Vec<&str>, Malformed> {
    let mut names = Vec::new();
    // Most clients offer none.
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(names);
    }
    for element in elements(headers, &SEC_WEBSOCKET_PROTOCOL) {
        let name = as_token(element).ok_or(Malformed)?;
        // The limit is checked first: it bounds the search for a repeated name.
        if names.len() == MAX_OFFERED || names.contains(&name) {
            return Err(Malformed);
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(Malformed);
    }
    Ok(names)
}

/// Chooses the first of `preferred` that the client `offered`. Returns `None` if they have no name in
/// common.
///
/// The order of the server decides, not that of the client. Names are compared with case.
///
/// Source: [RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2), item 4.
pub(crate) fn choose<'o, O>(preferred: &[Cow<'static, str>], offered: &'o [O]) -> Option<&'o str>
where
    O: AsRef<str>,
{
    let offered = || offered.iter().map(AsRef::as_ref);
    preferred
        .iter()
        .find_map(|name| offered().find(|offer| name == offer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::header::tests::field;

    fn request(lines: &[&str]) -> HeaderMap {
        field(&SEC_WEBSOCKET_PROTOCOL, lines)
    }

    fn numbered(names: std::ops::Range<usize>) -> String {
        let names: Vec<_> = names.map(|number| format!("p{number}")).collect();
        names.join(", ")
    }

    #[test]
    fn reads_all_lines_in_the_order_of_the_client() {
        for (lines, expected) in [
            (&[][..], &[][..]),
            (&["chat"], &["chat"]),
            (&["chat, superchat"], &["chat", "superchat"]),
            (&["b,a"], &["b", "a"]),
            (&["b", "a, c"], &["b", "a", "c"]),
            (&[" a ,, b\t,"], &["a", "b"]),
            (&["", "a"], &["a"]),
            (&["Chat, chat"], &["Chat", "chat"]),
            (&["v1.desk+json, 13"], &["v1.desk+json", "13"]),
        ] {
            assert_eq!(
                offered(&request(lines)),
                Ok(expected.to_vec()),
                "lines {lines:?}"
            );
        }
    }

    #[test]
    fn refuses_a_field_without_a_name() {
        for lines in [&[""][..], &[" "], &[","], &[" , ,"], &["", ""]] {
            assert_eq!(offered(&request(lines)), Err(Malformed), "lines {lines:?}");
        }
    }

    #[test]
    fn refuses_a_name_that_is_not_a_token() {
        for line in [
            "two words",
            "\"chat\"",
            "chat, \"a,b\"",
            "chat;v=2",
            "a=b",
            "http://example.com/chat",
            "caf\u{e9}",
            "\"never closed, chat",
        ] {
            assert_eq!(offered(&request(&[line])), Err(Malformed), "line {line:?}");
        }
    }

    #[test]
    fn refuses_a_repeated_name() {
        for lines in [
            &["chat, chat"][..],
            &["chat", "chat"],
            &["a, b, c, a"],
            &["a, b", "c", "b"],
        ] {
            assert_eq!(offered(&request(lines)), Err(Malformed), "lines {lines:?}");
        }
    }

    #[test]
    fn limits_the_number_of_names() {
        let full = numbered(0..MAX_OFFERED);
        assert_eq!(
            offered(&request(&[&full])).map(|names| names.len()),
            Ok(MAX_OFFERED)
        );
        let beyond = numbered(0..MAX_OFFERED + 1);
        assert_eq!(offered(&request(&[&beyond])), Err(Malformed), "one line");
        assert_eq!(
            offered(&request(&[&full, "last"])),
            Err(Malformed),
            "two lines"
        );
    }

    #[test]
    fn chooses_by_the_order_of_the_server() {
        let preferred = ["v2", "v1"].map(Cow::Borrowed);
        for (offered, expected) in [
            (&["v1", "v2"][..], Some("v2")),
            (&["v2", "v1"], Some("v2")),
            (&["v0", "v1"], Some("v1")),
            (&["v0"], None),
            (&["V2"], None),
            (&["v"], None),
            (&["v22"], None),
            (&[], None),
        ] {
            assert_eq!(choose(&preferred, offered), expected, "offered {offered:?}");
        }
    }

    #[test]
    fn chooses_none_if_the_server_has_none() {
        assert_eq!(choose(&[], &["chat"]), None);
    }
}
