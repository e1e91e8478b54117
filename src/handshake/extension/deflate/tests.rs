use super::*;
use crate::words::header::tests::field;

const fn direction(window_bits: u8, context_takeover: bool) -> Direction {
    Direction {
        window_bits,
        context_takeover,
    }
}

/// Terms that grant every offer.
const OPEN: Terms = Terms {
    send: direction(15, true),
    receive: direction(15, true),
};
/// The default terms.
const CLOSED: Terms = Terms {
    send: direction(12, false),
    receive: direction(15, false),
};

fn headers(lines: &[&str]) -> HeaderMap {
    field(&SEC_WEBSOCKET_EXTENSIONS, lines)
}

fn accepted(terms: Terms, lines: &[&str]) -> Option<(Terms, String)> {
    let (agreed, answer) = terms.accept(&headers(lines))?;
    Some((agreed, answer.to_str().unwrap().to_owned()))
}

#[test]
fn answers_each_parameter_as_the_rfc_requires() {
    let agreed = |send, receive| Terms { send, receive };
    for (terms, offer, expected, answer) in [
        (OPEN, "", OPEN, ""),
        (OPEN, "; client_max_window_bits", OPEN, ""),
        (OPEN, "; client_max_window_bits=15", OPEN, ""),
        (
            OPEN,
            "; client_max_window_bits=8",
            agreed(direction(15, true), direction(8, true)),
            "; client_max_window_bits=8",
        ),
        (
            OPEN,
            "; server_max_window_bits=15",
            OPEN,
            "; server_max_window_bits=15",
        ),
        (
            OPEN,
            "; server_max_window_bits=\"9\"",
            agreed(direction(9, true), direction(15, true)),
            "; server_max_window_bits=9",
        ),
        (
            OPEN,
            "; server_no_context_takeover",
            agreed(direction(15, false), direction(15, true)),
            "; server_no_context_takeover",
        ),
        (
            OPEN,
            "; client_no_context_takeover",
            agreed(direction(15, true), direction(15, false)),
            "; client_no_context_takeover",
        ),
        (
            CLOSED,
            "",
            CLOSED,
            "; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12",
        ),
        (
            CLOSED,
            "; client_max_window_bits=10; server_max_window_bits=14",
            agreed(direction(12, false), direction(10, false)),
            "; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12; client_max_window_bits=10",
        ),
        (
            Terms {
                receive: direction(11, true),
                ..OPEN
            },
            "; client_max_window_bits",
            agreed(direction(15, true), direction(11, true)),
            "; client_max_window_bits=11",
        ),
    ] {
        let offer = format!("permessage-deflate{offer}");
        let answer = format!("permessage-deflate{answer}");
        let expected = Some((expected, answer));
        assert_eq!(accepted(terms, &[&offer]), expected, "{offer}");
    }
}

#[test]
fn declines_an_offer_that_breaks_a_rule() {
    for parameters in [
        "unknown",
        "unknown=1",
        "Server_no_context_takeover",
        "server_no_context_takeover=1",
        "server_no_context_takeover=true",
        "client_no_context_takeover=\"\"",
        "client_no_context_takeover=0",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=09",
        "server_max_window_bits=010",
        "server_max_window_bits=+10",
        "server_max_window_bits=-9",
        "server_max_window_bits=1e1",
        "server_max_window_bits=0",
        "server_max_window_bits=266",
        "server_max_window_bits=ten",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=008",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits=10",
        // Legal, but zlib does not support it.
        "server_max_window_bits=8",
    ] {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(accepted(OPEN, &[&offer]), None, "{offer}");
        let with_another = format!("{offer}, permessage-deflate; server_max_window_bits=10");
        let (agreed, _) = accepted(OPEN, &[&with_another]).unwrap();
        assert_eq!(agreed.send.window_bits, 10, "{with_another}");
    }
}

#[test]
fn declines_a_client_that_cannot_use_a_smaller_window() {
    let terms = Terms {
        receive: direction(14, true),
        ..OPEN
    };
    assert_eq!(accepted(terms, &["permessage-deflate"]), None);
    assert!(accepted(terms, &["permessage-deflate; client_max_window_bits"]).is_some());
}

#[test]
fn accepts_the_first_acceptable_offer() {
    for (lines, bits) in [
        (
            &["permessage-deflate; server_max_window_bits=10, permessage-deflate"][..],
            10,
        ),
        (
            &["permessage-deflate, permessage-deflate; server_max_window_bits=10"],
            15,
        ),
        (
            &[
                "foo; server_max_window_bits=9",
                "permessage-deflate; server_max_window_bits=11",
            ],
            11,
        ),
        (&["foo", "permessage-deflate; x, permessage-deflate"], 15),
    ] {
        let (agreed, _) = accepted(OPEN, lines).unwrap();
        assert_eq!(agreed.send.window_bits, bits, "{lines:?}");
    }
}

#[test]
fn ignores_other_extensions() {
    for lines in [
        &[][..],
        &["foo"],
        &["x-webkit-deflate-frame"],
        &["permessage-bzip2"],
        &["Permessage-Deflate"],
    ] {
        assert_eq!(accepted(OPEN, lines), None, "{lines:?}");
    }
}

#[test]
fn offers_the_wanted_terms() {
    for (terms, offer) in [
        (OPEN, "permessage-deflate; client_max_window_bits"),
        (
            CLOSED,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             client_max_window_bits=12",
        ),
        (
            Terms {
                receive: direction(10, true),
                ..OPEN
            },
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits",
        ),
    ] {
        assert_eq!(terms.offer().unwrap(), offer);
    }
}

#[test]
fn both_ends_agree_on_the_same_terms() {
    let mut ends = Vec::new();
    for send in 9..=15 {
        for receive in 9..=15 {
            for takeover in 0..4 {
                ends.push(Terms {
                    send: direction(send, takeover & 1 != 0),
                    receive: direction(receive, takeover & 2 != 0),
                });
            }
        }
    }
    for client in &ends {
        let mut offer = HeaderMap::new();
        offer.insert(SEC_WEBSOCKET_EXTENSIONS, client.offer().unwrap());
        for server in &ends {
            let (agreed, answer) = server.accept(&offer).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, answer.clone());
            let confirmed = client.confirm(&headers).unwrap().unwrap();
            let case = format!("{client:?} {server:?} {answer:?}");
            assert_eq!(
                confirmed.send.context_takeover, agreed.receive.context_takeover,
                "{case}"
            );
            assert_eq!(confirmed.receive, agreed.send, "{case}");
            assert!(
                confirmed.send.window_bits <= agreed.receive.window_bits,
                "{case}"
            );
            for (end, wanted) in [(confirmed, client), (agreed, server)] {
                for (got, wanted) in [(end.send, wanted.send), (end.receive, wanted.receive)] {
                    assert!(got.window_bits <= wanted.window_bits, "{case}");
                    assert!(!got.context_takeover || wanted.context_takeover, "{case}");
                }
            }
        }
    }
}

#[test]
fn reads_the_answer_of_a_server() {
    let confirm = |terms: Terms, lines: &[&str]| terms.confirm(&headers(lines));
    assert_eq!(confirm(CLOSED, &[]), Ok(None), "declined");
    assert_eq!(confirm(OPEN, &["permessage-deflate"]), Ok(Some(OPEN)));
    let answer = "permessage-deflate; server_no_context_takeover; server_max_window_bits=8; \
                  client_no_context_takeover; client_max_window_bits=9";
    let agreed = Terms {
        send: direction(9, false),
        receive: direction(8, false),
    };
    assert_eq!(confirm(OPEN, &[answer]), Ok(Some(agreed)));
}

#[test]
fn fails_the_handshake_if_the_answer_exceeds_the_offer() {
    for (terms, lines) in [
        (OPEN, &["foo"][..]),
        (OPEN, &["permessage-deflate, foo"]),
        (OPEN, &["permessage-deflate, permessage-deflate"]),
        (OPEN, &["permessage-deflate", "permessage-deflate"]),
        (OPEN, &["permessage-deflate; unknown"]),
        (OPEN, &["permessage-deflate; server_no_context_takeover=1"]),
        (OPEN, &["permessage-deflate; server_max_window_bits"]),
        (OPEN, &["permessage-deflate; client_max_window_bits"]),
        (OPEN, &["permessage-deflate; client_max_window_bits=8"]),
        (OPEN, &["permessage-deflate; client_max_window_bits=16"]),
        (OPEN, &["permessage-deflate; x=\"a b\""]),
        // Demanded, but not granted.
        (CLOSED, &["permessage-deflate"]),
        (
            CLOSED,
            &["permessage-deflate; server_no_context_takeover; client_max_window_bits=13"],
        ),
        (
            Terms {
                receive: direction(10, true),
                ..OPEN
            },
            &["permessage-deflate; server_max_window_bits=11"],
        ),
        (
            Terms {
                receive: direction(10, true),
                ..OPEN
            },
            &["permessage-deflate"],
        ),
    ] {
        let answer = terms.confirm(&headers(lines));
        assert_eq!(answer, Err(Unacceptable), "{lines:?}");
    }
}
