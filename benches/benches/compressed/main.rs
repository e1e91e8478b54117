//! Measures compressed messages: rates, the delay that large messages cause for other connections, and the
//! memory of connections that come and go.
//!
//! ```text
//! cargo bench -p tower-websocket-benches --bench compressed                # rates and latency
//! AGAINST=/path/to/another/build/of/it cargo bench -p tower-websocket-benches --bench compressed
//! cargo bench -p tower-websocket-benches --bench compressed -- churn 12    # minutes
//! ```
//!
//! The server is a separate process on the first core. The clients are on the second core. `AGAINST` is a
//! build of this program at another commit, whose server takes turns with the server of this build.

mod churn;
mod client;
mod latency;
mod rates;
mod server;

use std::env;

use tower_websocket::BoxError;
use tower_websocket_benches::cores::Cores;

use crate::{
    latency::{LARGE, SMALL, latency},
    rates::{CONNECTIONS, rates},
    server::{Server, serve},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn main() -> Result<(), BoxError> {
    // cargo adds the argument `--bench`.
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

/// Measures `rates` or `latency`, as `wanted` says, or else both.
async fn measure(cores: &Cores, wanted: Option<&str>) -> Result<(), BoxError> {
    let mut programs = vec![env::current_exe()?.display().to_string()];
    programs.extend(env::var("AGAINST"));
    if wanted != Some("latency") {
        println!("messages per second, {CONNECTIONS} connections");
        for path in ["/alone", "/takeover"] {
            for len in [KIB, 64 * KIB] {
                rates(cores, &programs, path, len).await?;
            }
        }
    }
    if wanted == Some("rates") {
        return Ok(());
    }
    println!("round trips of {SMALL} connections with 32 bytes, in milliseconds");
    for (large, len, what) in [
        (0, 0, "no large messages"),
        (LARGE, 64 * MIB, "with 4 x 64 MiB of zeros"),
    ] {
        for path in ["/alone", "/takeover"] {
            for (index, program) in programs.iter().enumerate() {
                let server = Server::start(cores, program)?;
                let [middle, high, most, echoed] = latency(&server, path, large, len).await?;
                println!(
                    "{what}, {path}{}: p50 {middle:.1}, p99 {high:.1}, maximum {most:.1}, large echoed {echoed}",
                    ["", ", against"][index]
                );
            }
        }
    }
    Ok(())
}
