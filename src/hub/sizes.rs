//! The sizes of what each room and each member has. `tests/hub_memory.rs` measures their sum.

use super::{
    Chunk, RoomState,
    config::Settings,
    log::Log,
    member::Member,
    presence::Card,
    roster::{Members, Place},
    seat::Seat,
};

/// The counts of strong and weak references of an `Arc`.
const ARC: usize = 16;

#[test]
fn rooms_and_members_are_small() {
    let member = [
        ("`Arc` of the member", ARC + size_of::<Member<()>>(), 40),
        ("`Arc` of the card", ARC + size_of::<Card<()>>(), 32),
        ("place in the roster", size_of::<Option<Place<()>>>(), 16),
        ("seat in the chunk", size_of::<Option<Seat<()>>>(), 16),
    ];
    let room = [
        ("settings", size_of::<Settings<()>>(), 40),
        ("members", size_of::<Members<()>>(), 48),
        ("log", size_of::<Log<()>>(), 112),
        ("first chunk", size_of::<Chunk<()>>(), 72),
        ("`Arc` of all that", ARC + size_of::<RoomState<()>>(), 344),
    ];
    for (part, bytes, most) in member.into_iter().chain(room) {
        println!("{part}: {bytes}");
        assert!(bytes <= most, "{part}: {bytes} bytes, more than {most}");
    }
}
