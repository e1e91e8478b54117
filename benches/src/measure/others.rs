//! Measures upgrades, plain requests, memory and runtimes.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Plan,
    compare::{self, BASELINE, Contestant},
    echo::{Echo, USUAL},
};
use crate::{
    BoxError,
    cores::Cores,
    load::{Exchange, Load, Session, client, frames::Size, upgrades},
    process::Process,
    server::Threads,
    table::{Table, grouped},
};

/// Measures opening handshakes.
pub(super) fn upgrades(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let contestants = Contestant::list(&plan.names(&USUAL));
    let rounds = compare::interleaved(&contestants, plan.rounds, |at| {
        upgrades::run(&contestants[at].start(cores)?, plan.warm_up(), plan.time)
    })?;
    println!("### upgrades\n");
    let (table, _) = compare::table(&contestants, BASELINE, &rounds);
    table.publish("upgrades", plan.into.as_deref())
}

/// The servers of plain requests: without our layer, with layers that do nothing, and with our layer.
const PLAIN: [&str; 8] = [
    "axum-plain",
    "axum-identity",
    "axum-body",
    "axum",
    "axum-around",
    "axum-route",
    "hyper-plain",
    "hyper",
];

/// The number of turns in a round of plain requests.
const TURNS_PER_ROUND: u32 = 20;

/// Measures plain requests with our layer and without it.
pub(super) fn http(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let contestants = Contestant::list(&plan.names(&PLAIN));
    let without = |label: &str| match label.starts_with("hyper") {
        true => "hyper-plain",
        false => "axum-plain",
    };
    // Each turn is short and uses new connections: in a longer turn with many requests in flight, hyper would keep
    // serving only a few of the connections.
    let time = plan.time / TURNS_PER_ROUND;
    for depth in [1, 16] {
        let load = Load {
            clients: 100,
            depth,
            refill: 1,
            exchange: Exchange::Http,
        };
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds {
            let servers = compare::start_all(&contestants, cores)?;
            rounds.extend(compare::interleaved(
                &contestants,
                TURNS_PER_ROUND as usize,
                |at| Session::open(&servers[at], load)?.measure(time / 2, time),
            )?);
        }
        println!("### plain HTTP, 100 connections, {depth} deep\n");
        let (table, _) = compare::table_by(&contestants, "plain", without, &rounds);
        table.publish(&format!("http-{depth}"), plan.into.as_deref())?;
    }
    Ok(())
}

/// Measures a thousand busy connections on the current-thread runtime, and on one worker of the
/// multi-thread runtime.
pub(super) fn workers(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let runtimes = [
        ("current-thread", None, None),
        ("1 worker", Some(1), None),
        ("1 worker, event_interval 16", Some(1), Some(16)),
        ("1 worker, event_interval 4", Some(1), Some(4)),
    ];
    let mut contestants = Vec::new();
    for name in plan.names(&[BASELINE, "axum"]) {
        for (label, workers, event_interval) in runtimes {
            contestants.push(Contestant {
                label: format!("{name}, {label}"),
                name: name.clone(),
                threads: Threads {
                    workers,
                    event_interval,
                },
            });
        }
    }
    let mode = Echo::new(1000, Size(32), 1);
    let rounds = compare::interleaved(&contestants, plan.rounds, |at| {
        let contestant = &contestants[at];
        let server = contestant.start(cores)?;
        let load = mode.load(plan, &contestant.name);
        Session::open(&server, load)?.measure(plan.warm_up(), plan.time)
    })?;
    println!("### {mode}, by runtime\n");
    let (table, _) = compare::table(&contestants, "raw, current-thread", &rounds);
    table.publish("workers", plan.into.as_deref())
}

/// The number of connections for `memory`.
const IDLE: usize = 10_000;

/// Measures the memory of an idle connection, before and after an echo of 16 KiB.
pub(super) fn memory(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    println!("### memory of {} idle connections\n", grouped(IDLE as f64));
    let mut table = Table::new(["server", "bytes each", "after 16 KiB each"]);
    for contestant in Contestant::list(&plan.names(&USUAL)) {
        let [idle, after] = per_connection(&contestant, cores)
            .map_err(|error| format!("{}: {error}", contestant.label))?;
        table.row(vec![contestant.label, grouped(idle), grouped(after)]);
    }
    table.publish("memory", plan.into.as_deref())
}

/// Returns the bytes per connection, before and after an echo of 16 KiB.
fn per_connection(contestant: &Contestant, cores: &Cores) -> Result<[f64; 2], BoxError> {
    let server = contestant.start(cores)?;
    let shape = compare::messages(&contestant.name, Size(16 << 10), false);
    let open = |number| {
        let mut stream = client::connect(server.address(), number)?;
        if shape.websocket {
            client::shake_hands(&mut stream)?;
        }
        Ok::<_, BoxError>(stream)
    };
    // The first connection allocates memory that the process keeps for all connections. Do not count it.
    let mut first = open(0)?;
    client::echo(&mut first, shape)?;
    let before = settled(&server)?;
    let mut streams = Vec::with_capacity(IDLE);
    for number in 1..=IDLE {
        streams.push(open(number)?);
    }
    let idle = settled(&server)?;
    for stream in &mut streams {
        client::echo(stream, shape)?;
    }
    let after = settled(&server)?;
    Ok([idle, after].map(|bytes| (bytes as f64 - before as f64) / IDLE as f64))
}

/// Returns the server's memory as soon as the server is idle.
fn settled(server: &Process) -> Result<u64, BoxError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut cpu = server.cpu_time()?;
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = server.cpu_time()?;
        // The server's runtime may still handle timers.
        if now - cpu < Duration::from_millis(1) {
            return server.memory();
        }
        if Instant::now() > deadline {
            return Err("the server does not become idle".into());
        }
        cpu = now;
    }
}
