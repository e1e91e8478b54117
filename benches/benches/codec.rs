//! Measures the time of an engine for a message, without a network.
//!
//! ```text
//! cargo bench -p tower-websocket-benches --bench codec
//! ```

use divan::{Bencher, counter::ItemsCount};
use tower_websocket_benches::{
    load::frames::{Answer, Shape},
    subject::{Engine, Subject},
};

fn main() {
    divan::main();
}

const SIZES: [usize; 4] = [32, 1 << 10, 16 << 10, 1 << 20];

fn echo(bencher: Bencher, engine: Engine, size: usize, text: bool) {
    let shape = Shape {
        size,
        text,
        websocket: true,
        answer: Answer::Same,
    };
    let subject = Subject::new(engine, shape).expect("a runtime can be built");
    // For small messages: as many as arrive in one read.
    let times = (64 * 1024 / size).clamp(1, 256);
    bencher
        .counter(ItemsCount::new(times))
        .bench_local(|| subject.echo(times));
}

#[divan::bench(args = SIZES)]
fn layer_binary(bencher: Bencher, size: usize) {
    echo(bencher, Engine::Layer, size, false);
}

#[divan::bench(args = SIZES)]
fn layer_text(bencher: Bencher, size: usize) {
    echo(bencher, Engine::Layer, size, true);
}

#[divan::bench(args = SIZES)]
fn from_io_binary(bencher: Bencher, size: usize) {
    echo(bencher, Engine::FromIo, size, false);
}

#[divan::bench(args = SIZES)]
fn from_io_text(bencher: Bencher, size: usize) {
    echo(bencher, Engine::FromIo, size, true);
}

#[divan::bench(args = SIZES)]
fn fastwebsockets_binary(bencher: Bencher, size: usize) {
    echo(bencher, Engine::Fastwebsockets, size, false);
}

#[divan::bench(args = SIZES)]
fn tokio_websockets_batched_binary(bencher: Bencher, size: usize) {
    echo(bencher, Engine::TokioWebsockets, size, false);
}

#[divan::bench(args = SIZES)]
fn sockudo_ws_batched_binary(bencher: Bencher, size: usize) {
    echo(bencher, Engine::Sockudo, size, false);
}
