//! Checks the handshake fields that are lists or origins.

use std::{borrow::Cow, slice};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header, request::Parts};

use crate::{
    handshake::{
        extension,
        origin::{OriginPolicy, TrustedProxies},
        subprotocol,
    },
    words::header::is_token,
};

/// Returns a field with one line for each line of the data.
fn field(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let lines = data.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .map(|line| (name.clone(), line))
        .collect()
}

/// Returns the same field as one line (RFC 9110 §5.3).
fn joined(name: &HeaderName, headers: &HeaderMap) -> HeaderMap {
    let lines: Vec<_> = headers.get_all(name).iter().map(|l| l.as_bytes()).collect();
    field(name, &lines.join(&b","[..]))
}

pub fn contains_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    crate::words::header::contains_token(headers, name, token)
}

pub fn extensions(data: &[u8]) {
    let name = header::SEC_WEBSOCKET_EXTENSIONS;
    let headers = field(&name, data);
    if !headers.is_empty() && extension::validate(&headers).is_ok() {
        assert_eq!(extension::validate(&joined(&name, &headers)), Ok(()));
    }
}

pub fn subprotocols(data: &[u8]) {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    let headers = field(&name, data);
    let Ok(offered) = subprotocol::offered(&headers) else {
        return;
    };
    assert_eq!(offered.is_empty(), headers.is_empty());
    assert!(offered.len() <= subprotocol::MAX_OFFERED);
    assert!(offered.iter().all(|name| is_token(name.as_bytes())));
    for (at, one) in offered.iter().enumerate() {
        assert!(!offered[..at].contains(one), "{one} is offered twice");
    }
    if !offered.is_empty() {
        assert_eq!(
            subprotocol::offered(&joined(&name, &headers)).as_ref(),
            Ok(&offered)
        );
        let written = field(&name, offered.join(", ").as_bytes());
        assert_eq!(subprotocol::offered(&written).as_ref(), Ok(&offered));
    }

    let preferred = ["b", "a", "chat"].map(Cow::Borrowed);
    let expected = preferred.iter().find(|name| offered.contains(&&***name));
    let chosen = subprotocol::choose(&preferred, &offered);
    assert_eq!(chosen, expected.map(|name| &**name));
}

/// The data has four lines: the origin, the authority, an allowed origin or host, and a client's text before a
/// forwarded host.
pub fn origins(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (origin, authority, allowed, forwarded) = (line(), line(), line(), line());
    let same_host = OriginPolicy::same_host();
    let permits =
        |policy: &OriginPolicy, request: &Parts, host: &str| policy.check(request, host).is_ok();

    if let Ok(origin_field) = HeaderValue::from_str(&origin) {
        let request = with(slice::from_ref(&origin_field));
        let permitted = permits(&same_host, &request, &authority);
        if permitted {
            assert_is_at(&origin, &authority);
        }
        assert!(!permits(&same_host, &request, ""));
        let upper = HeaderValue::from_str(&origin.to_ascii_uppercase());
        let upper = upper.map(|origin| with(&[origin]));
        assert!(upper.is_ok_and(|upper| permits(&same_host, &upper, &authority) == permitted));
        let twice = with(&[origin_field.clone(), origin_field]);
        assert!(!permits(&same_host, &twice, &authority));
        // Naming hosts permits no additional origin.
        if let Ok(pinned) = same_host.clone().hosts([&allowed]) {
            assert!(permitted || !permits(&pinned, &request, &authority));
        }
        forwarded_hosts(request, &authority, &forwarded);
    }

    let Ok(policy) = same_host.allow(&allowed) else {
        return;
    };
    // An allowed origin is a valid field value, and it is permitted.
    let below = allowed.replacen("://*.", "://a-label.", 1);
    let request = HeaderValue::from_str(&below).map(|origin| with(&[origin]));
    assert!(request.is_ok_and(|request| permits(&policy, &request, "")));
    // The bare domain of a wildcard is not permitted.
    if below != allowed {
        let domain = allowed.replacen("://*.", "://", 1);
        let request = HeaderValue::from_str(&domain).map(|origin| with(&[origin]));
        assert!(request.is_ok_and(|request| !permits(&policy, &request, "")));
    }
}

/// Checks that the proxy's element of a field decides, regardless of the client's text before it.
fn forwarded_hosts(mut request: Parts, authority: &str, sent: &str) {
    let own = OriginPolicy::same_host().check(&request, authority).is_ok();
    let [one, two] = [1, 2].map(TrustedProxies::number);
    let same_host = OriginPolicy::same_host;
    let added = format!("for=_hidden;host=\"{authority}\"");
    for (name, added, policy) in [
        (
            "x-forwarded-host",
            authority.to_owned(),
            same_host().x_forwarded_host(one.clone()),
        ),
        (
            "x-forwarded-host",
            format!("{authority}, inner"),
            same_host().x_forwarded_host(two.clone()),
        ),
        ("forwarded", added.clone(), same_host().forwarded(one)),
        (
            "forwarded",
            format!("{added}, for=\"[::1]\";host=inner"),
            same_host().forwarded(two),
        ),
    ] {
        let Ok(field) = HeaderValue::from_str(&format!("{sent}, {added}")) else {
            continue;
        };
        request.headers.insert(name, field);
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
        // A plain host has only one reading, so the client's text never replaces it.
        if !authority.is_empty() && authority.bytes().all(is_plain) {
            let permitted = policy.check(&request, "upstream").is_ok();
            assert!(own || !permitted, "{sent:?} in front of {added:?}");
        }
    }
}

fn with(origins: &[HeaderValue]) -> Parts {
    let mut request = Request::new(());
    let lines = origins.iter().cloned();
    *request.headers_mut() = lines.map(|origin| (header::ORIGIN, origin)).collect();
    request.into_parts().0
}

/// Checks in an independent way that host and port are the same without the default port.
fn assert_is_at(origin: &str, authority: &str) {
    let origin = origin.to_ascii_lowercase();
    let (host, default) = match origin.split_once("://") {
        Some(("http" | "ws", host)) => (host, ":80"),
        Some(("https" | "wss", host)) => (host, ":443"),
        _ => panic!("{origin} is not the origin of a web page"),
    };
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.to_ascii_lowercase();
    // IPv6 addresses and ports have several notations.
    if host.starts_with('[') || host.contains(":0") || authority.contains(":0") {
        return;
    }
    let bare = |text: &str| {
        let text = text.strip_suffix(':').unwrap_or(text);
        text.strip_suffix(default).unwrap_or(text).to_owned()
    };
    assert_eq!(bare(host), bare(&authority));
}
