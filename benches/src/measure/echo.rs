//! Measures echoed messages: the rate, and the server's CPU time per message.

use std::fmt;

use super::{
    Plan,
    compare::{self, BASELINE, BASELINE_WITH_MASK, Contestant},
};
use crate::{
    BoxError,
    cores::Cores,
    load::{Exchange, Load, frames::Size},
};

/// The default servers.
pub(super) const USUAL: [&str; 11] = [
    BASELINE,
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

/// Additional servers for modes in which clients send ahead.
const BATCHED: [&str; 6] = [
    "axum-batched",
    "axum-ws-batched",
    "hyper-tungstenite-batched",
    "tokio-websockets-batched",
    "yawc-batched",
    "sockudo-ws-batched",
];

/// The default servers for HTTP/2, each also over HTTP/1.1.
const HTTP2: [&str; 7] = [
    BASELINE,
    "axum",
    "axum-h2",
    "axum-ws",
    "axum-ws-h2",
    "yawc",
    "yawc-h2",
];

/// A mode: the number of connections, the message size, and the outstanding messages of each connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Echo {
    connections: usize,
    size: Size,
    depth: usize,
    /// The number of HTTP/2 connections that carry all WebSockets, in a mode for HTTP/2.
    shared: Option<usize>,
}

impl Echo {
    /// Makes a mode with one TCP connection per WebSocket.
    #[must_use]
    pub const fn new(connections: usize, size: Size, depth: usize) -> Self {
        Self {
            connections,
            size,
            depth,
            shared: None,
        }
    }

    /// Makes the mode for HTTP/2: its servers get the WebSockets as streams of this many connections.
    #[must_use]
    pub const fn over(mut self, connections: usize) -> Self {
        self.shared = Some(connections);
        self
    }

    /// Returns the load for the server called `name`.
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
    // Modes for HTTP/2 have other servers and their own tables.
    let (shared, alone): (Vec<_>, Vec<_>) = modes.iter().partition(|mode| mode.shared.is_some());
    compare_all(&alone, plan, cores)?;
    compare_all(&shared, plan, cores)
}

fn compare_all(modes: &[Echo], plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let mut summary = Vec::new();
    for mode in modes {
        let usual = match mode.shared {
            Some(_) => HTTP2.to_vec(),
            None if mode.depth > 1 => [&USUAL[..], &BATCHED].concat(),
            None => [&[BASELINE_WITH_MASK], &USUAL[..]].concat(),
        };
        let contestants = Contestant::list(&plan.names(&usual));
        let rounds = compare::in_turns(&contestants, plan, cores, |contestant| {
            mode.load(plan, &contestant.name)
        });
        let rounds = rounds.map_err(|error| format!("{mode}: {error}"))?;
        println!("### {mode}\n");
        let (table, medians) = compare::table(&contestants, BASELINE, &rounds);
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
        compare::summary(rate, &summary, |_| true, |m| m.rate_to_baseline)
            .publish("rate-h2", into)?;
        return compare::summary(cpu, &summary, |_| true, |m| m.cpu_to_baseline)
            .publish("cpu-h2", into);
    }
    compare::summary(rate, &summary, as_documented, |m| m.rate_to_baseline)
        .publish("rate", into)?;
    compare::summary(cpu, &summary, as_documented, |m| m.cpu_to_baseline).publish("cpu", into)?;
    summary.retain(|(_, contestants, _)| contestants.iter().any(|c| batches(&c.label)));
    if !summary.is_empty() {
        compare::summary(rate, &summary, batching, |m| m.rate_to_baseline)
            .publish("rate-batched", into)?;
        compare::summary(cpu, &summary, batching, |m| m.cpu_to_baseline)
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

/// Returns whether a server batches answers. Our layer, Bun and µWebSockets always do.
fn batching(label: &str) -> bool {
    batches(label) || ["axum", "bun", "uwebsockets"].contains(&label)
}
