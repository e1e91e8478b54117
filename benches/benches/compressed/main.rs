//! Compressed messages: how many a second, what large ones do to the connections beside them, and what
//! connections that come and go leave in memory.
//!
//! ```text
//! cargo bench -p tower-websocket-benches --bench compressed                # rates and latency
//! AGAINST=/path/to/another/build/of/it cargo bench -p tower-websocket-benches --bench compressed
//! cargo bench -p tower-websocket-benches --bench compressed -- churn 12    # minutes
//! ```
//!
//! The server is a process of its own on the first core, the clients are on the second one. `AGAINST` is
//! this program as another commit builds it, whose server takes turns with this one's.

mod churn;
mod client;
mod latency;
mod rates;
mod server;

use std::env;

use tower_websocket::BoxError;
use tower_websocket_benches::cores::Cores;

use crate::{
    latency::{LARGE, OTHERS, latency},
    rates::{CONNECTIONS, rates},
    server::{Server, serve},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn main() -> Result<(), BoxError> {
    // cargo adds one of its own.
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.next().as_deref() {
        Some("serve") => runtime.block_on(serve()),
        Some("churn") => {
            let minutes = arguments.next().map_or(Ok(12), |minutes| minutes.parse())?;
            runtime.block_on(churn::churn(&Cores::pin(), minutes))
        }
        wanted => {
            let cores = Cores::pin();
            runtime.block_on(measure(&cores, wanted))
        }
    }
}

/// Measures what is `wanted`, `rates` or `latency`, or both.
async fn measure(cores: &Cores, wanted: Option<&str>) -> Result<(), BoxError> {
    let mut programs = vec![env::current_exe()?.display().to_string()];
    programs.extend(env::var("AGAINST"));
    if wanted != Some("latency") {
        println!("messages a second, {CONNECTIONS} connections");
        for path in ["/alone", "/takeover"] {
            for len in [KIB, 64 * KIB] {
                rates(cores, &programs, path, len).await?;
            }
        }
    }
    if wanted == Some("rates") {
        return Ok(());
    }
    println!("round trips of {OTHERS} connections with 32 bytes, in milliseconds");
    for (large, len, what) in [
        (0, 0, "alone"),
        (LARGE, 64 * MIB, "beside 4 x 64 MiB of zeros"),
    ] {
        for path in ["/alone", "/takeover"] {
            for (index, program) in programs.iter().enumerate() {
                let server = Server::start(cores, program)?;
                let [middle, high, most, echoed] = latency(&server, path, large, len).await?;
                println!(
                    "{what}, {path}{}: p50 {middle:.1}, p99 {high:.1}, most {most:.1}, large echoed {echoed}",
                    ["", ", against"][index]
                );
            }
        }
    }
    Ok(())
}
