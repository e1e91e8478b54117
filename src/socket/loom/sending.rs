//! Models of sending, and of waiting for room.

use std::{
    future::{Future, Pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};

use ::loom::thread;

use super::{
    Signal, close,
    connection::{Connection, Verdict, config, detached, detached_with_outbox_of_one, handled},
    flushed, message, model,
    peer::{Gate, Peer},
    poll_once, send_future, wait_for,
};
use crate::socket::{SendError, link::Caller};

#[test]
fn sent_messages_are_written_without_another_wake() {
    model(|| {
        let mut connection = detached(config(), Peer::default());
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(1), Caller::Holder)).is_ok());
            assert!(link.try_send(message(2)).is_ok());
        });
        connection.run_until(2);
        sender.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![1, 2], false));
    });
}

#[test]
fn a_handler_and_another_thread_send_at_once() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2);
        let mut connection = handled(config(), peer, async |mut socket| {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok(())
        });
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(8), Caller::Holder)).is_ok());
            assert!(wait_for(link.send(message(9), Caller::Holder)).is_ok());
        });
        connection.run_until(4);
        sender.join().unwrap();
        let (mut written, _) = connection.peer.written();
        written.sort_unstable();
        assert_eq!(written, [1, 2, 8, 9]);
    });
}

#[test]
fn what_is_sent_while_a_connection_settles_is_written_or_wakes_it() {
    model(|| {
        let connection = detached(config(), Peer::default());
        let link = connection.link();
        let sender = thread::spawn({
            let link = Arc::clone(&link);
            move || {
                assert!(link.try_send(message(1)).is_ok());
                close(&link);
            }
        });
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(Arc::clone(&signal));
        let mut written = 0;
        let write = |bytes: &[u8]| Ok(bytes.len());
        loop {
            let settled = link.settle(write, &Context::from_waker(&waker));
            written += settled.written.unwrap();
            match settled.sleep {
                Some(_) => signal.wait(),
                // The Close has to be sent.
                None => break,
            }
        }
        sender.join().unwrap();
        let left = link.buffered();
        assert!(
            matches!((written, left.messages), (3, 0) | (0, 1)),
            "{written} {left:?}"
        );
    });
}

#[test]
fn two_senders_share_the_room_for_one() {
    model(|| {
        let mut connection = detached_with_outbox_of_one();
        let senders = [1, 2].map(|payload| {
            let link = connection.link();
            thread::spawn(move || {
                assert!(wait_for(link.send(message(payload), Caller::Holder)).is_ok());
                assert!(link.buffered().messages <= 1);
            })
        });
        connection.run_until(2);
        for sender in senders {
            sender.join().unwrap();
        }
        let (mut written, _) = connection.peer.written();
        written.sort_unstable();
        assert_eq!(written, [1, 2]);
    });
}

#[test]
fn messages_sent_while_output_is_blocked_are_written_later() {
    model(|| {
        let gate = Arc::new(Gate::default());
        let peer = Peer::default().blocks_writes(&gate);
        let mut connection = detached(config().max_outbox(2, 1024), peer);
        let link = connection.link();
        let sender = thread::spawn(move || {
            for payload in [1, 2, 3] {
                assert!(wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            }
        });
        let opener = thread::spawn(move || gate.open());
        connection.run_until(3);
        sender.join().unwrap();
        opener.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![1, 2, 3], false));
    });
}

#[test]
fn a_sink_is_flushed_beside_a_sender() {
    model(|| {
        let mut connection = detached_with_outbox_of_one();
        let other = send_future(&connection.link, 1);
        let sender = thread::spawn(move || assert!(wait_for(other).is_ok()));
        let (link, peer) = (connection.link(), connection.peer.clone());
        let sink = thread::spawn(move || {
            assert!(wait_for(poll_fn(|cx| link.poll_room(1, cx))).is_ok());
            assert!(link.push(message(2)).is_ok());
            assert!(wait_for(flushed(&link)).is_ok());
            assert!(peer.written().0.contains(&2));
        });
        connection.run_until(2);
        sender.join().unwrap();
        // Nothing wakes the holder if everything is written before it asks.
        sink.join().unwrap();
    });
}

/// Makes a connection without room, and two senders that wait for it in this order.
fn two_waiters() -> (
    Connection<Pending<Verdict>>,
    [Pin<Box<dyn Future<Output = Result<(), SendError>>>>; 2],
) {
    let connection = detached_with_outbox_of_one();
    assert!(connection.link.try_send(message(0)).is_ok());
    let mut waiters = [1, 2].map(|payload| send_future(&connection.link, payload));
    for waiter in &mut waiters {
        assert!(poll_once(waiter.as_mut()).is_pending());
    }
    (connection, waiters)
}

#[test]
fn a_dropped_waiter_gives_its_room_to_the_next() {
    model(|| {
        let (mut connection, [first, second]) = two_waiters();
        let gone = thread::spawn(move || drop(first));
        let sender = thread::spawn(move || assert!(wait_for(second).is_ok()));
        connection.run_until(2);
        gone.join().unwrap();
        sender.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![0, 2], false));
    });
}

#[test]
fn a_waiter_that_is_not_polled_is_skipped() {
    model(|| {
        let (mut connection, [first, second]) = two_waiters();
        let sender = thread::spawn(move || {
            assert!(wait_for(second).is_ok());
            assert!(wait_for(first).is_ok());
        });
        connection.run_until(3);
        sender.join().unwrap();
        assert_eq!(connection.peer.written(), (vec![0, 2, 1], false));
    });
}
