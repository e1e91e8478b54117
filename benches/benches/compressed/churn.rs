//! Measures the memory of 2,000 mixed connections while some of them are replaced.
//!
//! One in five compresses with context takeover. Each echoes one message of 32 bytes to 64 KiB per second.

use std::{
    env,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinHandle,
    time::{interval, sleep},
};
use tower_websocket::BoxError;
use tower_websocket_benches::cores::Cores;

use crate::{
    KIB, MIB,
    client::{Client, frames, json},
    server::Server,
};

const CONNECTIONS: usize = 2_000;
/// One connection in this many compresses.
const COMPRESSED: usize = 5;
/// The time between two replacements, which replaces a tenth of the connections per minute.
const REPLACED: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_secs(1);
/// The payload sizes of a client's messages, in order.
const LENGTHS: [usize; 8] = [32, 200, KIB, 32, 4 * KIB, 600, 16 * KIB, 64 * KIB];
/// The time between two readings of the memory.
const SAMPLE: Duration = Duration::from_secs(2);
/// One reading in this many is printed.
const PRINTED: usize = 15;
/// The start times in seconds from which the growth is computed: after 120 s every connection has sent all its
/// messages, after 600 s every connection has been replaced once.
const SINCE: [f64; 2] = [120.0, 600.0];

/// Prints the resident memory of the server every 30 s, and its slope at the end.
pub(crate) async fn churn(cores: &Cores, minutes: u64) -> Result<(), BoxError> {
    let program = env::current_exe()?.display().to_string();
    let server = Server::start(cores, &program)?;
    let messages = LENGTHS.map(json);
    let kinds = [
        ("/takeover", frames(&messages, true)?),
        ("/plain", frames(&messages, false)?),
    ];
    let connect = async |index: usize| {
        let [compressed, plain] = &kinds;
        let (path, frames) = match index % COMPRESSED {
            0 => compressed,
            _ => plain,
        };
        let client = Client::open(server.address, path, frames).await?;
        Ok::<_, BoxError>(tokio::spawn(echo(client)))
    };
    let mut connections = Vec::new();
    for index in 0..CONNECTIONS {
        connections.push(connect(index).await?);
    }
    let start = Instant::now();
    let end = Duration::from_secs(60 * minutes);
    let mut replaced = 0;
    let mut samples = Vec::new();
    let (mut replacing, mut sampling) = (interval(REPLACED), interval(SAMPLE));
    while start.elapsed() < end {
        tokio::select! {
            _ = replacing.tick() => {
                let index = replaced * 7 % CONNECTIONS;
                stop(&mut connections[index]).await?;
                connections[index] = connect(index).await?;
                replaced += 1;
            }
            _ = sampling.tick() => {
                let (seconds, mib) = (start.elapsed().as_secs_f64(), mib(server.resident()?));
                if samples.len() % PRINTED == 0 {
                    println!("{seconds:4.0} s: {mib:.1} MiB");
                }
                samples.push((seconds, mib));
            }
        }
    }
    println!("{replaced} replaced");
    for since in SINCE {
        let late: Vec<_> = samples.iter().filter(|(at, _)| *at >= since).collect();
        let hourly = slope(&late) * 3600.0 / (CONNECTIONS as f64 / 1e3);
        println!("growth after {since} s: {hourly:.2} MiB per hour and thousand connections");
    }
    for mut connection in connections {
        stop(&mut connection).await?;
    }
    sleep(PAUSE).await;
    println!("after all have closed: {:.1} MiB", mib(server.resident()?));
    Ok(())
}

async fn echo(mut client: Client) -> Result<(), BoxError> {
    loop {
        client.echo().await?;
        sleep(PAUSE).await;
    }
}

/// Drops a client at any point of its work.
///
/// # Errors
///
/// If the client has failed before.
async fn stop(connection: &mut JoinHandle<Result<(), BoxError>>) -> Result<(), BoxError> {
    connection.abort();
    connection.await.unwrap_or(Ok(()))
}

/// Returns the slope of the least-squares line through the points.
fn slope(points: &[&(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let sum = |value: fn(&(f64, f64)) -> f64| points.iter().copied().map(value).sum::<f64>();
    let (x, y) = (sum(|point| point.0), sum(|point| point.1));
    let (xx, xy) = (
        sum(|point| point.0 * point.0),
        sum(|point| point.0 * point.1),
    );
    (count * xy - x * y) / (count * xx - x * x)
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / MIB as f64
}
