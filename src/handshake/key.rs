//! `Sec-WebSocket-Accept`: the proof that a server understood the handshake.

use data_encoding::BASE64;
use sha1_smol::Sha1;

/// RFC 6455 §1.3 appends this to every key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Returns the `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`.
///
/// `key` is the field as received, without surrounding whitespace. The result has 28 ASCII bytes, the
/// base64 of a SHA-1 digest.
///
/// Source: [RFC 6455 §4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2), item 5.4.
pub(crate) fn answer_to(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    BASE64.encode(&hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::answer_to;

    #[test]
    fn computes_the_answer_to_known_keys() {
        for (key, answer) in [
            // RFC 6455 §1.3.
            ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
            ("", "Kfh9QIsMVZcl6xEPYxPHzW8SZ8w="),
            // Longer than one block of SHA-1.
            (
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "Wp0g5evhCAEFnxnFIpdAQAxzoxo=",
            ),
        ] {
            assert_eq!(answer_to(key.as_bytes()), answer, "key {key}");
        }
    }
}
