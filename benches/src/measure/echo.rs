//! Messages there and back: how many a second, and what one costs the server.

use std::fmt;

use super::{
    Plan,
    compare::{self, Contestant, FLOOR},
};
use crate::{
    BoxError,
    cores::Cores,
    load::{
        self, Exchange, Load,
        frames::{Shape, Size},
    },
};

/// The servers that are measured unless others are asked for.
pub(super) const USUAL: [&str; 11] = [
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
    /// Names a mode.
    #[must_use]
    pub const fn new(connections: usize, size: Size, depth: usize) -> Self {
        Self {
            connections,
            size,
            depth,
        }
    }

    pub(super) fn load(self, plan: &Plan, websocket: bool) -> Load {
        Load {
            connections: self.connections,
            depth: self.depth,
            refill: if plan.burst { self.depth } else { 1 },
            exchange: Exchange::Echo(Shape {
                size: self.size.0,
                text: plan.text,
                websocket,
            }),
            warm_up: plan.warm_up(),
            time: plan.time,
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

pub(super) fn run(modes: &[Echo], plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let mut summary = Vec::new();
    for mode in modes {
        let mut usual = USUAL.to_vec();
        if mode.depth > 1 {
            usual.extend(BATCHED);
        }
        let contestants = Contestant::list(&plan.names(&usual));
        let rounds = compare::interleaved(&contestants, plan.rounds, |contestant| {
            let server = contestant.start(cores)?;
            load::run(&server, mode.load(plan, contestant.name != FLOOR))
        });
        let rounds = rounds.map_err(|error| format!("{mode}: {error}"))?;
        println!("### {mode}\n");
        let (table, medians) = compare::table(&contestants, FLOOR, &rounds);
        println!("{table}");
        summary.push((mode.to_string(), contestants, medians));
    }
    if modes.len() < 2 {
        return Ok(());
    }
    let rate = "messages per second ÷ raw";
    let cpu = "CPU per message ÷ raw";
    let into = plan.into.as_deref();
    compare::summary(rate, &summary, as_documented, |m| m.rate_to_floor).publish("rate", into)?;
    compare::summary(cpu, &summary, as_documented, |m| m.cpu_to_floor).publish("cpu", into)?;
    summary.retain(|(_, contestants, _)| contestants.iter().any(|c| batches(&c.label)));
    if !summary.is_empty() {
        compare::summary(rate, &summary, batching, |m| m.rate_to_floor)
            .publish("rate-batched", into)?;
        compare::summary(cpu, &summary, batching, |m| m.cpu_to_floor)
            .publish("cpu-batched", into)?;
    }
    Ok(())
}

fn batches(label: &str) -> bool {
    label.ends_with("-batched")
}

fn as_documented(label: &str) -> bool {
    !batches(label)
}

/// Ours batches by itself.
fn batching(label: &str) -> bool {
    batches(label) || ["axum", "axum-handler", "bun"].contains(&label)
}
