//! The refusals of a handler over HTTP/2, where each answer has its own stream.

#![cfg(feature = "http2")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use http::{HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http2::{Session, connect, serve};
use support::{http2, wire};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Refusal, WebSocket, WebSocketLayer, decide,
};
use wire::{FIN, TEXT, close, frame, read_close, read_frame, write};

/// Refuses with what the path of the request names.
fn layer() -> WebSocketLayer<impl tower_websocket::Handler> {
    let accept = async |request: &mut Parts| -> Result<(Accept, ()), Refusal> {
        match request.headers.get("x-way").map(HeaderValue::as_bytes) {
            Some(b"json") => Err(Refusal::forbidden().json("{}")),
            Some(b"response") => {
                let response = Response::builder()
                    .status(402)
                    .header("connection", "keep-alive")
                    .header("keep-alive", "timeout=5")
                    .header("proxy-connection", "keep-alive")
                    .header("upgrade", "websocket")
                    .header("transfer-encoding", "chunked");
                Err(response.body("pay first").unwrap().into())
            }
            Some(b"close") => {
                let frame = CloseFrame::new(CloseCode::new(4401)?, "token expired")?;
                let cookie = HeaderValue::from_static("a=1");
                Err(Refusal::close(frame).header(header::SET_COOKIE, cookie))
            }
            Some(b"require") => Ok((Accept::new().require_subprotocol(), ())),
            _ => Err(Refusal::unauthorized()),
        }
    };
    let layer = WebSocketLayer::new(decide(accept, async |_: WebSocket, ()| {
        Ok::<_, BoxError>(())
    }));
    layer.subprotocol("v1")
}

const WAY: HeaderName = HeaderName::from_static("x-way");
const TEXT_FIELDS: [&str; 3] = ["content-length", "content-type", "x-content-type-options"];

#[tokio::test]
async fn sends_texts_json_and_responses() {
    let session = Session::new(serve(layer().into_service())).await;
    for (way, status, body, names) in [
        ("text", 401, "Unauthorized", &TEXT_FIELDS[..]),
        ("json", 403, "{}", &TEXT_FIELDS),
        ("response", 402, "pay first", &TEXT_FIELDS),
        (
            "require",
            400,
            "sec-websocket-protocol offers none of the subprotocols spoken here: v1",
            &TEXT_FIELDS,
        ),
    ] {
        let mut refused = session.ask(connect().header(WAY, way)).await;
        assert_eq!(refused.status.as_u16(), status, "{way}");
        assert_eq!(refused.names(), names, "{way}");
        assert_eq!(refused.text().await, body, "{way}");
    }
}

#[tokio::test]
async fn closes_with_4401() {
    let session = Session::new(serve(layer().into_service())).await;
    let request = connect()
        .header(WAY, "close")
        .header("sec-websocket-protocol", "v2, v3");
    let mut tunnel = session.ask(request).await;
    assert_eq!(tunnel.status, StatusCode::OK);
    assert_eq!(tunnel.names(), ["sec-websocket-protocol", "set-cookie"]);
    assert_eq!(tunnel.headers["sec-websocket-protocol"], "v2");
    write(&mut tunnel, &frame(FIN | TEXT, b"not answered")).await;
    assert_eq!(read_close(&mut tunnel).await, Some(4401));
    write(&mut tunnel, &close(4401, "")).await;
    assert!(read_frame(&mut tunnel).await.is_none());
}
