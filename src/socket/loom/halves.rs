//! Models of a socket in two halves, and of pings.

use std::{pin::pin, sync::Arc};

use ::loom::thread;

use super::{
    close,
    connection::{config, detached},
    message, model, payload,
    peer::Peer,
    poll_once, recv, wait_for,
};
use crate::socket::{
    SendError,
    link::{Caller, Ping},
    part::Part,
};

#[test]
fn the_last_half_that_is_dropped_ends_the_connection() {
    model(|| {
        let connection = detached(config(), Peer::default());
        let link = connection.link();
        let first = Part::new(connection.link());
        let second = first.another();
        let one = thread::spawn(move || {
            assert!(wait_for(second.send(message(1), Caller::Holder)).is_ok());
            second.leave_as_sink();
        });
        let two = thread::spawn(move || {
            first.ignore_incoming();
            drop(first);
        });
        assert_eq!(connection.run(), [1]);
        one.join().unwrap();
        two.join().unwrap();
        assert!(link.ending().unwrap().is_clean());
    });
}

#[test]
fn halves_send_and_receive_at_once() {
    model(|| {
        let peer = Peer::default().sends(1);
        let mut connection = detached(config().max_outbox(1, 1024), peer);
        let read = Part::new(connection.link());
        let write = read.another();
        let sender = thread::spawn(move || {
            for payload in [8, 9] {
                assert!(wait_for(write.send(message(payload), Caller::Holder)).is_ok());
            }
            write
        });
        let receiver = thread::spawn(move || {
            assert_eq!(payload(wait_for(recv(&read))), Some(1));
            read
        });
        connection.run_until(2);
        let _write = sender.join().unwrap();
        let _read = receiver.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![8, 9], false));
    });
}

/// Two threads share a ping, or ping one after the other. One of them may be dropped.
#[test]
fn pings_of_two_threads_are_answered() {
    model(|| {
        let connection = detached(config(), Peer::default().answers_pings());
        let pings = [Ping::new(connection.link()), Ping::new(connection.link())];
        let dropped = Ping::new(connection.link());
        let link = connection.link();
        let [first, second] = pings;
        let first = thread::spawn(move || assert!(wait_for(first).is_ok()));
        let _ = poll_once(pin!(dropped));
        // The fewer threads, the fewer orders: this one also closes.
        let second = thread::spawn(move || {
            assert!(wait_for(second).is_ok());
            first.join().unwrap();
            close(&link);
        });
        connection.run();
        second.join().unwrap();
    });
}

#[test]
fn a_ping_that_races_a_close_is_answered_or_fails() {
    model(|| {
        let connection = detached(config(), Peer::default().answers_pings());
        let link = connection.link();
        let ping = Ping::new(Arc::clone(&link));
        let pings = thread::spawn(move || {
            assert!(matches!(wait_for(ping), Ok(_) | Err(SendError::Closed)));
        });
        let closer = thread::spawn(move || close(&link));
        connection.run();
        pings.join().unwrap();
        closer.join().unwrap();
    });
}
