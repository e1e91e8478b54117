//! Whole schemes, `null`, loopback, functions, named hosts and forwarded hosts; and the origins of clients
//! that are not browsers.

use std::sync::Mutex;

use super::{
    tests::{MALFORMED, allowed, permits, request},
    *,
};

// Clients that are not browsers

#[test]
fn ignores_the_part_after_the_authority() {
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
fn allows_the_websocket_address_of_the_same_host() {
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
fn refuses_to_list_a_whole_scheme_of_the_web() {
    for scheme in ["http", "https", "ws", "wss", "HTTPS"] {
        for rest in ["", "*", "*:443"] {
            let entry = format!("{scheme}://{rest}");
            assert!(OriginPolicy::same_host().allow(&entry).is_err(), "{entry}");
        }
    }
}

#[test]
fn only_insecure_null_allows_null() {
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
fn allow_loopback_allows_the_local_machine_on_any_port() {
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
fn calls_the_function_last_with_the_field_as_sent() {
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
        // The function takes one origin only.
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
fn allows_the_same_host_only_if_it_is_named() {
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
        // Another host of the server is not the same host.
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
fn refuses_to_name_an_invalid_host() {
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

/// Checks a page of `https://example.com` behind a proxy that has rewritten `Host` and sends these fields.
fn forwarded(policy: &OriginPolicy, fields: &[(&'static str, &str)]) -> Result<(), Denied> {
    let mut request = request(&["https://example.com"]);
    for (name, value) in fields {
        request.headers.append(*name, value.parse().unwrap());
    }
    policy.check(&request, "upstream:8080")
}

#[test]
fn compares_with_the_forwarded_host_of_a_trusted_proxy() {
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
        // The client wrote the field that the proxy does not write.
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
    // A forwarded host has to be one of the named hosts, too.
    let named = by_field.hosts(["example.org"]).unwrap();
    assert!(forwarded(&named, of_field).is_err());
    assert_eq!(
        forwarded(&named.hosts(["example.com"]).unwrap(), of_field),
        Ok(())
    );
}

// Refusals

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
fn refuses_a_malformed_origin_with_everything_else_allowed() {
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
