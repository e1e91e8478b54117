use http::Request;

use super::*;
use crate::words::header::tests::field;

/// Makes a request with these lines of `Origin`.
pub(super) fn request(lines: &[&str]) -> Parts {
    let mut request = Request::new(());
    *request.headers_mut() = field(&ORIGIN, lines);
    request.into_parts().0
}

/// Returns whether a policy allows a page with these lines of `Origin`, on a server with this authority.
pub(super) fn permits(policy: &OriginPolicy, lines: &[&str], authority: &str) -> bool {
    policy.check(&request(lines), authority).is_ok()
}

fn same_host(origin: &str, authority: &str) -> bool {
    permits(&OriginPolicy::same_host(), &[origin], authority)
}

/// Returns whether `origin` is allowed if `entry` is listed, on a server with another name.
pub(super) fn allowed(entry: &str, origin: &str) -> bool {
    let policy = OriginPolicy::same_host().allow(entry).unwrap();
    permits(&policy, &[origin], "server.test")
}

pub(super) const MALFORMED: [&str; 38] = [
    "",
    "null",
    "NULL",
    "example.com",
    "example.com:80",
    "//example.com",
    "://example.com",
    "http:example.com",
    "http:/example.com",
    "http:///example.com",
    " http://example.com",
    "http://example.com ",
    "1http://example.com",
    "ht_tp://example.com",
    "http://",
    "http://:80",
    "http://.",
    "http://.example.com",
    "http://example..com",
    "http://example.com..",
    "http://example.com\\a",
    "http://user@example.com",
    "http://user:secret@example.com",
    "http://example.com@",
    "http://example.com:",
    "http://example.com:+80",
    "http://example.com:-80",
    "http://example.com:http",
    "http://example.com:65536",
    "http://example.com:80:80",
    "http://example.com http://example.com",
    "http://example.com,http://example.com",
    "http://ex%61mple.com",
    "http://b\u{fc}cher.example",
    "http://[::1",
    "http://[::1]a",
    "http://[::1%25eth0]",
    "http://::1",
];

#[test]
fn allows_a_request_without_origin() {
    for authority in ["example.com", "not an authority"] {
        let policy = OriginPolicy::same_host();
        assert!(permits(&policy, &[], authority), "authority {authority:?}");
    }
}

#[test]
fn allows_the_host_and_port_of_the_request() {
    for (origin, authority) in [
        ("http://example.com", "example.com"),
        ("https://example.com", "example.com"),
        ("http://localhost:3000", "localhost:3000"),
        ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ("http://my_host", "my_host"),
        ("http://xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("http://example.com.", "example.com."),
    ] {
        assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
    }
}

#[test]
fn compares_schemes_and_hosts_without_case() {
    for (origin, authority) in [
        ("http://EXAMPLE.com", "example.COM"),
        ("HTTP://example.com", "example.com:80"),
        ("hTTps://example.com", "example.com:443"),
        ("http://[FE80::A]", "[fe80::a]"),
    ] {
        assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
    }
}

#[test]
fn a_missing_port_is_the_default_of_the_origins_scheme() {
    for (origin, authority) in [
        ("http://example.com", "example.com:80"),
        ("http://example.com:80", "example.com"),
        ("http://example.com:80", "example.com:80"),
        ("https://example.com", "example.com:443"),
        ("https://example.com:443", "example.com"),
        ("http://[::1]:80", "[::1]"),
    ] {
        assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
    }
    for (origin, authority) in [
        ("http://example.com", "example.com:443"),
        ("http://example.com:443", "example.com"),
        ("https://example.com", "example.com:80"),
        ("https://example.com:80", "example.com"),
    ] {
        assert!(!same_host(origin, authority), "{origin:?} at {authority:?}");
    }
}

#[test]
fn compares_ipv6_literals_as_addresses() {
    for (origin, authority) in [
        ("http://[::1]:3000", "[::1]:3000"),
        ("http://[::1]", "[0:0:0:0:0:0:0:1]:80"),
        ("https://[2001:db8::1]", "[2001:DB8:0::1]"),
    ] {
        assert!(same_host(origin, authority), "{origin:?} at {authority:?}");
    }
    for (origin, authority) in [
        ("http://[::1]:3000", "[::1]:3001"),
        ("http://[::1]", "[::2]"),
        ("http://[::1]", "localhost"),
        ("http://[::1]", "::1"),
        ("http://[::ffff:127.0.0.1]", "127.0.0.1"),
    ] {
        assert!(!same_host(origin, authority), "{origin:?} at {authority:?}");
    }
}

#[test]
fn refuses_another_host_or_port() {
    for (origin, authority) in [
        ("http://evil.test", "example.com"),
        ("http://www.example.com", "example.com"),
        ("http://example.com", "www.example.com"),
        ("http://example.com.evil.test", "example.com"),
        ("http://badexample.com", "example.com"),
        ("http://example.com.", "example.com"),
        ("http://example.com:3001", "example.com:3000"),
        ("http://example.com", "example.com:3000"),
        ("http://127.0.0.1", "localhost"),
    ] {
        assert!(!same_host(origin, authority), "{origin:?} at {authority:?}");
    }
}

#[test]
fn refuses_another_scheme_at_the_same_host() {
    for scheme in ["tauri", "file", "httpx", "wsx"] {
        let origin = format!("{scheme}://example.com");
        assert!(!same_host(&origin, "example.com"), "origin {origin:?}");
        let origin = format!("{scheme}://example.com:80");
        assert!(!same_host(&origin, "example.com:80"), "origin {origin:?}");
    }
}

#[test]
fn an_empty_port_of_the_authority_is_the_default() {
    assert!(same_host("http://example.com", "example.com:"));
    assert!(same_host("https://[::1]", "[::1]:"));
    assert!(!same_host("http://example.com:8080", "example.com:"));
}

#[test]
fn refuses_every_origin_if_the_authority_is_malformed() {
    let lines = &["http://example.com"];
    for authority in [
        "",
        ":80",
        "example.com/",
        "example.com:x",
        "user@example.com",
        "http://example.com",
        "[::1",
    ] {
        let policy = OriginPolicy::same_host();
        assert!(!permits(&policy, lines, authority), "{authority:?}");
        let policy = policy.allow("http://example.com").unwrap();
        assert!(permits(&policy, lines, authority), "listed, {authority:?}");
    }
}

#[test]
fn refuses_a_malformed_origin_for_every_host_and_list() {
    let policy = OriginPolicy::same_host()
        .allow("http://example.com")
        .unwrap()
        .allow("http://*.example.com")
        .unwrap();
    for origin in MALFORMED.into_iter().chain(["http://*.example.com"]) {
        let authority = origin.split_once("://").map_or(origin, |(_, host)| host);
        for authority in ["example.com", "[::1]", authority] {
            assert!(
                !permits(&policy, &[origin], authority),
                "{origin:?} at {authority:?}"
            );
        }
    }
}

#[test]
fn refuses_two_origins() {
    let policy = OriginPolicy::same_host();
    for lines in [
        &["http://example.com", "http://example.com"][..],
        &["http://example.com", "http://evil.test"],
        &["http://evil.test", "http://example.com"],
        &["http://example.com", ""],
    ] {
        assert!(!permits(&policy, lines, "example.com"), "lines {lines:?}");
    }
}

#[test]
fn allows_a_listed_origin_in_every_equal_spelling() {
    for (entry, origin) in [
        ("https://example.com", "https://example.com"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com:443", "https://example.com"),
        ("HTTPS://Example.COM", "https://example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:3000", "http://[0::1]:3000"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://localhost:1", "app://localhost:1"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ] {
        assert!(allowed(entry, origin), "{origin:?} under {entry:?}");
    }
}

#[test]
fn refuses_an_origin_that_differs_from_the_listed_one() {
    for (entry, origin) in [
        ("https://example.com", "http://example.com"),
        ("https://example.com", "https://example.com:8443"),
        ("https://example.com:8443", "https://example.com"),
        ("https://example.com", "https://www.example.com"),
        ("https://example.com", "https://badexample.com"),
        ("https://example.com", "https://example.com.evil.test"),
        ("https://example.com", "https://example.com."),
        ("http://[::1]", "http://[::2]"),
        ("tauri://localhost", "http://localhost"),
        ("tauri://localhost", "tauri://localhost:80"),
        ("app://localhost:80", "app://localhost"),
    ] {
        assert!(!allowed(entry, origin), "{origin:?} under {entry:?}");
    }
}

#[test]
fn an_added_origin_keeps_the_same_host_and_earlier_origins() {
    let policy = OriginPolicy::same_host()
        .allow("https://a.test")
        .unwrap()
        .allow("https://*.b.test")
        .unwrap();
    for origin in ["http://example.com", "https://a.test", "https://x.b.test"] {
        assert!(
            permits(&policy, &[origin], "example.com"),
            "origin {origin:?}"
        );
    }
    assert!(!permits(&policy, &["https://c.test"], "example.com"));
}

#[test]
fn a_wildcard_matches_one_or_more_whole_labels() {
    for (entry, origin) in [
        ("https://*.example.com", "https://a.example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com", "https://A.EXAMPLE.com:443"),
        ("https://*.EXAMPLE.com:443", "https://a.example.com"),
        ("http://*.example.com:81", "http://a.example.com:81"),
        ("https://*.1.example", "https://2.1.example"),
        ("app://*.example.com", "app://a.example.com"),
    ] {
        assert!(allowed(entry, origin), "{origin:?} under {entry:?}");
    }
}

#[test]
fn a_wildcard_matches_neither_its_domain_nor_other_hosts() {
    for (entry, origin) in [
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "https://badexample.com"),
        ("https://*.example.com", "https://com"),
        ("https://*.example.com", "https://a.example.com.evil.test"),
        ("https://*.example.com", "https://a.example.com."),
        ("https://*.example.com", "https://a.example.org"),
        ("https://*.example.com", "http://a.example.com"),
        ("https://*.example.com", "https://a.example.com:8443"),
        ("https://*.example.com:8443", "https://a.example.com"),
        ("https://*.example.com", "https://evil.test/.example.com"),
        ("https://*.example.com", "https://evil.test#.example.com"),
        ("https://*.example.com", "https://[::1]"),
    ] {
        assert!(!allowed(entry, origin), "{origin:?} under {entry:?}");
    }
}

#[test]
fn refuses_to_list_a_malformed_origin() {
    for entry in MALFORMED {
        assert!(
            OriginPolicy::same_host().allow(entry).is_err(),
            "entry {entry:?}"
        );
    }
}

#[test]
fn refuses_to_list_a_wildcard_in_another_place() {
    for entry in [
        "https://*",
        "https://*:443",
        "https://*.com",
        "https://*.com.",
        "https://*.localhost",
        "https://*example.com",
        "https://a*.example.com",
        "https://a.*.example.com",
        "https://*.*.example.com",
        "https://example.*",
        "https://*.0.0.1",
        "https://*.[::1]",
    ] {
        let error = OriginPolicy::same_host().allow(entry).unwrap_err();
        assert_eq!(error.reason, Reason::Wildcard, "entry {entry:?}");
    }
    for entry in [
        "*",
        "*://example.com",
        "https://*.",
        "https://*..example.com",
    ] {
        assert!(
            OriginPolicy::same_host().allow(entry).is_err(),
            "entry {entry:?}"
        );
    }
}

#[test]
fn the_error_names_the_wrong_part_of_an_origin() {
    for (entry, reason) in [
        ("null", Reason::Null),
        ("https://example.com:*", Reason::AnyPort),
        ("https://*.example.com:*", Reason::AnyPort),
        ("example.com", Reason::Scheme),
        ("https://", Reason::Host),
        ("https://example.com/", Reason::HasPath),
        ("https://user@example.com", Reason::Host),
        ("https://example.com:", Reason::Port),
        ("https://example.com:99999", Reason::Port),
        ("https://example.com:80/", Reason::HasPath),
        ("http://localhost:5173/", Reason::HasPath),
        ("https://example.com?a", Reason::HasPath),
        ("https://https://example.com", Reason::HasScheme),
        ("https://*.com", Reason::Wildcard),
        ("https://*.*.example.com", Reason::Wildcard),
    ] {
        let error = OriginPolicy::same_host().allow(entry).unwrap_err();
        assert_eq!(error.reason, reason, "entry {entry:?}");
        let message = error.to_string();
        assert!(message.contains(entry), "message {message:?}");
        assert!(!message.ends_with('.'), "message {message:?}");
    }
}

#[test]
fn insecure_any_allows_every_origin() {
    let policy = OriginPolicy::insecure_any();
    let listing = policy.clone().allow("https://example.com").unwrap();
    for policy in [policy, listing] {
        for lines in [
            &[][..],
            &["http://evil.test"],
            &["null"],
            &["nonsense"],
            &["http://a.test", "http://b.test"],
        ] {
            assert!(permits(&policy, lines, ""), "lines {lines:?}");
        }
    }
}

#[test]
fn insecure_any_refuses_to_list_a_malformed_origin() {
    assert!(OriginPolicy::insecure_any().allow("null").is_err());
}

#[test]
fn allows_the_same_host_by_default() {
    let policy = OriginPolicy::default();
    assert!(permits(&policy, &["http://a.test"], "a.test"));
    assert!(!permits(&policy, &["http://b.test"], "a.test"));
}
