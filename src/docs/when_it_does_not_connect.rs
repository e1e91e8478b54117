//! What each answer to a handshake means, and what to do.
//!
//! A browser shows a page no more than close code 1006 for all of it. The status is in the browser's
//! developer tools, under "Network". The cause is in the text of the answer, which `curl` shows:
//!
//! ```text
//! curl -i --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
//!     -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H 'Origin: https://example.com' \
//!     https://example.com/ws
//! ```
//!
//! And it is in the log of the server, by the feature `tracing`. Each refusal is logged: at info level once a
//! minute for each reason, each status of a handler and each origin (64 origins at most), and otherwise at debug
//! level (`RUST_LOG=tower_websocket=debug`). So is a handshake of which a proxy has made a plain request. A
//! handshake that passes by the layer is logged at debug level.
//!
//! What this crate's own client says (feature `client`), and what to do, is in
//! [its documentation](../../client/index.html#when-the-client-does-not-connect).
//!
//! # 403
//!
//! `pages of https://a.example may not connect to b.example`: the page's origin is not that of the server.
//! The text has both.
//!
//! | Cause | What to do |
//! | --- | --- |
//! | The second name is the upstream's or a port that nobody types: a proxy rewrites `Host`. | Have it pass `Host` on (nginx: `proxy_set_header Host $http_host;`), or name the proxy by [`OriginPolicy::x_forwarded_host`](crate::OriginPolicy::x_forwarded_host). |
//! | The second name has no port, and the address in the browser has one: nginx's `$host` leaves it out. | `proxy_set_header Host $http_host;`, and `$http_host` also in `X-Forwarded-Host`. |
//! | `X-Forwarded-Host` lists several hosts: there are more proxies than are trusted. | Trust as many ([`TrustedProxies::number`](crate::TrustedProxies::number)), or list their addresses. |
//! | The front end has another host or port. | [`OriginPolicy::allow`](crate::OriginPolicy::allow); while you develop, [`allow_loopback`](crate::OriginPolicy::allow_loopback). |
//! | A device, an application or an extension sends `file://`, or a scheme of its own. | `allow("file://")`, `allow("moz-extension://*")`. |
//! | `null`: the page was opened from a disk, or is in a frame with `sandbox`. | Serve it over HTTP. [`insecure_null`](crate::OriginPolicy::insecure_null) lets everybody in. |
//! | `the forwarded host is malformed`: a proxy writes [`Forwarded`](crate::OriginPolicy::forwarded) otherwise than RFC 7239 asks, or a client left a quoted string open. | Have the outermost proxy replace the field. |
//! | Both names are the same, and [`OriginPolicy::hosts`](crate::OriginPolicy::hosts) is set. | Add the name there, if it is the server's. |
//!
//! Another text is an outer layer's, or the handler's own [`Refusal`](crate::Refusal).
//!
//! # 404
//!
//! The handshake was not for the layer, or did not look like one. Without a line in the log no layer was
//! reached: the route has another path (`/ws/` is not `/ws`), or see
//! [Places in axum's `Router`](super::layers#places-in-axums-router). With a line:
//!
//! | Cause | What to do |
//! | --- | --- |
//! | Another [`path`](crate::WebSocketLayer::path) of the layer: `/ws/` is not `/ws`, and a nested router has taken its prefix away. | The path that the layer sees is in the line. |
//! | A proxy has dropped `Upgrade`, or speaks HTTP/1.0. At info level. | See [below](#behind-a-proxy). |
//! | An extended CONNECT over HTTP/2, and the feature `http2` is off. | Turn it on, or have the server not invite to it. It is told once at info level. |
//! | The layer is switched off, or [`matching`](crate::WebSocketLayer::matching) is false. | |
//!
//! `no websocket is served at /ws` comes from a [`WebSocketService`](crate::WebSocketService) without an
//! inner one, for a correct handshake that is not its own.
//!
//! # 426
//!
//! | Text | Cause |
//! | --- | --- |
//! | `this address speaks websocket` | A plain request, such as a browser's that opens the address. |
//! | `… has no Upgrade: websocket`, `… came over HTTP/1.0` | A proxy: see [below](#behind-a-proxy). |
//! | `sec-websocket-version 13 is the only one supported` | A client of before 2011, or a request by hand. |
//! | `websockets are not served over HTTP/2 here` | The feature `http2` is off. |
//!
//! # 431
//!
//! `target and header fields have 20123 bytes, 16384 are allowed; cookie has most`: raise
//! [`WebSocketLayer::max_head_size`](crate::WebSocketLayer::max_head_size), or make the named field smaller.
//! Without a text it is the server's: hyper takes 100 fields, and over HTTP/2 16 KiB
//! (`max_header_list_size`). Proxies have limits of their own (nginx: `large_client_header_buffers`,
//! haproxy: `tune.bufsize`).
//!
//! # 1006
//!
//! The connection failed or ended without a Close. It is what browsers say of every status on this page. If
//! the status was 101:
//!
//! | Cause | What to do |
//! | --- | --- |
//! | The page offered subprotocols, and none was chosen. Browsers then give up at once; a line at debug level says so. | [`WebSocketLayer::subprotocol`](crate::WebSocketLayer::subprotocol). |
//! | An outer layer wraps the 101's body, or the server does not hand out its connections: dropped at once, with a line at error level. | See [layers](super::layers#layers-outside); hyper needs `with_upgrades`. |
//! | A proxy cuts silent connections, usually after a minute. | The default [`Config::keepalive`](crate::Config::keepalive) pings after 20 s of silence. nginx: `proxy_read_timeout`; haproxy: `timeout tunnel`. |
//! | The network is gone, or the process was killed. | |
//!
//! A page that has to know why it is refused is told by [`Refusal::close`](crate::Refusal::close), with a
//! code of its own. A program that connects again has to look at that code, since its handshake succeeds.
//!
//! # Others
//!
//! | Status | Cause |
//! | --- | --- |
//! | 400 `connection does not name upgrade` | A proxy sends `Upgrade` on and `Connection` not: see [below](#behind-a-proxy). |
//! | 400 | The request breaks a rule of the handshake, which the text names; or [a subprotocol is required](crate::WebSocketLayer::require_subprotocol). |
//! | 401 and others | The handler's [`Refusal`](crate::Refusal), or an outer layer. |
//! | 405 | The method is not GET. |
//! | 429 | [`max_per_key`](crate::WebSocketLayer::max_per_key), or [`max_per_peer`](crate::WebSocketLayer::max_per_peer): behind a proxy all peers have its address, unless your function reads what the proxy says. |
//! | 500 | A panic in `accept`, or in a function given to the layer or its origin policy; no address for `max_per_peer`; or a server that does not promise its connections. With a line at error level. |
//! | 501 | An extended CONNECT for another protocol. |
//! | 503 | [`Connections::max_connections`](crate::Connections::max_connections) are open, the server shuts down, or `accept` took too long. |
//!
//! # Behind a proxy
//!
//! A proxy has to send `Upgrade` and `Connection` on, to speak HTTP/1.1, and best to leave `Host` as it is.
//! haproxy does all of it by itself. nginx needs these lines:
//!
//! ```text
//! location /ws {
//!     proxy_pass http://127.0.0.1:3000;
//!     proxy_http_version 1.1;
//!     proxy_set_header Upgrade $http_upgrade;
//!     proxy_set_header Connection "upgrade";
//!     proxy_set_header Host $http_host;
//!     proxy_read_timeout 1h;
//! }
//! ```
