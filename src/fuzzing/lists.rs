//! The fields of a handshake that are lists or origins.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

use crate::{extension, header::is_token, origin::OriginPolicy, subprotocol};

/// Each line of the data is one of the field.
fn field(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let lines = data.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .map(|line| (name.clone(), line))
        .collect()
}

/// The same field in one line (RFC 9110 §5.3).
fn joined(name: &HeaderName, headers: &HeaderMap) -> HeaderMap {
    let lines: Vec<_> = headers.get_all(name).iter().map(|l| l.as_bytes()).collect();
    field(name, &lines.join(&b","[..]))
}

pub fn contains_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    crate::header::contains_token(headers, name, token)
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

/// Three lines: the origin, the authority and what is allowed besides.
pub fn origins(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut line = || String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (origin, authority, allowed) = (line(), line(), line());
    let same_host = OriginPolicy::same_host();

    if let Ok(headers) = HeaderValue::from_str(&origin).map(|origin| with(&[origin])) {
        let permitted = permits(&same_host, &headers, &authority);
        if permitted {
            assert_is_at(&origin, &authority);
        }
        assert!(!permits(&same_host, &headers, ""));
        let upper = HeaderValue::from_str(&origin.to_ascii_uppercase());
        let upper = upper.map(|origin| with(&[origin]));
        assert!(upper.is_ok_and(|upper| permits(&same_host, &upper, &authority) == permitted));
        let twice = with(&[
            headers[header::ORIGIN].clone(),
            headers[header::ORIGIN].clone(),
        ]);
        assert!(!permits(&same_host, &twice, &authority));
    }

    let Ok(policy) = same_host.allow(&allowed) else {
        return;
    };
    // What may be allowed is a field's value, and what is allowed is permitted.
    let below = allowed.replacen("://*.", "://a-label.", 1);
    let one = match below.strip_suffix("://*") {
        Some(scheme) => format!("{scheme}://a-host"),
        None => below.clone(),
    };
    let headers = HeaderValue::from_str(&one).map(|origin| with(&[origin]));
    assert!(headers.is_ok_and(|headers| permits(&policy, &headers, "")));
    // With a wildcard, the domain itself is not.
    if below != allowed {
        let domain = allowed.replacen("://*.", "://", 1);
        let headers = HeaderValue::from_str(&domain).map(|origin| with(&[origin]));
        assert!(headers.is_ok_and(|headers| !permits(&policy, &headers, "")));
    }
}

fn permits(policy: &OriginPolicy, headers: &HeaderMap, authority: &str) -> bool {
    let (mut request, ()) = Request::new(()).into_parts();
    request.headers = headers.clone();
    policy.check(&request, authority).is_ok()
}

fn with(origins: &[HeaderValue]) -> HeaderMap {
    let lines = origins.iter().cloned();
    lines.map(|origin| (header::ORIGIN, origin)).collect()
}

/// A second opinion, in other words: host and port are the same once the default port is gone.
fn assert_is_at(origin: &str, authority: &str) {
    let origin = origin.to_ascii_lowercase();
    let (host, default) = match origin.split_once("://") {
        Some(("http" | "ws", host)) => (host, ":80"),
        Some(("https" | "wss", host)) => (host, ":443"),
        _ => panic!("{origin} is the origin of no web page"),
    };
    // What some clients send behind an origin.
    let host = host.split(['/', '?', '#']).next().unwrap_or(host);
    let authority = authority.to_ascii_lowercase();
    // Addresses and ports can be written in several ways.
    if host.starts_with('[') || host.contains(":0") || authority.contains(":0") {
        return;
    }
    let bare = |text: &str| {
        let text = text.strip_suffix(':').unwrap_or(text);
        text.strip_suffix(default).unwrap_or(text).to_owned()
    };
    assert_eq!(bare(host), bare(&authority));
}
