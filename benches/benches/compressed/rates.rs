//! Measures messages per second, and the server's CPU time per message.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tower_websocket::BoxError;
use tower_websocket_benches::cores::Cores;

use crate::{
    client::{Client, frames, json},
    server::Server,
};

/// The number of connections, with one message outstanding on each.
pub(crate) const CONNECTIONS: usize = 16;
const ROUNDS: usize = 15;
const TURN: Duration = Duration::from_millis(300);

pub(crate) async fn rates(
    cores: &Cores,
    programs: &[String],
    path: &str,
    len: usize,
) -> Result<(), BoxError> {
    let frames = frames(&[json(len)], true)?;
    let mut servers = Vec::new();
    for program in programs {
        let server = Server::start(cores, program)?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::open(server.address, path, &frames).await?);
        }
        servers.push((server, clients));
    }
    let mut rates = vec![Vec::new(); servers.len()];
    let mut costs = rates.clone();
    for round in 0..=ROUNDS {
        for index in 0..servers.len() {
            let index = (index + round) % servers.len();
            let (server, clients) = &mut servers[index];
            let before = server.cpu_time()?;
            let (echoed, time, came_back) = turn(std::mem::take(clients)).await?;
            *clients = came_back;
            // The first round is a warm-up.
            if round > 0 {
                rates[index].push(echoed / time.as_secs_f64());
                costs[index].push((server.cpu_time()? - before) / echoed);
            }
        }
    }
    let own = [&rates, &costs].map(|values| median(values[0].clone()));
    print!(
        "{path}, {len} bytes: {:.0} per second, {:.1} us of CPU each",
        own[0], own[1]
    );
    if servers.len() > 1 {
        let ratios = [&rates, &costs].map(|values| {
            let ratios = values[0]
                .iter()
                .zip(&values[1])
                .map(|(one, other)| one / other);
            median(ratios.collect())
        });
        print!("; ratios to AGAINST: {:.3} and {:.3}", ratios[0], ratios[1]);
    }
    println!();
    Ok(())
}

/// Runs all clients for one turn. Returns the number of echoed messages, the time, and the clients.
async fn turn(clients: Vec<Client>) -> Result<(f64, Duration, Vec<Client>), BoxError> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut echoed = 0_usize;
            while start.elapsed() < TURN {
                if client.echo().await? & 0x40 == 0 {
                    return Err("not compressed".into());
                }
                echoed += 1;
            }
            Ok::<_, BoxError>((client, echoed))
        });
    }
    let (mut clients, mut all) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (client, echoed) = done??;
        clients.push(client);
        all += echoed;
    }
    Ok((all as f64, start.elapsed(), clients))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
