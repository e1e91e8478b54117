//! Messages there and back: how many a second, and what one costs the server.

use std::fmt;

use super::{
    Plan,
    compare::{self, Contestant, FLOOR, FLOOR_WITH_MASK},
};
use crate::{
    BoxError,
    cores::Cores,
    load::{Exchange, Load, frames::Size},
};

/// The servers that are measured unless others are asked for.
pub(super) const USUAL: [&str; 11] = [
    FLOOR,
    "axum",
    "hyper",
    "axum-ws",
    "hyper-tungstenite",
    "fastwebsockets",
    "tokio-websockets",
    "yawc",
    "sockudo-ws",
    "bun",
    "uwebsockets",
];

/// Those that batch, besides, where clients send ahead.
const BATCHED: [&str; 6] = [
    "axum-batched",
    "axum-ws-batched",
    "hyper-tungstenite-batched",
    "tokio-websockets-batched",
    "yawc-batched",
    "sockudo-ws-batched",
];

/// Those that are measured where HTTP/2 is: beside each what it does over HTTP/1.1.
const SHARED: [&str; 7] = [
    FLOOR,
    "axum",
    "axum-h2",
    "axum-ws",
    "axum-ws-h2",
    "yawc",
    "yawc-h2",
];

/// So many connections with so many messages of such a size outstanding on each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Echo {
    connections: usize,
    size: Size,
    depth: usize,
    /// How many connections of HTTP/2 carry all of them, where that is what is measured.
    shared: Option<usize>,
}

impl Echo {
    /// Names a mode.
    #[must_use]
    pub const fn new(connections: usize, size: Size, depth: usize) -> Self {
        Self {
            connections,
            size,
            depth,
            shared: None,
        }
    }

    /// Names the mode in which they are streams of so many connections, for servers of HTTP/2.
    #[must_use]
    pub const fn over(mut self, connections: usize) -> Self {
        self.shared = Some(connections);
        self
    }

    /// Returns what is done to the server called `name`.
    pub(super) fn load(self, plan: &Plan, name: &str) -> Load {
        let shape = compare::messages(name, self.size, plan.text);
        Load {
            clients: self.connections,
            depth: self.depth,
            refill: if plan.burst { self.depth } else { 1 },
            exchange: match name.ends_with("-h2") {
                true => Exchange::Http2(shape, self.shared.unwrap_or(self.connections)),
                false => Exchange::Echo(shape),
            },
        }
    }
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let clients = self.connections;
        match self.shared {
            Some(shared) => {
                write!(f, "{clients} socket{} on {shared}", plural(clients))?;
                write!(f, " connection{}, {}", plural(shared), self.size)?;
            }
            None => write!(f, "{clients} connection{}, {}", plural(clients), self.size)?,
        }
        match self.depth {
            1 => Ok(()),
            depth => write!(f, ", {depth} deep"),
        }
    }
}

pub(super) fn run(modes: &[Echo], plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    // They have other servers and tables of their own.
    let (shared, alone): (Vec<_>, Vec<_>) = modes.iter().partition(|mode| mode.shared.is_some());
    compare_all(&alone, plan, cores)?;
    compare_all(&shared, plan, cores)
}

fn compare_all(modes: &[Echo], plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let mut summary = Vec::new();
    for mode in modes {
        let usual = match mode.shared {
            Some(_) => SHARED.to_vec(),
            None if mode.depth > 1 => [&USUAL[..], &BATCHED].concat(),
            None => [&[FLOOR_WITH_MASK], &USUAL[..]].concat(),
        };
        let contestants = Contestant::list(&plan.names(&usual));
        let rounds = compare::in_turns(&contestants, plan, cores, |contestant| {
            mode.load(plan, &contestant.name)
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
    if modes.iter().all(|mode| mode.shared.is_some()) {
        compare::summary(rate, &summary, |_| true, |m| m.rate_to_floor).publish("rate-h2", into)?;
        return compare::summary(cpu, &summary, |_| true, |m| m.cpu_to_floor)
            .publish("cpu-h2", into);
    }
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
    batches(label) || ["axum", "bun", "uwebsockets"].contains(&label)
}
