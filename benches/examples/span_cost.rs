//! Polls a future in a span as often as the second argument says, to count the instructions of one poll. The first
//! argument is the subscriber: `none`, `registry`, or `example`, which is that of `examples/production.rs`.
//!
//! ```text
//! cargo build --release -p tower-websocket-benches --example span_cost
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/span_cost example 1000
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/span_cost example 11000
//! ```

use std::{
    env,
    future::{Future, poll_fn},
    hint::black_box,
    io,
    pin::pin,
    task::{Context, Poll, Waker},
};

use tracing::{Instrument, Level, info_span};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

fn main() {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some("none") => {}
        Some("registry") => tracing_subscriber::registry().init(),
        Some("example") => {
            let levels = Targets::new()
                .with_default(Level::INFO)
                .with_target("tower_websocket", Level::DEBUG);
            tracing_subscriber::fmt()
                .json()
                .with_max_level(Level::DEBUG)
                .with_writer(io::sink)
                .finish()
                .with(levels)
                .init();
        }
        other => panic!("{other:?} is not none, registry or example"),
    }
    let polls = arguments.next().map(|polls| polls.parse());
    let polls: usize = polls
        .expect("the number of polls")
        .expect("a number of polls");
    let request = info_span!("request", request_id = "proxy-7");
    let span = request.in_scope(|| info_span!("websocket", id = 1, path = "/chat"));
    let future = poll_fn(|_| black_box(Poll::<()>::Pending)).instrument(span);
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        let _ = black_box(future.as_mut().poll(&mut cx));
    }
}
