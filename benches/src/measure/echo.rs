//! Messages there and back: how many a second, and what one costs the server.

use std::fmt;

use super::Plan;
use crate::{
    BoxError,
    cores::Cores,
    load::{
        self, Load, Outcome,
        frames::{Shape, Size},
    },
    process::Process,
    server::Threads,
    table::{Table, grouped, median, time},
};

/// The floor's name: the one that the others are divided by.
pub(super) const FLOOR: &str = "raw";

/// The servers that are measured unless others are asked for.
const USUAL: [&str; 11] = [
    FLOOR,
    "axum",
    "hyper",
    "axum-handler",
    "axum-ws",
    "hyper-tungstenite",
    "fastwebsockets",
    "tokio-websockets",
    "yawc",
    "sockudo-ws",
    "bun",
];

/// Those that batch, besides, where clients send ahead.
const BATCHED: [&str; 5] = [
    "axum-ws-batched",
    "hyper-tungstenite-batched",
    "tokio-websockets-batched",
    "yawc-batched",
    "sockudo-ws-batched",
];

/// So many connections with so many messages of such a size outstanding on each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Echo {
    connections: usize,
    size: Size,
    depth: usize,
}

impl Echo {
    pub const fn new(connections: usize, size: Size, depth: usize) -> Self {
        Self {
            connections,
            size,
            depth,
        }
    }
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(f, "{} connection{plural}, {}", self.connections, self.size)?;
        match self.depth {
            1 => Ok(()),
            depth => write!(f, ", {depth} deep"),
        }
    }
}

/// The medians of one server in one mode.
struct Medians {
    rate: f64,
    rate_to_floor: f64,
    cpu: f64,
    cpu_to_floor: f64,
}

pub(super) fn run(modes: &[Echo], plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let mut summary = Vec::new();
    for mode in modes {
        let mut usual = USUAL.to_vec();
        if mode.depth > 1 {
            usual.extend(BATCHED);
        }
        let names = plan.names(&usual);
        let rounds = interleaved(&names, *mode, plan, cores)?;
        let medians = print(*mode, &names, &rounds);
        summary.push((*mode, names, medians));
    }
    if modes.len() > 1 {
        print_summary("Messages per second ÷ raw", &summary, |m| m.rate_to_floor);
        print_summary("CPU per message ÷ raw", &summary, |m| m.cpu_to_floor);
    }
    Ok(())
}

/// Measures each server once in every round, so that what slows the machine down slows all of them.
fn interleaved(
    names: &[String],
    mode: Echo,
    plan: &Plan,
    cores: &Cores,
) -> Result<Vec<Vec<Outcome>>, BoxError> {
    let mut rounds = Vec::new();
    for round in 0..plan.rounds {
        let mut outcomes = vec![None; names.len()];
        for step in 0..names.len() {
            // Nobody is always the one who comes after the slowest.
            let at = (step + round) % names.len();
            let name = &names[at];
            let load = Load {
                connections: mode.connections,
                depth: mode.depth,
                refill: if plan.burst { mode.depth } else { 1 },
                shape: Shape {
                    size: mode.size.0,
                    text: plan.text,
                    websocket: name != FLOOR,
                },
                warm_up: plan.warm_up(),
                time: plan.time,
            };
            let outcome = Process::start(name, Threads::default(), cores)
                .and_then(|server| load::run(&server, load))
                .map_err(|error| format!("{name}, {mode}: {error}"))?;
            outcomes[at] = Some(outcome);
        }
        rounds.push(outcomes.into_iter().flatten().collect());
    }
    Ok(rounds)
}

fn print(mode: Echo, names: &[String], rounds: &[Vec<Outcome>]) -> Vec<Medians> {
    let floor = names.iter().position(|name| name == FLOOR);
    println!("### {mode}\n");
    let mut table = Table::new([
        "server",
        "messages/s",
        "÷ raw",
        "CPU ns/message",
        "÷ raw",
        "busy",
        "median",
        "p99",
    ]);
    let mut all = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let of = |value: fn(&Outcome) -> f64| median(rounds.iter().map(|round| value(&round[at])));
        // Within a round first: what changed between rounds changed for both.
        let to_floor = |value: fn(&Outcome) -> f64| match floor {
            Some(floor) => median(rounds.iter().map(|r| value(&r[at]) / value(&r[floor]))),
            None => f64::NAN,
        };
        let medians = Medians {
            rate: of(|outcome| outcome.rate),
            rate_to_floor: to_floor(|outcome| outcome.rate),
            cpu: of(|outcome| outcome.cpu),
            cpu_to_floor: to_floor(|outcome| outcome.cpu),
        };
        table.row(vec![
            name.clone(),
            grouped(medians.rate),
            ratio(medians.rate_to_floor),
            grouped(medians.cpu),
            ratio(medians.cpu_to_floor),
            format!("{:.0} %", 100.0 * of(|outcome| outcome.busy)),
            time(of(|outcome| outcome.median.as_secs_f64())),
            time(of(|outcome| outcome.p99.as_secs_f64())),
        ]);
        all.push(medians);
    }
    println!("{table}");
    all
}

fn print_summary(
    title: &str,
    summary: &[(Echo, Vec<String>, Vec<Medians>)],
    value: fn(&Medians) -> f64,
) {
    let mut names: Vec<&String> = Vec::new();
    for (_, measured, _) in summary {
        for name in measured {
            if name != FLOOR && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let mut headings = vec![title.to_owned()];
    headings.extend(names.iter().map(|name| (*name).clone()));
    let mut table = Table::with(headings);
    for (mode, measured, medians) in summary {
        let mut row = vec![mode.to_string()];
        for name in &names {
            let at = measured.iter().position(|measured| measured == *name);
            row.push(at.map_or(String::new(), |at| ratio(value(&medians[at]))));
        }
        table.row(row);
    }
    println!("{table}");
}

fn ratio(ratio: f64) -> String {
    match ratio.is_nan() {
        true => String::new(),
        false => format!("{ratio:.2}"),
    }
}
