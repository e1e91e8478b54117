//! Measures whether two threads that send to two rooms of a hub hold each other up.

use tower_websocket::{
    Message,
    hub::{Hub, HubConfig, Overflow, Room, RoomConfig},
};

use super::{
    super::{Plan, compare::ratio},
    threads::{self, BATCH, Connections, Done, SIZE},
};
use crate::{
    BoxError,
    cores::Cores,
    load::frames,
    table::{Table, grouped, median},
};

/// The members of each room. All are behind, so sending wakes nobody.
const MEMBERS: usize = 100;

pub(super) fn run(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    cores.unpin();
    let hub = hub();
    let own = self::hub();
    let first = Parked::new(&hub, "first")?;
    let second = Parked::new(&hub, "second")?;
    let elsewhere = Parked::new(&own, "second")?;
    let (mut alone, mut hubs, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let sending = |publishers: &[(usize, &Parked)]| {
            let works = publishers
                .iter()
                .map(|(core, parked)| (*core, parked.sending()));
            threads::run(cores, plan.time, works.collect())
        };
        alone.push(mean(&[
            sending(&[(0, &first)])?[0],
            sending(&[(1, &second)])?[0],
        ]));
        hubs.push(mean(&sending(&[(0, &first), (1, &elsewhere)])?));
        rooms.push(mean(&sending(&[(0, &first), (1, &second)])?));
    }
    let mut table = Table::new(["senders", "CPU ns a call", "÷ one"]);
    for (label, figures) in [
        ("one", &alone),
        ("two, in two hubs", &hubs),
        ("two, in two rooms of a hub", &rooms),
    ] {
        let ratios = figures.iter().zip(&alone).map(|(two, one)| two / one);
        table.row(vec![
            label.to_owned(),
            grouped(median(figures.iter().copied())),
            ratio(median(ratios)),
        ]);
    }
    cores.pin_again();
    println!("### two senders, {MEMBERS} members that are behind in each room\n");
    table.publish("rooms-publishers", plan.into.as_deref())
}

fn mean(done: &[Done]) -> f64 {
    let sum: f64 = done.iter().map(|done| done.cpu_each()).sum();
    sum / done.len() as f64
}

fn hub() -> Hub {
    Hub::with(HubConfig::new().rooms(|_| RoomConfig::new().overflow(Overflow::DropOldest)))
}

/// A room whose members are behind and whose runtime does not run.
struct Parked {
    room: Room,
    _connections: Connections,
}

impl Parked {
    fn new(hub: &Hub, name: &str) -> Result<Self, BoxError> {
        let connections = Connections::new(MEMBERS)?;
        let room = hub.room(name);
        connections.runtime.block_on(async {
            for socket in &connections.sockets {
                room.join(socket, ()).await?.keep();
            }
            while room.counts().behind < MEMBERS {
                room.send(message())?;
                tokio::task::yield_now().await;
            }
            Ok::<_, BoxError>(())
        })?;
        Ok(Self {
            room,
            _connections: connections,
        })
    }

    fn sending(&self) -> impl FnMut() -> Result<(), BoxError> + Send + 'static {
        let (room, message) = (self.room.clone(), message());
        move || {
            for _ in 0..BATCH {
                room.send(message.clone())?;
            }
            Ok(())
        }
    }
}

fn message() -> Message {
    Message::binary(frames::payload(SIZE.0))
}
