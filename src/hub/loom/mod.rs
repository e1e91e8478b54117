//! Models of a room whose publishers, tasks, members and connections are on different threads.
//!
//! They run like those of connections in `socket/loom`.

pub(super) mod tasks;

use std::{
    future::{Future, IntoFuture},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ::loom::thread;

use super::{Hub, HubConfig, Membership, RoomConfig};
use crate::socket::{
    Link,
    loom::{
        connection::{config, detached},
        model,
        peer::{Gate, Peer},
    },
};

/// Joins a room, which is ready at once.
fn join(hub: &Hub, link: &Arc<Link>) -> Membership {
    let room = hub.room("a");
    let mut joining = pin!(room.join(&crate::Sender::of(link), ()).into_future());
    let mut cx = Context::from_waker(Waker::noop());
    match joining.as_mut().poll(&mut cx) {
        Poll::Ready(joined) => joined.unwrap(),
        Poll::Pending => unreachable!("a join is ready at once"),
    }
}

fn send(hub: &Hub, payload: u8) {
    hub.room("a").send(vec![payload]).unwrap();
}

fn wait(member: &Membership) {
    member.member.room().tasks.wait();
}

#[test]
fn a_publisher_its_tasks_and_a_join_deliver_each_entry_once() {
    model(|| {
        let hub = Hub::new();
        let mut first = detached(config(), Peer::default());
        let mut second = detached(config(), Peer::default());
        let member = join(&hub, &first.link());
        let publishing = hub.clone();
        let publisher = thread::spawn(move || {
            send(&publishing, 1);
            send(&publishing, 2);
        });
        let other = join(&hub, &second.link());
        publisher.join().unwrap();
        wait(&member);
        first.poll();
        second.poll();
        assert_eq!(first.peer.written().0, [1, 2]);
        let suffix = second.peer.written().0;
        assert!([1, 2].ends_with(&suffix), "{suffix:?}");
        assert_eq!(hub.counts().backlog_bytes, 0);
        drop((member, other));
        assert_eq!(hub.rooms(), []);
    });
}

#[test]
fn a_member_that_was_behind_is_woken_and_gets_the_rest() {
    model(|| {
        let hub = Hub::new();
        // The share of rooms is one message.
        let gate = Arc::new(Gate::default());
        let peer = Peer::default().blocks_writes(&gate);
        let mut connection = detached(config().max_outbox(2, 1024), peer);
        let member = join(&hub, &connection.link());
        let publishing = hub.clone();
        let publisher = thread::spawn(move || {
            send(&publishing, 1);
            send(&publishing, 2);
            gate.open();
        });
        connection.run_until(2);
        publisher.join().unwrap();
        wait(&member);
        assert_eq!(connection.peer.written().0, [1, 2]);
        drop(member);
        assert_eq!(hub.counts().backlog_bytes, 0);
    });
}

/// Runs a room and a sender against a connection that has lent its stream, which has room for so many bytes.
fn write_from_all_sides(room: usize) {
    model(move || {
        let hub = Hub::new();
        let mut connection = detached(config(), Peer::default().lends(room));
        let member = join(&hub, &connection.link());
        connection.poll();
        let publishing = hub.clone();
        let publisher = thread::spawn(move || {
            send(&publishing, 1);
        });
        let link = connection.link();
        let sender = thread::spawn(move || crate::Sender::of(&link).try_send(vec![8]).unwrap());
        connection.run_while_woken();
        publisher.join().unwrap();
        sender.join().unwrap();
        wait(&member);
        connection.run_while_woken();
        let (mut written, _) = connection.peer.written();
        written.sort_unstable();
        assert_eq!(written, [1, 8]);
        assert_eq!(connection.link.buffered().messages, 0);
        drop(member);
    });
}

#[test]
fn a_room_writes_to_a_lent_stream_while_a_sender_wakes_its_connection() {
    write_from_all_sides(usize::MAX);
}

#[test]
fn the_connection_writes_the_rest_of_a_frame_of_a_room() {
    write_from_all_sides(2);
}

#[test]
fn a_member_leaves_while_its_connection_ends_and_a_message_is_delivered() {
    model(|| {
        let hub: Hub = Hub::with(HubConfig::new().rooms(|_| RoomConfig::new()));
        let connection = detached(config(), Peer::default());
        let (link, ending) = (connection.link(), connection.link());
        let member = join(&hub, &link);
        let tasks = Arc::clone(member.member.room());
        let ender = thread::spawn(move || ending.abort());
        send(&hub, 1);
        drop(member);
        ender.join().unwrap();
        tasks.tasks.wait();
        assert_eq!(hub.rooms(), []);
        assert_eq!(hub.counts().members, 0);
    });
}
