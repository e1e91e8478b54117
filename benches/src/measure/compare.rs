//! Measures several servers in turn, and makes tables of the results.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use super::Plan;
use crate::{
    BoxError,
    cores::Cores,
    load::{
        Load, Outcome, Session,
        frames::{self, Answer, Size},
    },
    process::{self, Process},
    server::{Threads, shapes::Shape},
    table::{Table, grouped, median, time},
};

/// The server with which most others are compared.
pub(super) const BASELINE: &str = "raw";
/// The same with one pass over the payload, which every WebSocket server needs to unmask.
pub(super) const BASELINE_WITH_MASK: &str = "raw-xor";

/// Returns the messages and answers of the server called `name`. `text` selects text messages, unless
/// its handler supports only one kind.
pub(super) fn messages(name: &str, size: Size, text: bool) -> frames::Shape {
    let name = name.strip_prefix(process::OTHER).unwrap_or(name);
    let (text, answer) = match Shape::named(name) {
        Some(shape) => shape.exchange(text),
        None => (text, Answer::Same),
    };
    frames::Shape {
        size: size.0,
        text,
        websocket: ![BASELINE, BASELINE_WITH_MASK].contains(&name),
        answer,
    }
}

/// A server in a comparison.
pub(super) struct Contestant {
    /// Its name in tables.
    pub(super) label: String,
    /// Its name on the command line.
    pub(super) name: String,
    /// Its runtime.
    pub(super) threads: Threads,
}

impl Contestant {
    /// Returns these servers, each with the current-thread runtime.
    pub(super) fn list(names: &[String]) -> Vec<Self> {
        let contestants = names.iter().map(|name| Self {
            label: name.clone(),
            name: name.clone(),
            threads: Threads::default(),
        });
        contestants.collect()
    }

    pub(super) fn start(&self, cores: &Cores) -> Result<Process, BoxError> {
        Process::start(&self.name, self.threads, cores)
    }
}

/// The medians of one server in one mode. Ratios are taken within a round.
pub(super) struct Medians {
    /// The rate, divided by the rate of the baseline.
    pub(super) rate_to_baseline: f64,
    /// The CPU time, divided by the CPU time of the baseline.
    pub(super) cpu_to_baseline: f64,
}

/// Measures each server once per round, so that a slow moment of the machine affects all servers.
pub(super) fn interleaved<O>(
    contestants: &[Contestant],
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<O, BoxError>,
) -> Result<Vec<Vec<O>>, BoxError> {
    let mut outcomes = Vec::new();
    for _ in 0..rounds {
        let mut of_round: Vec<_> = contestants.iter().map(|_| None).collect();
        for at in random_order(contestants) {
            let outcome =
                measure(at).map_err(|error| format!("{}: {error}", contestants[at].label))?;
            of_round[at] = Some(outcome);
        }
        outcomes.push(of_round.into_iter().flatten().collect());
    }
    Ok(outcomes)
}

/// Returns the indices of the contestants in random order. A fixed order, or one that rotates, can be in step with a
/// machine whose speed changes periodically.
fn random_order(contestants: &[Contestant]) -> Vec<usize> {
    let mut order: Vec<_> = (0..contestants.len()).collect();
    order.sort_by_cached_key(|_| RandomState::new().build_hasher().finish());
    order
}

/// Starts all servers, in random order. A server that is started early may be slower than later ones.
pub(super) fn start_all(
    contestants: &[Contestant],
    cores: &Cores,
) -> Result<Vec<Process>, BoxError> {
    let mut servers: Vec<_> = contestants.iter().map(|_| None).collect();
    for at in random_order(contestants) {
        servers[at] = Some(contestants[at].start(cores)?);
    }
    Ok(servers.into_iter().flatten().collect())
}

/// Measures all servers in short turns, because the machine's speed changes within seconds by more than
/// the servers differ. Each turn counts as a separate round in the result.
pub(super) fn in_turns(
    contestants: &[Contestant],
    plan: &Plan,
    cores: &Cores,
    load: impl Fn(&Contestant) -> Load,
) -> Result<Vec<Vec<Outcome>>, BoxError> {
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let servers = start_all(contestants, cores)?;
        let mut sessions = Vec::new();
        let mut turn = Duration::ZERO;
        for (contestant, server) in contestants.iter().zip(&servers) {
            let load = load(contestant);
            let session = Session::open(server, load)
                .map_err(|error| format!("{}: {error}", contestant.label))?;
            session.pause()?;
            sessions.push(session);
            turn = turn.max(load.turn()).min(plan.time);
        }
        let turns = (plan.time.as_secs_f64() / turn.as_secs_f64()).ceil() as usize;
        rounds.extend(interleaved(contestants, turns, |at| {
            let outcome = sessions[at].measure(turn / 3, turn)?;
            sessions[at].pause()?;
            Ok(outcome)
        })?);
    }
    Ok(rounds)
}

/// Makes the table of one mode, in which all servers have the same baseline.
pub(super) fn table(
    contestants: &[Contestant],
    baseline_label: &str,
    rounds: &[Vec<Outcome>],
) -> (Table, Vec<Medians>) {
    table_by(contestants, baseline_label, |_| baseline_label, rounds)
}

/// Makes the table of one mode, in which servers have different baselines. `baselines` is their name in the
/// headings, and `baseline_of` returns the baseline of a server.
pub(super) fn table_by<'a>(
    contestants: &[Contestant],
    baselines: &str,
    baseline_of: impl Fn(&str) -> &'a str,
    rounds: &[Vec<Outcome>],
) -> (Table, Vec<Medians>) {
    let divided = format!("÷ {baselines}");
    let mut table = Table::new([
        "server",
        "per second",
        &divided,
        "CPU ns each",
        &divided,
        "busy",
        "median",
        "p99",
        "slowest",
    ]);
    let mut all = Vec::new();
    for (at, contestant) in contestants.iter().enumerate() {
        let of = |value: fn(&Outcome) -> f64| median(rounds.iter().map(|round| value(&round[at])));
        let baseline_label = baseline_of(&contestant.label);
        let baseline = contestants.iter().position(|c| c.label == baseline_label);
        // Take ratios within a round, because the machine's speed changes between rounds.
        let to_baseline = |value: fn(&Outcome) -> f64| match baseline {
            Some(baseline) => median(rounds.iter().map(|r| value(&r[at]) / value(&r[baseline]))),
            None => f64::NAN,
        };
        let medians = Medians {
            rate_to_baseline: to_baseline(|outcome| outcome.rate),
            cpu_to_baseline: to_baseline(|outcome| outcome.cpu),
        };
        table.row(vec![
            contestant.label.clone(),
            grouped(of(|outcome| outcome.rate)),
            ratio(medians.rate_to_baseline),
            grouped(of(|outcome| outcome.cpu)),
            ratio(medians.cpu_to_baseline),
            format!("{:.0} %", 100.0 * of(|outcome| outcome.busy)),
            time(of(|outcome| outcome.median.as_secs_f64())),
            time(of(|outcome| outcome.p99.as_secs_f64())),
            time(of(|outcome| outcome.slowest.as_secs_f64())),
        ]);
        all.push(medians);
    }
    (table, all)
}

/// Makes a table of one figure for all modes, with the servers that `shown` selects.
pub(super) fn summary(
    title: &str,
    modes: &[(String, Vec<Contestant>, Vec<Medians>)],
    shown: fn(&str) -> bool,
    value: fn(&Medians) -> f64,
) -> Table {
    let mut labels: Vec<&String> = Vec::new();
    for (_, contestants, _) in modes {
        for Contestant { label, .. } in contestants {
            if label != BASELINE && shown(label) && !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    let mut headings = vec![title.to_owned()];
    headings.extend(labels.iter().map(|label| (*label).clone()));
    let mut table = Table::with(headings);
    for (mode, contestants, medians) in modes {
        let mut row = vec![mode.clone()];
        for label in &labels {
            let at = contestants.iter().position(|c| c.label == **label);
            row.push(at.map_or(String::new(), |at| ratio(value(&medians[at]))));
        }
        table.row(row);
    }
    table
}

pub(super) fn ratio(ratio: f64) -> String {
    match ratio.is_nan() {
        true => String::new(),
        false => format!("{ratio:.2}"),
    }
}
