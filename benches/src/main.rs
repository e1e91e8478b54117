//! Measures servers, or runs one. `README.md` describes it.

use std::process::ExitCode;

use tower_websocket_benches::{arguments::Arguments, measure, server};

const USAGE: &str = "\
bench [--mode MODES] [--peers NAMES | --shape NUMBERS] [--rounds N] [--seconds S] [--text] [--burst]
      [--into FILE] [--against FIGURES] [--record FIGURES]
bench serve NAME [--workers N] [--event-interval N]
bench count NAME SIZE binary|text BURSTS

MODES  separated by commas, by default all groups.
       A mode is CONNECTIONSxSIZE[xDEPTH], such as 100x32, 10x1m or 1x1kx64. With /N, all
       WebSockets share N connections of HTTP/2, such as 100x32/1.
       Groups are pingpong, pipelined, shapes, h2, upgrades, http, workers, two-workers,
       memory, instructions, in-memory and rooms, which is rooms-broadcast, rooms-stopped,
       rooms-send, rooms-publishers and rooms-joins.
NAMES  separated by commas: raw axum hyper axum-ws hyper-tungstenite fastwebsockets
       tokio-websockets yawc sockudo-ws bun uwebsockets; most peers also with the suffix
       -batched; for messages also axum-h2 axum-ws-h2 yawc-h2; and shape-1 to shape-8.
       For rooms-broadcast: room-bare room room-axum-ws room-socketioxide room-bun room-uwebsockets.
       other-NAME is the server NAME of another build of this program, at the path $OTHER.
       --shape 1,7 is short for --peers raw,shape-1,shape-7.
FILE   the file whose tables are replaced. A table is between <!-- table:NAME --> and
       <!-- /table -->.
FIGURES
       recorded instructions. --record writes them. The mode instructions compares with
       those of --against, by default with instructions-5705e9c.tsv.";

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
