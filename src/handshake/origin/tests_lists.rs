//! Whole schemes, `null`, the machine itself, functions, pinned hosts and forwarded ones; and what some
//! clients send that are no browsers.

use std::sync::Mutex;

use super::{
    tests::{MALFORMED, allowed, permits, request},
    *,
};

// What clients send that are no browsers

#[test]
fn leaves_out_what_follows_the_authority() {
    for rest in ["/", "/chat", "/a/b?c#d", "?a", "#a", "/https://evil.test"] {
        for origin in ["https://example.com", "https://example.com:443"] {
            let origin = format!("{origin}{rest}");
            assert!(allowed("https://example.com", &origin), "{origin}");
            assert!(
                permits(&OriginPolicy::same_host(), &[&origin], "example.com"),
                "{origin}"
            );
            assert!(
                !permits(&OriginPolicy::same_host(), &[&origin], "server.test"),
                "{origin}"
            );
        }
    }
    for origin in [
        "https://evil.test/example.com",
        "https://evil.test?example.com",
        "https://evil.test#https://example.com",
        "https://evil.test\\.example.com",
        "https://example.com@evil.test/",
        "https:///example.com",
    ] {
        assert!(!allowed("https://example.com", origin), "{origin}");
        assert!(
            !permits(&OriginPolicy::same_host(), &[origin], "example.com"),
            "{origin}"
        );
    }
}

#[test]
fn takes_the_address_of_a_socket_of_this_host_for_its_origin() {
    for (origin, authority, expected) in [
        ("wss://example.com", "example.com", true),
        ("ws://example.com", "example.com", true),
        ("WSS://EXAMPLE.com", "example.com", true),
        ("wss://example.com:443", "example.com", true),
        ("wss://example.com/socket", "example.com", true),
        ("ws://example.com:3000", "example.com:3000", true),
        ("ws://[::1]:3000", "[::1]:3000", true),
        ("ws://example.com", "example.com:80", true),
        ("wss://example.com", "example.com:80", false),
        ("wss://example.com:8443", "example.com", false),
        ("wss://evil.test", "example.com", false),
        ("wss://example.com.evil.test", "example.com", false),
    ] {
        let permitted = permits(&OriginPolicy::same_host(), &[origin], authority);
        assert_eq!(permitted, expected, "{origin} at {authority}");
    }
    assert!(allowed("wss://example.com", "wss://example.com:443"));
    assert!(!allowed("wss://example.com", "https://example.com"));
}

// Lists

#[test]
fn allows_whole_schemes_of_applications() {
    for (entry, origin) in [
        ("file://", "file://"),
        ("file://", "file:///"),
        ("file://", "file:///android_asset/www/index.html"),
        ("file://*", "file://"),
        ("FILE://", "file://"),
        (
            "moz-extension://*",
            "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
        ),
        (
            "vscode-webview://*",
            "vscode-webview://1g0k4ubfc8dvhfjmrsaeu2fo9ml6o5kdj",
        ),
        ("app://", "app://."),
        ("app://*", "app://localhost:7000"),
    ] {
        assert!(allowed(entry, origin), "{origin} under {entry}");
    }
    for (entry, origin) in [
        ("file://", "null"),
        ("file://", "file:"),
        ("file://", "files://"),
        ("file://", "http://file"),
        ("file://", "https://evil.test/file://"),
        ("moz-extension://*", "chrome-extension://abc"),
        ("moz-extension://*", " moz-extension://abc"),
    ] {
        assert!(!allowed(entry, origin), "{origin} under {entry}");
    }
}

#[test]
fn lists_no_scheme_of_the_web_whole() {
    for scheme in ["http", "https", "ws", "wss", "HTTPS"] {
        for rest in ["", "*", "*:443"] {
            let entry = format!("{scheme}://{rest}");
            assert!(OriginPolicy::same_host().allow(&entry).is_err(), "{entry}");
        }
    }
}

#[test]
fn allows_null_by_its_name_alone() {
    for entry in ["null", "NULL"] {
        let error = OriginPolicy::same_host().allow(entry).unwrap_err();
        assert!(error.to_string().contains("insecure_null"), "{error}");
    }
    let policy = OriginPolicy::same_host().insecure_null();
    assert!(permits(&policy, &["null"], "example.com"));
    for lines in [
        &["Null"][..],
        &["null "],
        &[""],
        &["null", "null"],
        &["http://evil.test"],
    ] {
        assert!(!permits(&policy, lines, "example.com"), "lines {lines:?}");
    }
}

#[test]
fn allows_this_machine_on_any_port() {
    let policy = OriginPolicy::same_host().allow_loopback();
    for origin in [
        "http://localhost",
        "http://localhost:5173",
        "https://localhost:5174",
        "http://LOCALHOST:1",
        "http://app.localhost:8080",
        "http://localhost.:80",
        "http://127.0.0.1:65535",
        "http://127.1.2.3",
        "http://[::1]:3000",
        "http://[0:0::1]",
        "http://[::ffff:127.0.0.1]",
    ] {
        assert!(permits(&policy, &[origin], "server.test"), "{origin}");
        assert!(
            !permits(&OriginPolicy::same_host(), &[origin], "server.test"),
            "{origin}"
        );
    }
    for origin in [
        "http://localhost.evil.test",
        "http://evillocalhost",
        "http://127.0.0.1.evil.test",
        "http://128.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        "http://[::]",
        "http://192.168.0.1",
        "tauri://localhost",
        "ws://localhost",
        "file://",
        "null",
    ] {
        assert!(!permits(&policy, &[origin], "server.test"), "{origin}");
    }
}

#[test]
fn asks_a_function_last_and_with_the_field_as_it_came() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let policy = OriginPolicy::same_host()
        .allow("https://a.test")
        .unwrap()
        .allow_if(move |origin, request| {
            noted.lock().unwrap().push(origin.to_owned());
            request.uri.path() == "/" && origin.ends_with("yes")
        });
    for (lines, expected) in [
        (&["https://example.com"][..], true),
        (&["https://a.test"], true),
        (&["https://b.test"], false),
        (&["nonsense, yes"], true),
        (&["null"], false),
        // Which of them would it be asked about?
        (&["yes", "yes"], false),
        (&["caf\u{e9} yes"], false),
        (&[], true),
    ] {
        assert_eq!(
            permits(&policy, lines, "example.com"),
            expected,
            "lines {lines:?}"
        );
    }
    assert_eq!(
        *asked.lock().unwrap(),
        ["https://b.test", "nonsense, yes", "null"]
    );
}

// Hosts

#[test]
fn believes_no_host_that_is_not_one_of_the_server_s() {
    let policy = OriginPolicy::same_host()
        .hosts(["example.com", "*.example.org"])
        .unwrap()
        .hosts(vec![String::from("[::1]:3000")])
        .unwrap();
    for (origin, authority, expected) in [
        ("https://example.com", "example.com", true),
        ("https://EXAMPLE.com", "example.com", true),
        ("http://example.com:81", "example.com:81", true),
        ("https://a.example.org", "a.example.org", true),
        ("http://[::1]:3000", "[::1]:3000", true),
        ("http://[::1]:3001", "[::1]:3001", false),
        // Of the same host still, and not just any of the server's.
        ("https://example.com", "a.example.org", false),
        ("https://example.org", "example.org", false),
        // DNS rebinding.
        ("http://evil.test", "evil.test", false),
        ("http://evil.test:3000", "evil.test:3000", false),
        ("http://localhost", "localhost", false),
    ] {
        let permitted = permits(&policy, &[origin], authority);
        assert_eq!(permitted, expected, "{origin} at {authority}");
    }
    // Not a browser.
    assert!(permits(&policy, &[], "evil.test"));
    // Lists do not depend on the host.
    let policy = policy.allow("https://evil.test").unwrap();
    assert!(permits(&policy, &["https://evil.test"], "evil.test"));
    let none = OriginPolicy::same_host().hosts([""; 0]).unwrap();
    assert!(!permits(&none, &["https://example.com"], "example.com"));
}

#[test]
fn refuses_to_pin_what_is_no_host() {
    for host in [
        "",
        "*",
        "*.com",
        "https://example.com",
        "example.com/",
        "a b",
        "a:b",
        "a:*",
        "a:65536",
        "user@a",
        "::1",
        "a,b",
    ] {
        let error = OriginPolicy::same_host().hosts(["fine", host]).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("invalid host {host:?}: ")),
            "{message}"
        );
    }
}

/// Whether a page of `https://example.com` is let in by a policy behind a proxy that has rewritten the
/// host, with these fields.
fn forwarded(policy: &OriginPolicy, fields: &[(&'static str, &str)]) -> Result<(), Denied> {
    let mut request = request(&["https://example.com"]);
    for (name, value) in fields {
        request.headers.append(*name, value.parse().unwrap());
    }
    policy.check(&request, "upstream:8080")
}

#[test]
fn compares_with_a_forwarded_host_where_a_proxy_is_trusted() {
    let x = "x-forwarded-host";
    let by_field = OriginPolicy::same_host().x_forwarded_host(TrustedProxies::number(1));
    let by_rfc = OriginPolicy::same_host().forwarded(TrustedProxies::number(1));
    let trusting_nobody = OriginPolicy::same_host();
    let of_field: &[_] = &[(x, "evil.test, example.com")];
    let of_rfc: &[_] = &[(
        "forwarded",
        "for=_x;host=evil.test, for=_y;host=\"example.com:443\"",
    )];
    assert_eq!(forwarded(&by_field, of_field), Ok(()));
    assert_eq!(forwarded(&by_rfc, of_rfc), Ok(()));
    for (policy, fields, host) in [
        (&trusting_nobody, of_field, "upstream:8080"),
        (&trusting_nobody, of_rfc, "upstream:8080"),
        // What the proxy does not write, the client has.
        (&by_field, of_rfc, "upstream:8080"),
        (&by_rfc, of_field, "upstream:8080"),
        (&by_field, &[], "upstream:8080"),
        (&by_field, &[(x, "example.com, evil.test")], "evil.test"),
        (
            &by_field,
            &[(x, "example.com"), (x, "evil.test")],
            "evil.test",
        ),
        (
            &by_field,
            &[(x, "https://example.com")],
            "https://example.com",
        ),
        (&by_rfc, &[("forwarded", "for=_x")], "upstream:8080"),
        (
            &by_rfc,
            &[("forwarded", "host=example.com;host=example.com")],
            "",
        ),
    ] {
        let denied = forwarded(policy, fields).unwrap_err();
        assert_eq!(&*denied.host, host, "{policy:?}, {fields:?}");
    }
    // The names of the server hold for what proxies say, too.
    let pinned = by_field.hosts(["example.org"]).unwrap();
    assert!(forwarded(&pinned, of_field).is_err());
    assert_eq!(
        forwarded(&pinned.hosts(["example.com"]).unwrap(), of_field),
        Ok(())
    );
}

// What is said about it

#[test]
fn names_origin_and_host_of_a_refused_page() {
    for (lines, origin) in [
        (&["https://evil.test"][..], "https://evil.test"),
        (&["null"], "null"),
        (&[""], ""),
        (
            &["https://a.test", "https://b.test"],
            "https://a.test, https://b.test",
        ),
    ] {
        let denied = OriginPolicy::same_host().check(&request(lines), "example.com:81");
        let denied = denied.unwrap_err();
        assert_eq!(denied.origin, origin);
        assert_eq!(&*denied.host, "example.com:81");
    }
}

#[test]
fn refuses_what_is_malformed_whatever_else_is_allowed() {
    let policy = OriginPolicy::same_host()
        .allow_loopback()
        .allow("file://")
        .unwrap()
        .allow("moz-extension://*")
        .unwrap()
        .x_forwarded_host(TrustedProxies::number(1));
    for origin in MALFORMED {
        assert!(!permits(&policy, &[origin], "example.com"), "{origin}");
    }
}
