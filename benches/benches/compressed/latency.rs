//! Measures how large messages delay the messages of other connections.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_websocket::BoxError;

use crate::{
    client::{Client, frames},
    server::Server,
};

/// The number of connections with large messages.
pub(crate) const LARGE: usize = 4;
/// The number of connections with small messages.
pub(crate) const SMALL: usize = 200;
/// The time between two small messages of a connection.
const PAUSE: Duration = Duration::from_millis(20);
const DURATION: Duration = Duration::from_secs(10);

/// Returns the median, the 99th percentile and the maximum in milliseconds, and the number of large messages
/// that were echoed.
pub(crate) async fn latency(
    server: &Server,
    path: &str,
    large: usize,
    len: usize,
) -> Result<[f64; 4], BoxError> {
    let mut tasks = JoinSet::new();
    let zeros = frames(&[vec![0; len]], true)?;
    let small = frames(&[vec![b'x'; 32]], true)?;
    for _ in 0..large {
        let mut client = Client::open(server.address, path, &zeros).await?;
        tasks.spawn(async move {
            let start = Instant::now();
            let mut echoed = 0;
            while start.elapsed() < DURATION {
                match timeout(DURATION, client.echo()).await {
                    Ok(first) => first?,
                    Err(_) => break,
                };
                echoed += 1;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>((echoed, Vec::new()))
        });
    }
    for number in 0..SMALL {
        let mut client = Client::open(server.address, path, &small).await?;
        tasks.spawn(async move {
            let mut times = Vec::new();
            sleep(PAUSE * number as u32 / SMALL as u32).await;
            let mut due = Instant::now();
            let end = due + DURATION;
            while due < end {
                // The latency counts from the scheduled time. While the server does not answer, all
                // scheduled messages become late.
                client.echo().await?;
                times.push(due.elapsed().as_secs_f64() * 1e3);
                due += PAUSE;
                sleep(due.saturating_duration_since(Instant::now())).await;
            }
            Ok((0, times))
        });
    }
    let (mut all, mut echoed) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (large, times) = done??;
        all.extend(times);
        echoed += large;
    }
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    Ok([at(0.5), at(0.99), at(1.0), f64::from(echoed)])
}
