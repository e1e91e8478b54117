//! Helpers that the test files share. Each file has `mod support;` and uses a part of them.
//!
//! | To | use |
//! | --- | --- |
//! | serve in memory, where the clock can be stopped | [`pipe::serve`], [`pipe::serve_on`] for a given stream |
//! | serve on a port of the loopback interface | [`tcp::serve`], which takes an axum `Router` as well |
//! | make both sides of TLS | [`tls`] |
//! | serve over HTTP/2 | [`http2::serve`] |
//! | open a WebSocket | [`pipe::open`], [`pipe::attach`], [`tcp::open`], [`http2::Session::open`] |
//! | ask for one that may be refused | [`pipe::ask`]; with a head of any form [`raw`] |
//! | have a socket without HTTP | [`pipe::socket`] |
//! | read and write frames as bytes | [`wire`] |
//! | break a rule of the protocol | [`violations`] |
//! | connect this crate's client to any service | `tower_websocket::testing`, as users do, with `client` |
//! | connect this crate's client to a scripted server | `server` |
//! | script a stream, and count its calls | [`script`] |
//! | interfere with a stream that works | [`tap`] |
//! | hand out handlers | [`handlers`] |
//! | refuse and end connections in every way | [`by_path`] |
//! | poll without a runtime, and count wakeups | [`wakers`] |
//! | capture the log | `log` |
//! | record spans and events | `traces` |
//! | read the log in the formats of users | `formats` |
//! | read metrics | [`samples`] |
//! | shut down | [`shutdown`] |
//! | measure memory | [`memory`], with the streams of [`stream`] |
//! | join rooms with a history | `resume` |
//! | repeat random sessions | [`schedule`] |
//!
//! `host` has clients for tests of a whole server, `outlive` the table of ends.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod by_path;
#[cfg(feature = "test-util")]
pub(crate) mod client;
#[cfg(feature = "tracing")]
pub(crate) mod formats;
pub(crate) mod handlers;
pub(crate) mod http2;
#[cfg(feature = "tracing")]
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod pipe;
pub(crate) mod raw;
#[cfg(feature = "hub")]
pub(crate) mod resume;
pub(crate) mod samples;
pub(crate) mod schedule;
pub(crate) mod script;
#[cfg(feature = "client")]
pub(crate) mod server;
pub(crate) mod shutdown;
pub(crate) mod stream;
pub(crate) mod tap;
pub(crate) mod tcp;
pub(crate) mod tls;
#[cfg(feature = "tracing")]
pub(crate) mod traces;
pub(crate) mod violations;
pub(crate) mod wakers;
pub(crate) mod wire;

use std::{
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::yield_now, time::timeout};

/// Waits for at most 10 s, then panics with the caller's location.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match timeout(Duration::from_secs(10), future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: nothing happened for 10 s"),
        }
    }
}

/// Lets the other tasks of this thread run until they wait.
pub(crate) async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Waits in real time until at most this many tasks of the runtime are left.
pub(crate) async fn until_tasks(tasks: usize) {
    let alive = || Handle::current().metrics().num_alive_tasks();
    let start = Instant::now();
    while alive() > tasks {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{} tasks are left",
            alive()
        );
        yield_now().await;
    }
}
