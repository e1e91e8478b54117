//! Metrics of the connections, through the [`metrics`](https://docs.rs/metrics) crate (feature `metrics`).
//!
//! [`MetricsObserver`] is an [`Observer`] for [`Connections::observer`](crate::Connections::observer). It uses the
//! recorder that the application has installed, such as that of `metrics-exporter-prometheus`.
//!
//! | Metric | Type | Labels | What it counts |
//! | --- | --- | --- | --- |
//! | `websocket_connections` | gauge | | connections that are open |
//! | `websocket_handshakes_total` | counter | `outcome` | handshakes: `accepted`, or the [`HandshakeError::label`](crate::error::HandshakeError::label) of the refusal |
//! | `websocket_closed_total` | counter | `side`, `code` | connections that ended |
//! | `websocket_messages_total` | counter | `direction` | messages |
//! | `websocket_bytes_total` | counter | `direction` | bytes of messages, without frame heads and before compression |
//! | `websocket_handshake_seconds` | histogram | | duration of an accepted handshake |
//! | `websocket_lifetime_seconds` | histogram | | time from the opening to the end of a connection |
//! | `websocket_round_trip_seconds` | histogram | | round trip of a ping of [`Config::keepalive`](crate::Config::keepalive) or [`WebSocket::ping`](crate::WebSocket::ping) |
//! | `websocket_queue_bytes` | histogram | | bytes that wait to be written, whenever traffic of an open connection is counted |
//!
//! - `outcome` has a fixed set of values.
//! - `side` is `local` or `remote`: the side that ended the connection.
//! - `code` is a close code below 3000, or `none` without one. Codes from 3000 on are counted as `other`, because
//!   peers choose them. [`close_code`](MetricsObserver::close_code) counts one of them separately.
//! - `direction` is `received` or `sent`.
//!
//! No label has a path, an address, an origin or a user. Messages and bytes are counted when a timer of their
//! connection fires and at its end ([`Observer::traffic`]). So a scrape may lag behind by
//! [`Config::keepalive`](crate::Config::keepalive), 20 seconds by default. No metric is updated for each message.
//!
//! # Examples
//!
//! ```
//! use tower_websocket::{CloseCode, Connections, metrics::MetricsObserver};
//!
//! let observer = MetricsObserver::new()
//!     .label("service", "chat")
//!     .close_code(CloseCode::of::<4001>());
//! let connections = Connections::new().observer(observer);
//! ```
//!
//! With `metrics-exporter-prometheus`, a scrape has buckets for the histograms only if the builder sets them. The
//! dashboard needs them:
//!
//! ```
//! use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
//!
//! /// Call this before `MetricsObserver::new`, so that the metrics have their descriptions.
//! fn install() -> Result<PrometheusHandle, BuildError> {
//!     let seconds = Matcher::Suffix("_seconds".to_owned());
//!     let bytes = Matcher::Suffix("_queue_bytes".to_owned());
//!     PrometheusBuilder::new()
//!         .set_buckets_for_metric(seconds, &[0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0])?
//!         .set_buckets_for_metric(bytes, &[0.0, 1024.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0])?
//!         .install_recorder()
//! }
//! ```
//!
//! `examples/production.rs` serves the metrics to Prometheus, and `examples/production/dashboard.json` shows them
//! in Grafana.

use std::{
    collections::BTreeSet,
    ptr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::metrics::{
    Key, Label, Level, Metadata, Recorder, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, histogram, with_recorder,
};

use crate::{
    connections::{Connection, Ended, Observer, Refused},
    socket::Traffic,
    words::{CloseCode, Side},
};

const CONNECTIONS: &str = "websocket_connections";
const HANDSHAKES: &str = "websocket_handshakes_total";
const CLOSED: &str = "websocket_closed_total";
const MESSAGES: &str = "websocket_messages_total";
const BYTES: &str = "websocket_bytes_total";
const HANDSHAKE: &str = "websocket_handshake_seconds";
const LIFETIME: &str = "websocket_lifetime_seconds";
const ROUND_TRIP: &str = "websocket_round_trip_seconds";
const QUEUE: &str = "websocket_queue_bytes";

/// An [`Observer`] that records [metrics](self).
///
/// The recorder may be installed later: each event goes to the recorder that is installed at that moment. A later
/// recorder misses earlier events and the descriptions of the metrics. Its gauge is right as soon as a connection
/// opens or ends.
#[derive(Debug, Default)]
#[must_use = "give it to `Connections::observer`"]
pub struct MetricsObserver {
    labels: Vec<Label>,
    codes: BTreeSet<CloseCode>,
    gauge: Mutex<OpenGauge>,
}

/// A clone has the same labels and codes, and has observed no connection yet.
impl Clone for MetricsObserver {
    fn clone(&self) -> Self {
        Self {
            labels: self.labels.clone(),
            codes: self.codes.clone(),
            gauge: Mutex::default(),
        }
    }
}

/// The number of open connections, and how many of them the gauge of the installed recorder counts.
#[derive(Debug, Default)]
struct OpenGauge {
    open: i64,
    recorded: i64,
    /// The address of the recorder that has `recorded`.
    recorder: usize,
}

impl OpenGauge {
    /// Counts a change, and returns by how much the gauge of `recorder` has to change.
    fn change(&mut self, by: i64, recorder: &dyn Recorder) -> f64 {
        let recorder = ptr::from_ref(recorder).cast::<()>() as usize;
        if self.recorder != recorder {
            (self.recorder, self.recorded) = (recorder, 0);
        }
        self.open += by;
        let change = self.open - self.recorded;
        self.recorded = self.open;
        // A count is far below 2^53, so the conversion does not round.
        change as f64
    }
}

impl MetricsObserver {
    /// Makes an observer without additional labels, and describes the metrics to the installed recorder.
    ///
    /// A recorder that is installed later gets no descriptions.
    pub fn new() -> Self {
        describe_gauge!(CONNECTIONS, "WebSockets that are open");
        describe_counter!(HANDSHAKES, "WebSocket handshakes by their outcome");
        describe_counter!(CLOSED, "WebSockets that ended, by side and close code");
        describe_counter!(MESSAGES, "Messages of WebSockets");
        describe_counter!(BYTES, Unit::Bytes, "Bytes of messages of WebSockets");
        describe_histogram!(HANDSHAKE, Unit::Seconds, "Time of accepted handshakes");
        describe_histogram!(LIFETIME, Unit::Seconds, "Lifetime of WebSockets");
        describe_histogram!(ROUND_TRIP, Unit::Seconds, "Round trips of WebSocket pings");
        describe_histogram!(QUEUE, Unit::Bytes, "Bytes that wait to be written");
        Self::default()
    }

    /// Adds a label with a fixed value to all metrics, such as the name of the registry. Default: none.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push(Label::new(name.into(), value.into()));
        self
    }

    /// Counts connections that end with this code under its own number instead of `other`.
    ///
    /// Only codes from 3000 on need this. A peer can send the code, too. Default: none.
    pub fn close_code(mut self, code: CloseCode) -> Self {
        self.codes.insert(code);
        self
    }

    fn labels<const N: usize>(&self, own: [(&'static str, &'static str); N]) -> Vec<Label> {
        let own = own.map(|(name, value)| Label::from_static_parts(name, value));
        self.labels.iter().cloned().chain(own).collect()
    }

    fn change_open(&self, by: i64) {
        let key = Key::from_parts(CONNECTIONS, self.labels([]));
        // One call for both: another recorder may be installed between two.
        with_recorder(|recorder| {
            let gauge = self.gauge.lock();
            let mut gauge = gauge.unwrap_or_else(PoisonError::into_inner);
            let change = gauge.change(by, recorder);
            drop(gauge);
            let metadata = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
            recorder.register_gauge(&key, &metadata).increment(change);
        });
    }

    fn handshake(&self, outcome: &'static str) {
        counter!(HANDSHAKES, self.labels([("outcome", outcome)])).increment(1);
    }

    fn code(&self, code: Option<CloseCode>) -> String {
        match code {
            None => "none".into(),
            Some(code) if code.get() < 3000 || self.codes.contains(&code) => code.to_string(),
            Some(_) => "other".into(),
        }
    }
}

impl Observer for MetricsObserver {
    fn refused(&self, refused: &Refused<'_>) {
        self.handshake(refused.label());
    }

    fn opened(&self, _: &Connection, handshake: Duration) {
        self.handshake("accepted");
        self.change_open(1);
        histogram!(HANDSHAKE, self.labels([])).record(handshake.as_secs_f64());
    }

    fn round_trip(&self, _: &Connection, round_trip: Duration) {
        histogram!(ROUND_TRIP, self.labels([])).record(round_trip.as_secs_f64());
    }

    fn traffic(&self, connection: &Connection, traffic: &Traffic) {
        let received = || self.labels([("direction", "received")]);
        let sent = || self.labels([("direction", "sent")]);
        counter!(MESSAGES, received()).increment(traffic.messages_received());
        counter!(MESSAGES, sent()).increment(traffic.messages_sent());
        counter!(BYTES, received()).increment(traffic.bytes_received());
        counter!(BYTES, sent()).increment(traffic.bytes_sent());
        // At the end the queue of every connection is empty.
        if !connection.is_over() {
            // A size is far below 2^53, so the conversion does not round.
            histogram!(QUEUE, self.labels([])).record(connection.buffered().bytes as f64);
        }
    }

    fn closed(&self, _: &Connection, ended: &Ended) {
        let side = match ended.closed().side() {
            Side::Local => "local",
            Side::Remote => "remote",
        };
        let mut labels = self.labels([("side", side)]);
        let code = self.code(ended.closed().code());
        labels.push(Label::new("code", code));
        counter!(CLOSED, labels).increment(1);
        self.change_open(-1);
        histogram!(LIFETIME, self.labels([])).record(ended.lifetime().as_secs_f64());
    }
}
