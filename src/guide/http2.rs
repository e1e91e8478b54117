//! HTTP/2 and TLS: the settings of the server.
//!
//! If a browser has an HTTP/2 connection to a site, it opens its WebSockets as streams on that connection
//! ([RFC 8441](https://www.rfc-editor.org/rfc/rfc8441)), provided that the server has enabled it. With the
//! feature `http2` the same layer and the same handler serve these WebSockets. With hyper and hyper-util:
//!
//! ```
//! # #[cfg(feature = "http2")] {
//! use hyper_util::{rt::TokioTimer, server::conn::auto};
//! use tower_websocket::Http2Executor;
//!
//! let mut server = auto::Builder::new(Http2Executor::new());
//! server
//!     .http2()
//!     .timer(TokioTimer::new())
//!     .enable_connect_protocol()
//!     .max_concurrent_streams(200)
//!     .initial_stream_window_size(64 * 1024)
//!     .initial_connection_window_size(200 * 64 * 1024)
//!     .max_send_buf_size(64 * 1024);
//! # }
//! ```
//!
//! | Setting | hyper's default | Why |
//! | --- | --- | --- |
//! | `enable_connect_protocol` | off | Without it a browser opens an HTTP/1.1 connection for each WebSocket. |
//! | `max_concurrent_streams` | 200 | A WebSocket is a stream until it closes. A client at the limit waits for a stream to end. |
//! | `initial_stream_window_size` | 1 MiB | The bytes that a client may send on one WebSocket before the handler receives them. 64 KiB also limit its throughput to 64 KiB for each round trip. |
//! | `initial_connection_window_size` | 1 MiB | The same for all streams of a connection together. With hyper's defaults, *one* handler that does not receive can block all other requests and WebSockets of its client. Best: the sum of all stream windows, and at least 4 MiB. |
//! | `max_send_buf_size` | 400 KiB | The bytes that hyper buffers for each stream, besides [`Config::max_outbox`](crate::Config::max_outbox), if a client grants large windows and does not read its connection. |
//!
//! `axum::serve` with axum's feature `http2` enables extended CONNECT, and keeps hyper's defaults for the rest. It has
//! no TLS, so it is for a proxy that ends TLS and forwards HTTP/2 ([behind a proxy](super::proxies)).
//!
//! # TLS
//!
//! Browsers use HTTP/2 only over TLS, and only if the server offers `h2` by ALPN. `examples/http2.rs` is such a
//! server with rustls. `examples/production.rs` has TLS and HTTP/1.1 only: it offers `http/1.1`, and needs no feature.
//!
//! - The server has to set `TCP_NODELAY` on its TCP streams. The crate sets it only if the stream has no TLS.
//! - hyper needs `serve_connection_with_upgrades`, and a timer: without one it waits forever for the head of a request.
//! - The end of a TLS connection is not noticed while the handler takes no messages
//!   ([`Config::receive_timeout`](crate::Config::receive_timeout)). Slow readers get more time
//!   ([`Config::write_timeout`](crate::Config::write_timeout)).
//!
//! # Requests
//!
//! - An extended CONNECT for `websocket` goes through the same rules as a handshake of HTTP/1.1, and is answered 200.
//! - An extended CONNECT for another protocol is answered 501.
//! - A plain CONNECT goes to the inner service. Without the feature `http2` all three do.
//! - An extended CONNECT with a `content-length` is refused with 400, because h2 would apply that length to the bytes
//!   of the WebSocket. If the length is not 0, hyper 1.12 ends the whole connection with all its WebSockets, before
//!   this crate sees the request.
//! - Clients may send each cookie in its own `cookie` field. The crate joins these fields into one before it calls
//!   [`Handler::accept`](crate::Handler::accept).
//! - [`WebSocket::request`](crate::WebSocket::request) has the HTTP version.
//! - In axum, a route for [`Upgrade`](crate::axum::Upgrade) is made with `any`: `get` does not match a CONNECT.
//!
//! # The end of a stream
//!
//! If the client resets a stream, its WebSocket ends at once. While nothing is read from the stream, this takes up to
//! a second. If a client takes no data on a stream, that stream is dropped after
//! [`Config::write_timeout`](crate::Config::write_timeout), and the other streams of its connection go on.
//!
//! [`Http2Executor`](crate::Http2Executor) resets a dropped stream with CANCEL. If its Close was already written, the
//! reset follows one second later. There is no reset if a layer answers requests in a spawned task.
//!
//! With hyper-util's `TokioExecutor`, and under `axum::serve`, which has its own executor, hyper ends a dropped stream
//! as if the server had finished. If the client takes no data, hyper buffers up to 64 KiB for it until the client
//! reads, resets the stream, or ends the connection. A graceful shutdown of the server waits for that, so limit it:
//! `timeout(limit, server).await`.
