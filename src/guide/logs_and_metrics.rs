//! Logs and metrics.
//!
//! ```
//! # #[cfg(feature = "metrics")] {
//! use tower_websocket::{Connections, Echo, WebSocketLayer, metrics::MetricsObserver};
//! use tracing::Level;
//! use tracing_subscriber::{filter::Targets, layer::SubscriberExt};
//!
//! // As `RUST_LOG=info,tower_websocket=debug`. `.init()` instead of the last line installs it.
//! let levels = Targets::new()
//!     .with_default(Level::INFO)
//!     .with_target("tower_websocket", Level::DEBUG);
//! let log = tracing_subscriber::fmt().with_max_level(Level::DEBUG).finish().with(levels);
//! # let _ = log;
//!
//! // To the recorder that is installed, such as that of `metrics-exporter-prometheus`.
//! let connections = Connections::new().observer(MetricsObserver::new());
//! let layer = WebSocketLayer::new(Echo::new()).connections_in(&connections);
//! # }
//! ```
//!
//! `examples/production.rs` does this with Prometheus, a log in JSON and a dashboard for Grafana.
//!
//! # Spans
//!
//! Each connection has a span `websocket` inside of the span of its request. Its fields are `id`, `path` without the
//! query, and `peer` if the layer knows the address
//! ([`peer`](crate::WebSocketLayer::peer), [`max_per_peer`](crate::WebSocketLayer::max_per_peer)).
//! [`make_span`](crate::WebSocketLayer::make_span) makes a span with the user or other fields. The lines of a
//! handler are inside of the span, too.
//!
//! # Lines
//!
//! | Level | Event |
//! | --- | --- |
//! | error | A handler or an observer panicked. The server hands out no connections, or a layer replaces the 101. No address for `max_per_peer`. |
//! | warn | A handler returned an error of its own, went on after its connection was over, or took no messages. No key for `max_per_key`. A layer has `insecure_run_behind_any_response`. |
//! | info | A refused handshake, and a handshake that a proxy has damaged: once a minute for each cause. |
//! | debug | All other refusals. `websocket opened`, and `websocket closed` with `code`, `by`, `clean`, `reason`, `duration_ms`, `messages_received`, `bytes_received`, `messages_sent`, `bytes_sent`. Errors that the peer causes. `members of a room are too slow`, once a second and room, with `room`, `policy`, and what the room has `lost` and `disconnected` since the last such line. |
//!
//! - Events that clients cause are at debug level, or at info level once a minute. But the crate cannot know the cause
//!   of an error of your code, such as a parser's. If the client is at fault, return a
//!   [`CloseFrame`](crate::CloseFrame): it is not logged as a failure.
//! - Payloads, queries, cookies and tokens are never logged. Of the header fields, only `Origin` and `Host` of a
//!   refused page are. Other layers may log more: tower-http's `TraceLayer` logs the query
//!   ([authentication](super::authentication)).
//!
//! # Metrics
//!
//! - The feature `metrics`: the module [`metrics`](crate::metrics) has the table of names and labels.
//! - Without it: [`Connections::counts`](crate::Connections::counts) has totals of open, refused and closed
//!   connections, and the traffic. [`Observer`](crate::Observer) gets an event when a connection opens, closes or is
//!   refused.
//! - [`Connections::iter`](crate::Connections::iter) lists the open connections, with age, traffic, queue and round
//!   trip of each.
//!
//! No message calls an observer. Traffic is reported when a timer of its connection fires, every 20 s by default.
//!
//! # What to watch
//!
//! | Sign | Meaning |
//! | --- | --- |
//! | `closed` by `Local` with 1011 | Handlers fail: look for warnings. |
//! | … with 1013, 1008 or 1009 | Clients exceed [limits](super::limits), or limits are too low. |
//! | `closed` by `Remote` without a code | Networks break, a proxy cuts silent connections, or clients crash. |
//! | `refused` as `too_many_connections` | `max_connections` is reached. |
//! | `refused` as `origin_denied` | Foreign pages, or a proxy that rewrites `Host`. |
//! | `lingering` handlers | They do not notice the end of their connection: [push-only handlers](super::push_only). |
