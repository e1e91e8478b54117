//! The causes of each answer to a handshake, and their solutions.
//!
//! In a browser a page only sees close code 1006, for any cause. The status is in the browser's developer tools,
//! under "Network". The text of the answer gives the cause. `curl` shows it:
//!
//! ```text
//! curl -i --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
//!     -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H 'Origin: https://example.com' \
//!     https://example.com/ws
//! ```
//!
//! With the feature `tracing` the cause is also in the log of the server:
//!
//! - A refusal is logged at info level once a minute for each reason, each status of a handler and each origin (64
//!   origins at most), with its path, status and reason. All other refusals are logged at debug level
//!   (`RUST_LOG=tower_websocket=debug`).
//! - The same holds for a handshake that a proxy has turned into a plain request.
//! - A handshake that the layer passes to the inner service is logged at debug level.
//!
//! For the errors of this crate's client (feature `client`), see
//! [its documentation](../../client/index.html#when-the-client-does-not-connect).
//!
//! # 403
//!
//! `pages of https://a.example may not connect to b.example`: the origin of the page is not the host of the
//! server. The text has both names.
//!
//! | Cause | What to do |
//! | --- | --- |
//! | The second name is an internal host or port: a proxy rewrites `Host`. | Let the proxy pass `Host` on (nginx: `proxy_set_header Host $http_host;`), or trust the proxy with [`OriginPolicy::x_forwarded_host`](crate::OriginPolicy::x_forwarded_host). |
//! | The second name has no port, but the address in the browser has one: nginx's `$host` omits it. | `proxy_set_header Host $http_host;`, and `$http_host` also in `X-Forwarded-Host`. |
//! | `X-Forwarded-Host` lists several hosts: there are more proxies than trusted ones. | Set their number ([`TrustedProxies::number`](crate::TrustedProxies::number)), or check their addresses ([`TrustedProxies::peers`](crate::TrustedProxies::peers)). |
//! | The front end has another host or port. | [`OriginPolicy::allow`](crate::OriginPolicy::allow). During development: [`allow_loopback`](crate::OriginPolicy::allow_loopback). |
//! | A device, an application or a browser extension sends `file://`, or its own scheme. | `allow("file://")`, `allow("moz-extension://*")`. |
//! | `null`: the page was opened from a disk, or is in a frame with `sandbox`. | Serve it over HTTP. [`insecure_null`](crate::OriginPolicy::insecure_null) allows the pages of every site. |
//! | `the forwarded host is malformed`: a proxy sends a [`Forwarded`](crate::OriginPolicy::forwarded) that breaks RFC 7239, or a client sends an unclosed quoted string. | Let the outermost proxy replace the field. |
//! | Both names are the same, and [`OriginPolicy::hosts`](crate::OriginPolicy::hosts) is set. | Add the name there, if it is a name of the server. |
//!
//! Any other text is from an outer layer, or from the handler's [`Refusal`](crate::Refusal).
//!
//! # 404
//!
//! The request did not reach a layer, or the layer passed it on. If the log has no line, it reached no layer: the
//! route has another path (`/ws/` is not `/ws`), or see
//! [Places in axum's `Router`](super::layers#places-in-axums-router). If the log has a line:
//!
//! | Cause | What to do |
//! | --- | --- |
//! | The layer has another [`path`](crate::WebSocketLayer::path): `/ws/` is not `/ws`, and a nested router removes its prefix. | Use the path in the log line: the layer sees that one. |
//! | A proxy has dropped `Upgrade`, or uses HTTP/1.0. Logged at info level. | See [behind a proxy](super::proxies). |
//! | An extended CONNECT over HTTP/2, but the feature `http2` is off. Logged once at info level. | Turn the feature on, or switch extended CONNECT off in the server. |
//! | The layer is switched off, or [`matching`](crate::WebSocketLayer::matching) returned false. | |
//!
//! `no websocket is served at /ws` is the answer of a [`WebSocketService`](crate::WebSocketService) without an
//! inner service, to a valid handshake for another path.
//!
//! # 426
//!
//! | Text | Cause |
//! | --- | --- |
//! | `this address speaks websocket` | A plain request, for example from a browser that opens the address. |
//! | `… has no Upgrade: websocket`, `… came over HTTP/1.0` | A proxy: see [behind a proxy](super::proxies). |
//! | `sec-websocket-version 13 is the only one supported` | A client from before 2011, or a hand-written request. |
//! | `websockets are not served over HTTP/2 here` | The feature `http2` is off. |
//!
//! # 431
//!
//! `target and header fields have 20123 bytes, 16384 are allowed; cookie has most`: raise
//! [`WebSocketLayer::max_head_size`](crate::WebSocketLayer::max_head_size), or make the named field smaller.
//!
//! A 431 without a text is the HTTP server's: hyper accepts 100 fields, and over HTTP/2 16 KiB
//! (`max_header_list_size`). Proxies have their own limits (nginx: `large_client_header_buffers`, haproxy:
//! `tune.bufsize`).
//!
//! # 1006
//!
//! The connection failed or ended without a Close. Browsers report 1006 for every status on this page. If the
//! status was 101:
//!
//! | Cause | What to do |
//! | --- | --- |
//! | The page offered subprotocols, and none was chosen. Browsers then close at once. Logged at debug level. | [`WebSocketLayer::subprotocol`](crate::WebSocketLayer::subprotocol). |
//! | An outer layer wraps the 101's body, or the server does not hand out its connections. The connection is dropped at once. Logged at error level. | See [layers](super::layers#layers-outside); hyper needs `with_upgrades`. |
//! | A proxy cuts silent connections, usually after a minute. | The default [`Config::keepalive`](crate::Config::keepalive) pings after 20 s of silence. nginx: `proxy_read_timeout`; haproxy: `timeout tunnel`. |
//! | The network failed, or the process was killed. | |
//!
//! To show a page why it is refused, use [`Refusal::close`](crate::Refusal::close) with a code of the application.
//! The handshake then succeeds, so a program that reconnects has to check that code.
//!
//! # Others
//!
//! | Status | Cause |
//! | --- | --- |
//! | 400 `connection does not name upgrade` | A proxy passes on `Upgrade` but not `Connection`: see [behind a proxy](super::proxies). |
//! | 400 | The request breaks the rule of the handshake that the text names, or [a subprotocol is required](crate::WebSocketLayer::require_subprotocol). |
//! | 401 and others | The handler's [`Refusal`](crate::Refusal), or an outer layer. |
//! | 405 | The method is not GET. |
//! | 429 | [`max_per_key`](crate::WebSocketLayer::max_per_key), or [`max_per_peer`](crate::WebSocketLayer::max_per_peer). Behind a proxy all peers have the proxy's address, unless your function reads the proxy's header field. |
//! | 500 | A panic in `accept`, or in a function given to the layer or its origin policy; no address for `max_per_peer`; or a server that does not hand out its connections. Logged at error level. |
//! | 501 | An extended CONNECT for another protocol. |
//! | 503 | [`Connections::max_connections`](crate::Connections::max_connections) are open, the server shuts down, or `accept` took too long. |
