//! Arbitrary requests to the layer, with and without a server that can upgrade its connection.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    str,
    task::{Context, Waker},
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_websocket::{
    Config, Deflate, Echo, UpgradeRequired, WebSocketLayer, WebSocketService, error::HandshakeError,
};

use crate::{
    Script, block_on,
    stream::{End, Stream, stream},
    written::Written,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Longer than every timeout of an opening or a closing handshake.
const LONG: Duration = Duration::from_secs(60);

/// The first byte has options. Then come the lines of a request, or the bytes of a connection.
pub fn handshake(data: &[u8]) {
    let mut script = Script(data);
    let options = script.byte();
    block_on(async {
        match options & 4 {
            0 => call(options, script.0).await,
            _ => serve(options, script.0).await,
        }
    });
}

/// Calls the service with a request that no server has checked.
async fn call(options: u8, lines: &[u8]) {
    let layer = WebSocketLayer::new(Echo::new()).subprotocol("chat");
    let connections = layer.connections();
    let service = layer.layer(tower::service_fn(inner));
    let mut request = if options & 1 == 0 {
        Request::new(())
    } else {
        valid()
    };
    for line in lines.split(|byte| *byte == b'\n') {
        change(&mut request, line);
    }
    let can_upgrade = options & 2 != 0;
    if can_upgrade {
        request.extensions_mut().insert(promise());
    }
    let (parts, ()) = request.into_parts();
    let request = Request::from_parts(parts.clone(), ());
    let Ok(response) = service.oneshot(request).await;

    let (answer, _) = response.into_parts();
    if answer.extensions.get::<FromInner>().is_some() {
        assert!(!names_websocket(&parts) || parts.version != Version::HTTP_11);
        return;
    }
    assert!(names_websocket(&parts) && parts.version == Version::HTTP_11);
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        assert!(can_upgrade);
        assert_may_switch(&parts);
        assert_switches(&parts.headers, &answer.headers);
        assert_eq!(connections.counts().open(), 1);
        // The server never upgrades, so the connection ends with a timeout.
        sleep(LONG).await;
    } else {
        let error = answer.extensions.get::<HandshakeError>();
        let error = error.expect("a refusal has its reason");
        assert_eq!(answer.status, error.status());
        assert!(
            answer.headers[header::CONNECTION]
                .as_bytes()
                .starts_with(b"close")
        );
        assert!(matches!(
            answer.status.as_u16(),
            400 | 403 | 405 | 426 | 431 | 500
        ));
        assert!(answer.status != StatusCode::INTERNAL_SERVER_ERROR || !can_upgrade);
    }
    assert_eq!(connections.counts().open(), 0);
}

/// Marks responses of the inner service.
#[derive(Clone)]
struct FromInner;

async fn inner(_: Request<()>) -> Result<Response<()>, Infallible> {
    let mut response = Response::new(());
    response.extensions_mut().insert(FromInner);
    Ok(response)
}

/// Returns the handshake of RFC 6455 §1.3.
fn valid() -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in [
        (header::HOST, "example.com"),
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "Upgrade"),
        (header::SEC_WEBSOCKET_KEY, KEY),
        (header::SEC_WEBSOCKET_VERSION, "13"),
    ] {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
    }
    request
}

/// Changes the request: `@METHOD`, `/target`, `%version`, `-Field` removes a field, `=Field: value` replaces
/// it, and `Field: value` adds one. Other lines change nothing.
fn change(request: &mut Request<()>, line: &[u8]) {
    let Some((&kind, rest)) = line.split_first() else {
        return;
    };
    match kind {
        b'@' => {
            if let Ok(method) = Method::from_bytes(rest) {
                *request.method_mut() = method;
            }
        }
        b'/' => {
            // A target with a colon may be an absolute URI, as a proxy gets it, so it loses the slash.
            let target = if rest.contains(&b':') { rest } else { line };
            if let Ok(uri) = Uri::try_from(target) {
                *request.uri_mut() = uri;
            }
        }
        b'%' => {
            *request.version_mut() = match rest {
                b"0" => Version::HTTP_10,
                b"2" => Version::HTTP_2,
                b"3" => Version::HTTP_3,
                _ => Version::HTTP_11,
            }
        }
        b'-' => {
            if let Ok(name) = HeaderName::from_bytes(rest) {
                request.headers_mut().remove(name);
            }
        }
        b'=' => {
            if let Some((name, value)) = field(rest) {
                request.headers_mut().insert(name, value);
            }
        }
        _ => {
            if let Some((name, value)) = field(line) {
                request.headers_mut().append(name, value);
            }
        }
    }
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

/// Returns whether `Upgrade` names websocket, in an independent way. Quoted strings use the crate's own check.
fn names_websocket(parts: &http::request::Parts) -> bool {
    let lines = parts.headers.get_all(header::UPGRADE);
    let mut quoted = lines.iter().filter(|line| line.as_bytes().contains(&b'"'));
    if quoted.next().is_some() {
        let token = tower_websocket::fuzzing::contains_token;
        return token(&parts.headers, &header::UPGRADE, "websocket");
    }
    lines.iter().any(|line| {
        let mut elements = line.as_bytes().split(|byte| *byte == b',');
        elements.any(|element| element.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    })
}

/// Asserts the requirements for an accepted request (RFC 6455 §4.2.1).
fn assert_may_switch(parts: &http::request::Parts) {
    let headers = &parts.headers;
    let only = |name: HeaderName| {
        let mut lines = headers.get_all(name).iter();
        let line = lines.next().expect("the field is present");
        assert!(lines.next().is_none(), "the field is present once");
        line
    };
    assert_eq!(parts.method, Method::GET);
    assert_eq!(only(header::SEC_WEBSOCKET_VERSION), "13");
    assert_eq!(only(header::SEC_WEBSOCKET_KEY).len(), 24);
    assert!(!only(header::HOST).as_bytes().contains(&b'@'));
    assert!(!headers.contains_key(header::TRANSFER_ENCODING));
    assert!(headers.get_all(header::ORIGIN).iter().count() < 2);
    let bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    assert!(bytes.sum::<usize>() <= 16 * 1024);
}

fn assert_switches(request: &HeaderMap, answer: &HeaderMap) {
    assert_eq!(answer[header::UPGRADE], "websocket");
    assert_eq!(answer[header::CONNECTION], "Upgrade");
    let accept = &answer[header::SEC_WEBSOCKET_ACCEPT];
    assert_eq!(accept.len(), 28);
    assert_eq!(request[header::SEC_WEBSOCKET_KEY] == KEY, accept == ACCEPT);
    assert!(!answer.contains_key(header::SEC_WEBSOCKET_EXTENSIONS));
    if let Some(chosen) = answer.get(header::SEC_WEBSOCKET_PROTOCOL) {
        assert_eq!(chosen, "chat");
        let offered = request.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let mut offered = offered
            .iter()
            .flat_map(|line| line.as_bytes().split(|b| *b == b','));
        assert!(offered.any(|name| name.trim_ascii() == b"chat"));
    }
}

/// Returns an `OnUpgrade` that never completes. Only a connection of hyper can make one.
fn promise() -> OnUpgrade {
    type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;
    thread_local! {
        static KEPT: RefCell<Option<(OnUpgrade, Connection)>> = const { RefCell::new(None) };
    }
    KEPT.with_borrow_mut(|kept| {
        let (promise, _) = kept.get_or_insert_with(|| {
            let (io, peer) = stream();
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
            let (sender, receiver) = std::sync::mpsc::channel();
            let service = service_fn(move |mut request: Request<Incoming>| {
                let promise = request.extensions_mut().remove::<OnUpgrade>();
                let _ = sender.send(promise.expect("hyper provides it for any upgrade"));
                pending::<Result<Response<String>, Infallible>>()
            });
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            let mut connection: Connection = Box::pin(connection);
            let mut cx = Context::from_waker(Waker::noop());
            assert!(connection.as_mut().poll(&mut cx).is_pending());
            (receiver.recv().expect("it was sent"), connection)
        });
        promise.clone()
    })
}

/// Serves the layer with hyper, on a connection that receives these bytes.
async fn serve(options: u8, bytes: &[u8]) {
    let mut config = Config::new().max_message_size(10_000);
    let deflates = options & 32 != 0;
    if deflates {
        config = config.deflate(Deflate::new().min_size(1).receive_context_takeover());
    }
    let layer = WebSocketLayer::new(Echo::new()).config(config);
    let connections = layer.connections();
    let (io, peer) = stream();
    if options & 8 != 0 {
        peer.read_at_once(1 + bytes.len() / 3);
    }
    if options & 1 != 0 {
        peer.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        );
    }
    peer.send(bytes);
    peer.end(if options & 16 == 0 {
        End::Eof
    } else {
        End::Error
    });
    let served = timeout(LONG, connection(io, layer.into_service())).await;
    assert!(served.is_ok(), "the stream has ended, but hyper has not");
    let dropped = timeout(LONG, peer.dropped()).await;
    assert!(
        dropped.is_ok(),
        "the stream has ended, but the connection has not"
    );
    assert_eq!(connections.counts().open(), 0);

    let state = peer.lock();
    let output = &*state.output;
    if output.is_empty() {
        return;
    }
    assert!(output.starts_with(b"HTTP/1."));
    let status = output
        .get(9..12)
        .and_then(|status| str::from_utf8(status).ok());
    let status = status.expect("a whole line");
    if options & 1 != 0 {
        assert_eq!(status, "101");
    }
    if status == "101" {
        let end = output.windows(4).position(|window| window == b"\r\n\r\n");
        let end = 4 + end.expect("a whole head");
        let written = Written::read(&output[end..], deflates);
        assert!(options & 16 != 0 || written.close.is_some(), "no Close");
    }
}

async fn connection(io: Stream, service: WebSocketService<UpgradeRequired, Echo>) {
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
        .with_upgrades();
    // Errors of hyper are not checked here.
    let _ = connection.await;
}
