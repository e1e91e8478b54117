//! The other implementations, each with an echo as in its documentation.

use std::convert::Infallible;

use axum::{
    Router,
    extract::ws::{Message as AxumMessage, WebSocketUpgrade},
    routing::any,
};
use bytes::{Buf, Bytes, BytesMut};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_tungstenite::tungstenite::{Message as TungsteniteMessage, error::ProtocolError};
use hyper_util::rt::TokioIo;
use sockudo_ws::{
    Message as SockudoMessage, WebSocketStream,
    handshake::{build_response, generate_accept_key, parse_request},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_websockets::ServerBuilder;
use yawc::{Frame, OpCode as YawcOpCode, Options};

use super::{
    plain::serve_axum,
    sinks::{batched, each},
};
use crate::BoxError;

pub(super) async fn axum_ws(listener: TcpListener, batch: bool) -> Result<(), BoxError> {
    serve_axum(listener, axum_app(batch)).await
}

pub(super) fn axum_app(batch: bool) -> Router {
    let echo = move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(move |socket| async move {
            let answer = |message| match message {
                data @ (AxumMessage::Text(_) | AxumMessage::Binary(_)) => Some(data),
                _ => None,
            };
            if batch {
                batched(socket, answer).await;
            } else {
                each(socket, answer).await;
            }
        })
    };
    // Over HTTP/2 the method is CONNECT.
    Router::new().route("/ws", any(echo))
}

pub(super) async fn hyper_tungstenite(listener: &TcpListener, batch: bool) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(move |mut request: Request<Incoming>| async move {
            let (response, socket) = hyper_tungstenite::upgrade(&mut request, None)?;
            tokio::spawn(async move {
                let Ok(socket) = socket.await else {
                    return;
                };
                let answer = |message: TungsteniteMessage| {
                    (message.is_text() || message.is_binary()).then_some(message)
                };
                if batch {
                    batched(socket, answer).await;
                } else {
                    each(socket, answer).await;
                }
            });
            Ok::<Response<Full<Bytes>>, ProtocolError>(response)
        });
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move { drop(connection.await) });
    }
}

pub(super) async fn fastwebsockets(listener: &TcpListener) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(async |mut request: Request<Incoming>| {
            let (response, socket) = fastwebsockets::upgrade::upgrade(&mut request)?;
            tokio::spawn(tokio::task::unconstrained(async move {
                drop(fastwebsockets_echo(socket).await);
            }));
            Ok::<Response<Empty<Bytes>>, WebSocketError>(response)
        });
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn fastwebsockets_echo(
    socket: fastwebsockets::upgrade::UpgradeFut,
) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(socket.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

pub(super) async fn tokio_websockets(listener: &TcpListener, batch: bool) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let Ok((_, socket)) = ServerBuilder::new().accept(stream).await else {
                return;
            };
            let answer = |message: tokio_websockets::Message| {
                (message.is_text() || message.is_binary()).then_some(message)
            };
            if batch {
                batched(socket, answer).await;
            } else {
                each(socket, answer).await;
            }
        });
    }
}

pub(super) async fn yawc(listener: &TcpListener, batch: bool) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(move |mut request: Request<Incoming>| async move {
            yawc_answer(&mut request, batch)
        });
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move { drop(connection.await) });
    }
}

pub(super) fn yawc_answer(
    request: &mut Request<Incoming>,
    batch: bool,
) -> Result<Response<Empty<Bytes>>, yawc::WebSocketError> {
    // A message must be smaller than yawc's limit. `with_utf8` makes it check text.
    let options = Options::default().with_limits(2 << 20, 4 << 20).with_utf8();
    let (response, socket) = yawc::WebSocket::upgrade_with_options(request, options)?;
    tokio::spawn(async move {
        if let Ok(socket) = socket.await {
            yawc_echo(socket, batch).await;
        }
    });
    Ok(response)
}

async fn yawc_echo(socket: yawc::HttpWebSocket, batch: bool) {
    use futures_util::StreamExt as _;

    // The stream yields frames. The other peers yield results.
    let socket = socket.map(Ok::<Frame, Infallible>);
    let answer = |frame: Frame| {
        matches!(frame.opcode(), YawcOpCode::Text | YawcOpCode::Binary).then_some(frame)
    };
    if batch {
        batched(socket, answer).await;
    } else {
        each(socket, answer).await;
    }
}

pub(super) async fn sockudo(listener: &TcpListener, batch: bool) -> Result<(), BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let Ok(stream) = sockudo_handshake(stream).await else {
                return;
            };
            let socket = WebSocketStream::server(stream, sockudo_ws::Config::default());
            let answer = |message| match message {
                data @ (SockudoMessage::Text(_) | SockudoMessage::Binary(_)) => Some(data),
                _ => None,
            };
            if batch {
                batched(socket, answer).await;
            } else {
                each(socket, answer).await;
            }
        });
    }
}

async fn sockudo_handshake(mut stream: TcpStream) -> Result<TcpStream, BoxError> {
    let mut received = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err("the client has closed the connection".into());
        }
        if let Some((request, taken)) = parse_request(&received)? {
            let accept = generate_accept_key(request.key);
            stream
                .write_all(&build_response(&accept, None, None))
                .await?;
            received.advance(taken);
            // The load generator sends frames only after the answer.
            return match received.is_empty() {
                true => Ok(stream),
                false => Err("frames came with the handshake".into()),
            };
        }
    }
}
