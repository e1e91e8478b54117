//! Measures how often two threads can join and leave.

use tower_websocket::hub::{Hub, Room};

use super::{
    super::Plan,
    threads::{self, BATCH, Connections, Done},
};
use crate::{
    BoxError,
    cores::Cores,
    table::{Table, grouped, median},
};

/// The rooms of each thread in the case of many.
const MANY: usize = 1000;
/// The rooms in which a connection may be.
const EACH: usize = 100;

pub(super) fn run(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    cores.unpin();
    let mut table = Table::new(["joins and leaves", "per second", "CPU ns each"]);
    for (label, rooms, has_members) in [
        ("one room", 0, true),
        ("a thousand rooms for each thread", MANY, true),
        ("the same, empty before and after", MANY, false),
    ] {
        let hub = Hub::new();
        let connections = Connections::new(2 + (2 * MANY).div_ceil(EACH))?;
        let (joining, members) = connections.sockets.split_at(2);
        let rooms_of = |thread: usize| -> Vec<Room> {
            match rooms {
                0 => vec![hub.room("one")],
                rooms => (0..rooms)
                    .map(|number| hub.room(format!("{thread}-{number}")))
                    .collect(),
            }
        };
        let all = [rooms_of(0), rooms_of(1)];
        if has_members {
            connections.runtime.block_on(async {
                for (number, room) in all.iter().flatten().enumerate() {
                    room.join(&members[number / EACH], ()).await?.keep();
                }
                Ok::<_, BoxError>(())
            })?;
        }
        let mut figures = Vec::new();
        for _ in 0..plan.rounds {
            let works = all.iter().enumerate().map(|(core, rooms)| {
                let (runtime, socket) = (&connections.runtime, &joining[core]);
                let mut next = rooms.iter().cycle();
                let work = move || {
                    // On the thread of the work, joining finds the runtime, and never waits.
                    let _guard = runtime.enter();
                    let joins = async {
                        for room in next.by_ref().take(BATCH) {
                            drop(room.join(socket, ()).await?);
                        }
                        Ok::<_, BoxError>(())
                    };
                    futures_util::FutureExt::now_or_never(joins).ok_or("a join waits")?
                };
                (core, work)
            });
            figures.push(threads::run(cores, plan.time, works.collect())?);
        }
        let rate = |done: &Vec<Done>| done.iter().map(|done| done.times / done.took).sum::<f64>();
        let cpu = |done: &Vec<Done>| done.iter().map(|done| done.cpu_each()).sum::<f64>() / 2.0;
        table.row(vec![
            label.to_owned(),
            grouped(median(figures.iter().map(rate))),
            grouped(median(figures.iter().map(cpu))),
        ]);
    }
    cores.pin_again();
    println!("### joining and leaving, two threads\n");
    table.publish("rooms-joins", plan.into.as_deref())
}
