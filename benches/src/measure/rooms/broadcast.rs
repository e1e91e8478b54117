//! Compares servers that send each message to all members of a room.

use std::time::Duration;

use super::super::{
    Plan,
    compare::{self, Contestant, ratio},
};
use crate::{
    BoxError,
    cores::Cores,
    load::{
        Outcome,
        frames::Size,
        room::{Protocol, Room, Session},
    },
    table::{Table, median},
};

const OURS: &str = "room";
const BASELINE: &str = "room-bare";
const SOCKET_IO: &str = "room-socketioxide";

/// The default servers.
const USUAL: [&str; 6] = [
    BASELINE,
    OURS,
    "room-axum-ws",
    SOCKET_IO,
    "room-bun",
    "room-uwebsockets",
];

const MEMBERS: usize = 1000;

/// The sizes of messages, and the numbers of messages in flight.
const CASES: [(Size, usize); 4] = [
    (Size(64), 1),
    (Size(64), 8),
    (Size(1 << 10), 1),
    (Size(1 << 10), 8),
];

/// The duration of a turn: enough for some messages to all members.
pub(super) const TURN: Duration = Duration::from_millis(100);

pub(super) fn run(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let contestants = Contestant::list(&plan.names(&USUAL));
    let ours = contestants.iter().position(|c| c.label == OURS);
    let mut rate = headings("our deliveries per second ÷", &contestants);
    let mut cpu = headings("our CPU per delivery ÷", &contestants);
    for (size, depth) in CASES {
        let room = Room {
            members: MEMBERS,
            stopped: 0,
            size,
            depth,
        };
        let mode = format!("{MEMBERS} members, {size}, {depth} in flight");
        let rounds = in_turns(&contestants, room, plan, cores)
            .map_err(|error| format!("{mode}: {error}"))?;
        println!("### {mode}\n");
        let (table, _) = compare::table(&contestants, BASELINE, &rounds);
        table.publish(&format!("rooms-{}-{depth}", size.0), plan.into.as_deref())?;
        let Some(ours) = ours else {
            continue;
        };
        let row = |value: fn(&Outcome) -> f64| {
            let mut row = vec![mode.clone()];
            for at in (0..contestants.len()).filter(|at| *at != ours) {
                let ratios = rounds
                    .iter()
                    .map(|round| value(&round[ours]) / value(&round[at]));
                row.push(ratio(median(ratios)));
            }
            row
        };
        rate.row(row(|outcome| outcome.rate));
        cpu.row(row(|outcome| outcome.cpu));
    }
    if ours.is_some() {
        println!("### our room and the others\n");
        rate.publish("rooms-rate", plan.into.as_deref())?;
        cpu.publish("rooms-cpu", plan.into.as_deref())?;
    }
    Ok(())
}

fn headings(title: &str, contestants: &[Contestant]) -> Table {
    let labels = contestants.iter().map(|c| c.label.clone());
    let mut headings = vec![title.to_owned()];
    headings.extend(labels.filter(|label| label != OURS));
    Table::with(headings)
}

fn in_turns(
    contestants: &[Contestant],
    room: Room,
    plan: &Plan,
    cores: &Cores,
) -> Result<Vec<Vec<Outcome>>, BoxError> {
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let servers = compare::start_all(contestants, cores)?;
        let mut sessions = Vec::new();
        for (contestant, server) in contestants.iter().zip(&servers) {
            let protocol = match &*contestant.name {
                SOCKET_IO => Protocol::SocketIo,
                _ => Protocol::WebSocket,
            };
            let session = Session::open(server, protocol, room)
                .map_err(|error| format!("{}: {error}", contestant.label))?;
            sessions.push(session);
        }
        let turns = turns(plan);
        rounds.extend(compare::interleaved(contestants, turns, |at| {
            sessions[at].measure(TURN / 3, TURN)
        })?);
    }
    Ok(rounds)
}

/// Returns the number of turns in a round.
pub(super) fn turns(plan: &Plan) -> usize {
    (plan.time.as_secs_f64() / TURN.as_secs_f64()).ceil() as usize
}
