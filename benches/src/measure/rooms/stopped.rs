//! Measures rooms in which three of ten members have stopped reading.

use super::{
    super::{
        Plan,
        compare::{self, Contestant, ratio},
    },
    broadcast::{TURN, turns},
};
use crate::{
    BoxError,
    cores::Cores,
    load::{
        Outcome, client,
        frames::Size,
        room::{Protocol, Room, Session},
    },
    process::Process,
    server::Threads,
    table::{Table, grouped, median, time},
};

/// The server. The default policy would close the connections of stopped members.
const SERVER: &str = "room-drop-oldest";

/// The members that read, and the stopped ones, for latency.
const READING: usize = 700;
const STOPPED: usize = 300;

/// The messages of which enough are sent to fill the buffers of stopped members.
const FILL: Size = Size(16 << 10);

/// Compares the latency of members with and without stopped ones in the same room.
pub(super) fn latency(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let with = format!("{READING} members, {STOPPED} stopped");
    let without = format!("{READING} members");
    let contestants = [&without, &with].map(|label| Contestant {
        label: label.clone(),
        name: SERVER.to_owned(),
        threads: Threads::default(),
    });
    let mut table = Table::new([
        "with stopped members ÷ without",
        "median",
        "p99",
        "slowest",
        "CPU per delivery",
        "p99 without",
        "p99 with",
    ]);
    for depth in [1, 8] {
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds {
            let servers = compare::start_all(&contestants, cores)?;
            let rooms = [0, STOPPED].map(|stopped| Room {
                members: READING,
                stopped,
                size: Size(64),
                depth,
            });
            let mut sessions = Vec::new();
            for (server, room) in servers.iter().zip(rooms) {
                sessions.push(filled(server, room)?);
            }
            rounds.extend(compare::interleaved(&contestants, turns(plan), |at| {
                sessions[at].measure(TURN / 3, TURN)
            })?);
            let report = Report::of(&servers[1])?;
            if report.behind != STOPPED {
                return Err(format!("{} members are behind", report.behind).into());
            }
        }
        println!("### {READING} members, 64 B, {depth} in flight\n");
        let (details, _) = compare::table(&contestants, &without, &rounds);
        println!("{details}");
        let divided = |value: fn(&Outcome) -> f64| {
            let ratios = rounds.iter().map(|r| value(&r[1]) / value(&r[0]));
            ratio(median(ratios))
        };
        let p99 = |at: usize| {
            time(median(
                rounds.iter().map(|round| round[at].p99.as_secs_f64()),
            ))
        };
        table.row(vec![
            format!("64 B, {depth} in flight"),
            divided(|outcome| outcome.median.as_secs_f64()),
            divided(|outcome| outcome.p99.as_secs_f64()),
            divided(|outcome| outcome.slowest.as_secs_f64()),
            divided(|outcome| outcome.cpu),
            p99(0),
            p99(1),
        ]);
    }
    println!("### members beside stopped ones\n");
    table.publish("rooms-stopped", plan.into.as_deref())
}

/// Measures how long a call of `send` takes, in rooms of several sizes.
pub(super) fn send(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let mut table = Table::new(["members", "stopped", "calls", "median", "p99", "slowest"]);
    for members in [10, 1000, 10_000] {
        let stopped = members * 3 / 10;
        let room = Room {
            members: members - stopped,
            stopped,
            size: Size(64),
            depth: 1,
        };
        let server = Process::start(SERVER, Threads::default(), cores)?;
        let mut session = filled(&server, room)?;
        session.measure(plan.warm_up(), TURN)?;
        Report::of(&server)?;
        session.measure(TURN, plan.time * u32::try_from(plan.rounds)?)?;
        let report = Report::of(&server)?;
        if report.behind != stopped {
            return Err(format!("{} members are behind", report.behind).into());
        }
        let [median, p99, slowest] = report.nanoseconds.map(|ns| time(ns / 1e9));
        table.row(vec![
            grouped(members as f64),
            grouped(stopped as f64),
            grouped(report.calls),
            median,
            p99,
            slowest,
        ]);
    }
    println!("### a call of send, 64 B\n");
    table.publish("rooms-send", plan.into.as_deref())
}

/// Connects the members, and sends until all stopped ones are behind.
fn filled(server: &Process, room: Room) -> Result<Session<'_>, BoxError> {
    let mut session = Session::open(server, Protocol::WebSocket, room)?;
    let mut sent = 0;
    while Report::of(server)?.behind < room.stopped {
        if sent > 1024 {
            return Err("the stopped members are not behind".into());
        }
        session.fill(16, FILL)?;
        sent += 16;
    }
    Ok(session)
}

/// The server's report about its room.
struct Report {
    /// The members that are behind.
    behind: usize,
    /// The calls of `send` since the last report.
    calls: f64,
    /// Their median, 99th percentile and maximum.
    nanoseconds: [f64; 3],
}

impl Report {
    fn of(server: &Process) -> Result<Self, BoxError> {
        let report = client::get(server.address(), "/room")?;
        let numbers = report.split(' ').map(str::parse);
        let numbers = numbers.collect::<Result<Vec<f64>, _>>()?;
        let [behind, calls, nanoseconds @ ..] = &numbers[..] else {
            return Err(format!("not a report: {report}").into());
        };
        Ok(Self {
            behind: *behind as usize,
            calls: *calls,
            nanoseconds: nanoseconds.try_into()?,
        })
    }
}
