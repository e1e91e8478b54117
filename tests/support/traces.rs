//! The spans and events of a test, recorded by a subscriber of `tracing` that takes everything.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{cell::RefCell, convert::Infallible, error::Error, fmt::Write, sync::Once};

use http::Request;
use hyper::body::Incoming;
use tower::{Service, service_fn};
use tower_websocket::{Handler, WebSocketLayer};
use tracing::{
    Event, Instrument, Level, Metadata, Subscriber,
    field::{Field, Visit},
    info_span,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::pipe::Served;

#[derive(Clone, Debug)]
pub(crate) enum Trace {
    Began {
        span: u64,
        name: &'static str,
        parent: Option<u64>,
        text: String,
    },
    Event {
        level: Level,
        text: String,
        /// The spans around it, from the inside.
        scope: Vec<u64>,
    },
    Ended {
        span: u64,
    },
}

thread_local! {
    /// The traces of this thread, on which the tasks of its test run as well.
    static TRACES: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

fn record(trace: Trace) {
    // Spans may end while the thread ends.
    let _ = TRACES.try_with(|all| all.borrow_mut().push(trace));
}

/// Clears the traces of this thread, and records from now on.
///
/// There is one subscriber for all threads: a thread without a subscriber could make `tracing` cache
/// that an event has no listener.
pub(crate) fn listen() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing_subscriber::registry().with(Recorder).init());
    TRACES.take();
}

/// Returns all traces since [`listen`].
pub(crate) fn traces() -> Vec<Trace> {
    TRACES.with_borrow(Vec::clone)
}

struct Recorder;

/// Formats fields in every way that a subscriber may use, and errors with all their sources.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} {value:#?} ").unwrap();
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut cause = Some(value);
        while let Some(error) = cause {
            write!(self.0, "{field}={error} {error:?} ").unwrap();
            cause = error.source();
        }
    }
}

fn text(metadata: &Metadata<'_>, record: impl FnOnce(&mut Fields)) -> String {
    let mut fields = Fields(format!("{} {} ", metadata.target(), metadata.name()));
    record(&mut fields);
    fields.0
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        record(Trace::Began {
            span: id.into_u64(),
            name: span.name(),
            parent: span.parent().map(|parent| parent.id().into_u64()),
            text: text(attributes.metadata(), |fields| attributes.record(fields)),
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        record(Trace::Event {
            level: *span.metadata().level(),
            text: text(span.metadata(), |fields| values.record(fields)),
            scope: Vec::new(),
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let scope = context.event_scope(event).into_iter().flatten();
        record(Trace::Event {
            level: *event.metadata().level(),
            text: text(event.metadata(), |fields| event.record(fields)),
            scope: scope.map(|span| span.id().into_u64()).collect(),
        });
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let span = id.into_u64();
        record(Trace::Ended { span });
    }
}

/// Returns the spans with this name, each with its parent.
pub(crate) fn spans(wanted: &str) -> Vec<(u64, Option<u64>)> {
    let began = |trace| match trace {
        Trace::Began {
            span, name, parent, ..
        } if name == wanted => Some((span, parent)),
        _ => None,
    };
    traces().into_iter().filter_map(began).collect()
}

/// Returns whether a span has ended.
pub(crate) fn has_ended(wanted: u64) -> bool {
    let is_end = |trace: &Trace| matches!(trace, Trace::Ended { span } if *span == wanted);
    traces().iter().any(is_end)
}

/// Returns the events with these words, each with its level and the spans around it.
pub(crate) fn events(words: &str) -> Vec<(Level, Vec<u64>)> {
    let named = |trace| match trace {
        Trace::Event { level, text, scope } if text.contains(words) => Some((level, scope)),
        _ => None,
    };
    traces().into_iter().filter_map(named).collect()
}

/// Returns the layer's service inside a layer that makes a span for each request.
pub(crate) fn in_request_span<H: Handler>(layer: &WebSocketLayer<H>) -> impl Served {
    let inner = layer.clone().into_service();
    service_fn(move |request: Request<Incoming>| {
        let span = info_span!("request");
        let mut inner = inner.clone();
        let answer = async move { Ok::<_, Infallible>(inner.call(request).await.unwrap()) };
        answer.instrument(span)
    })
}
