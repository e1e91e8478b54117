//! Several servers in turn, and tables of what each of them did.

use std::time::Duration;

use super::Plan;
use crate::{
    BoxError,
    cores::Cores,
    load::{
        Load, Outcome, Session,
        frames::{self, Answer, Size},
    },
    process::Process,
    server::{Threads, shapes::Shape},
    table::{Table, grouped, median, time},
};

/// The server that most others are divided by.
pub(super) const FLOOR: &str = "raw";
/// The same with the one pass over the payload that no server of WebSockets can leave out.
pub(super) const FLOOR_WITH_MASK: &str = "raw-xor";

/// Returns the messages that the server called `name` is sent, and what it answers: text where `text`
/// is true, unless its handler is for one kind alone.
pub(super) fn messages(name: &str, size: Size, text: bool) -> frames::Shape {
    let (text, answer) = match Shape::named(name) {
        Some(shape) => shape.exchange(text),
        None => (text, Answer::Same),
    };
    frames::Shape {
        size: size.0,
        text,
        websocket: ![FLOOR, FLOOR_WITH_MASK].contains(&name),
        answer,
    }
}

/// A server, and how it is started.
pub(super) struct Contestant {
    /// What tables call it.
    pub(super) label: String,
    /// What it is.
    pub(super) name: String,
    /// What it runs on.
    pub(super) threads: Threads,
}

impl Contestant {
    /// Makes contestants of these servers, on the current-thread runtime.
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

/// The medians of one server in one mode.
pub(super) struct Medians {
    /// Of what it did in a second, divided by what the floor did in the same round.
    pub(super) rate_to_floor: f64,
    /// Of its CPU time, divided by the floor's in the same round.
    pub(super) cpu_to_floor: f64,
}

/// Measures each server once in every round, so that what slows the machine down slows all of them.
pub(super) fn interleaved<O>(
    contestants: &[Contestant],
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<O, BoxError>,
) -> Result<Vec<Vec<O>>, BoxError> {
    let mut outcomes = Vec::new();
    for round in 0..rounds {
        let mut of_round: Vec<_> = contestants.iter().map(|_| None).collect();
        for step in 0..contestants.len() {
            // Nobody is always the one who comes after the slowest.
            let at = (step + round) % contestants.len();
            let outcome =
                measure(at).map_err(|error| format!("{}: {error}", contestants[at].label))?;
            of_round[at] = Some(outcome);
        }
        outcomes.push(of_round.into_iter().flatten().collect());
    }
    Ok(outcomes)
}

/// Measures all servers in every round, in turns of some milliseconds: they differ by less than the
/// machine does from one second to the next. Each turn counts as a round of its own.
pub(super) fn in_turns(
    contestants: &[Contestant],
    plan: &Plan,
    cores: &Cores,
    load: impl Fn(&Contestant) -> Load,
) -> Result<Vec<Vec<Outcome>>, BoxError> {
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let mut servers = Vec::new();
        for contestant in contestants {
            servers.push((contestant, contestant.start(cores)?));
        }
        let mut sessions = Vec::new();
        let mut turn = Duration::ZERO;
        for (contestant, server) in &servers {
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

/// Makes the table of one mode.
pub(super) fn table(
    contestants: &[Contestant],
    floor_label: &str,
    rounds: &[Vec<Outcome>],
) -> (Table, Vec<Medians>) {
    table_by(contestants, floor_label, |_| floor_label, rounds)
}

/// Makes the table of one mode in which servers have different floors, which `floors` names
/// together and `floor_of` one by one.
pub(super) fn table_by<'a>(
    contestants: &[Contestant],
    floors: &str,
    floor_of: impl Fn(&str) -> &'a str,
    rounds: &[Vec<Outcome>],
) -> (Table, Vec<Medians>) {
    let divided = format!("÷ {floors}");
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
        let floor_label = floor_of(&contestant.label);
        let floor = contestants.iter().position(|c| c.label == floor_label);
        // Within a round first: what changed between rounds changed for both.
        let to_floor = |value: fn(&Outcome) -> f64| match floor {
            Some(floor) => median(rounds.iter().map(|r| value(&r[at]) / value(&r[floor]))),
            None => f64::NAN,
        };
        let medians = Medians {
            rate_to_floor: to_floor(|outcome| outcome.rate),
            cpu_to_floor: to_floor(|outcome| outcome.cpu),
        };
        table.row(vec![
            contestant.label.clone(),
            grouped(of(|outcome| outcome.rate)),
            ratio(medians.rate_to_floor),
            grouped(of(|outcome| outcome.cpu)),
            ratio(medians.cpu_to_floor),
            format!("{:.0} %", 100.0 * of(|outcome| outcome.busy)),
            time(of(|outcome| outcome.median.as_secs_f64())),
            time(of(|outcome| outcome.p99.as_secs_f64())),
            time(of(|outcome| outcome.slowest.as_secs_f64())),
        ]);
        all.push(medians);
    }
    (table, all)
}

/// Makes a table of one figure, of every server that `shown` names, in every mode that it was in.
pub(super) fn summary(
    title: &str,
    modes: &[(String, Vec<Contestant>, Vec<Medians>)],
    shown: fn(&str) -> bool,
    value: fn(&Medians) -> f64,
) -> Table {
    let mut labels: Vec<&String> = Vec::new();
    for (_, contestants, _) in modes {
        for Contestant { label, .. } in contestants {
            if label != FLOOR && shown(label) && !labels.contains(&label) {
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
