//! Measures servers, or is one; `README.md` says how.

use std::process::ExitCode;

use tower_websocket_benches::{arguments::Arguments, measure, server};

const USAGE: &str = "\
bench [--mode MODES] [--peers NAMES | --shape NUMBERS] [--rounds N] [--seconds S] [--text] [--burst]
      [--into FILE] [--against FIGURES] [--record FIGURES]
bench serve NAME [--workers N] [--event-interval N]
bench count NAME SIZE binary|text BURSTS

MODES  separated by commas: connections x size [x depth] without spaces, as in 100x32, 10x1m or
       1x1kx64, and /N behind it for N connections of HTTP/2 that carry all of them, as in
       100x32/1; or pingpong, pipelined, shapes, h2, upgrades, http, workers, memory,
       instructions, in-memory. All of them by default.
NAMES  separated by commas: raw axum hyper axum-ws hyper-tungstenite fastwebsockets
       tokio-websockets yawc sockudo-ws bun uwebsockets, and a peer's name with -batched behind
       it; and axum-h2 axum-ws-h2 yawc-h2, where messages are sent;
       and shape-1 to shape-8, which --shape names by their numbers, beside raw.
FILE   replaces its tables, each of which is between <!-- table:NAME --> and <!-- /table -->.
FIGURES
       recorded instructions: --record writes them, and the mode instructions compares those
       it counts with others, by default with instructions-5705e9c.tsv.";

fn main() -> ExitCode {
    let done = Arguments::parse(std::env::args().skip(1)).and_then(|arguments| match arguments {
        Arguments::Serve(serve) => server::serve(&serve),
        Arguments::Count(counted) => counted.run(),
        Arguments::Measure(plan) => measure::run(&plan),
        Arguments::Help => {
            println!("{USAGE}");
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
