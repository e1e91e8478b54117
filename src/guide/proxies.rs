//! Behind nginx, haproxy or Caddy.
//!
//! A proxy has to do three things: pass on `Upgrade` and `Connection`, speak HTTP/1.1 to the server, and keep `Host`.
//! It should not cut a connection that is silent for less than 20 s, because the server then pings
//! ([`Config::keepalive`](crate::Config::keepalive)).
//!
//! # nginx
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
//!
//! `$http_host` has the port of the address in the browser, `$host` has not. nginx cuts a connection on which the
//! server sends nothing for `proxy_read_timeout`, 60 s by default.
//!
//! # haproxy
//!
//! ```text
//! defaults
//!   mode http
//!   timeout connect 5s
//!   timeout client 30s
//!   timeout server 30s
//!   timeout tunnel 1h
//!
//! frontend plain
//!   bind :80
//!   default_backend server
//! backend server
//!   server server 127.0.0.1:3000
//! ```
//!
//! haproxy passes on the fields and keeps `Host` by default. `timeout tunnel` applies after the 101. Without it, the
//! timeouts of client and server apply. To keep WebSockets of HTTP/2 clients on HTTP/2
//! ([settings of the server](super::http2)): `server server 127.0.0.1:3000 proto h2 ws h2`.
//!
//! # Caddy
//!
//! This configuration is not tested:
//!
//! ```text
//! example.com {
//!     reverse_proxy /ws 127.0.0.1:3000
//! }
//! ```
//!
//! Caddy passes on the fields and keeps `Host` by default. When its configuration is reloaded, it closes the
//! WebSockets, unless `stream_close_delay` lets them go on for a while.
//!
//! # If the proxy rewrites `Host`
//!
//! Pages of your own site are then refused with 403. Trust the field in which the proxy sends the host:
//!
//! ```
//! use tower_websocket::{Echo, OriginPolicy, TrustedProxies, WebSocketLayer};
//!
//! let policy = OriginPolicy::same_host().x_forwarded_host(TrustedProxies::number(1));
//! let layer = WebSocketLayer::new(Echo::new()).origin(policy);
//! ```
//!
//! | | nginx | haproxy |
//! | --- | --- | --- |
//! | [`x_forwarded_host`](crate::OriginPolicy::x_forwarded_host) | `proxy_set_header X-Forwarded-Host $http_host;` | `http-request set-header X-Forwarded-Host %[req.hdr(host)]` |
//! | [`forwarded`](crate::OriginPolicy::forwarded) (RFC 7239) | `proxy_set_header Forwarded 'host="$http_host"';` | `http-request set-header Forwarded host=\"%[req.hdr(host)]\"` |
//! | two proxies: the inner one appends | `proxy_set_header X-Forwarded-Host "$http_x_forwarded_host, $http_host";` | |
//!
//! Only the proxy may reach the server: any other client can write these fields itself. For a port that others reach
//! too, [`TrustedProxies::peers`](crate::TrustedProxies::peers) takes a function that checks the address of the peer.
//!
//! # The address of the client
//!
//! All connections have the proxy's address. To limit the connections of a client, read its address from a field that
//! the proxy overwrites (nginx: `proxy_set_header X-Real-IP $remote_addr;`):
//!
//! ```
//! use tower_websocket::{Echo, WebSocketLayer};
//!
//! let layer = WebSocketLayer::new(Echo::new()).max_per_peer(10, |request| {
//!     request.headers.get("x-real-ip")?.to_str().ok()?.parse().ok()
//! });
//! ```
//!
//! # Tested
//!
//! `tests/proxies/run` tests `examples/behind_a_proxy.rs` behind nginx and haproxy: their configurations above
//! without the line for `X-Real-IP`, a proxy that rewrites `Host`, two proxies, heads that are too large, and a dropped
//! `Upgrade`. [When it does not connect](super::when_it_does_not_connect) lists the causes of failures.
