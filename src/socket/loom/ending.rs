//! Models of the end of a connection.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
};

use ::loom::thread;

use super::{
    close,
    connection::{Verdict, config, detached, detached_with_outbox_of_one, handled},
    flushed, message, model, payload,
    peer::{Gate, Peer},
    poll_once, recv, wait_for,
};
use crate::socket::{RecvError, link::Caller};

#[test]
fn a_running_handler_is_evicted() {
    model(|| {
        let connection = handled(config(), Peer::default(), async |socket| {
            let never = pending::<Verdict>().await;
            drop(socket);
            never
        });
        let link = connection.link();
        let evicts = thread::spawn(move || {
            close(&link);
            link.evict();
        });
        connection.run();
        evicts.join().unwrap();
    });
}

#[test]
fn a_close_follows_messages_that_were_blocked() {
    model(|| {
        let gate = Arc::new(Gate::default());
        let connection = detached(config(), Peer::default().blocks_writes(&gate));
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(1), Caller::Holder)).is_ok());
            close(&link);
            assert!(wait_for(link.wait_closed()).is_clean());
            assert!(wait_for(poll_fn(|cx| link.poll_ended(cx))).is_ok());
        });
        let opener = thread::spawn(move || gate.open());
        assert_eq!(connection.run(), [1]);
        sender.join().unwrap();
        opener.join().unwrap();
    });
}

#[test]
fn answers_before_a_close_are_flushed_once_output_moves() {
    model(|| {
        let gate = Arc::new(Gate::default());
        let peer = Peer::default().sends(1).closes().blocks_writes(&gate);
        let connection = detached(config(), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            assert_eq!(payload(wait_for(recv(&link))), Some(1));
            for payload in [8, 9] {
                assert!(wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            }
            assert!(wait_for(flushed(&link)).is_ok());
            assert_eq!(payload(wait_for(recv(&link))), None);
        });
        let opener = thread::spawn(move || gate.open());
        assert_eq!(connection.run(), [8, 9]);
        holder.join().unwrap();
        opener.join().unwrap();
    });
}

/// A message is written before the Close exactly if its send succeeded.
#[test]
fn messages_that_race_a_close_are_written_or_refused() {
    model(|| {
        let connection = detached_with_outbox_of_one();
        let link = connection.link();
        let sender = thread::spawn(move || {
            let sent =
                [1, 2].map(|payload| wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            assert_eq!(payload(wait_for(recv(&link))), None);
            sent
        });
        let link = connection.link();
        let closer = thread::spawn(move || close(&link));
        let written = connection.run();
        let sent = sender.join().unwrap();
        closer.join().unwrap();
        let sent = [1, 2].into_iter().zip(sent).filter(|(_, sent)| *sent);
        assert!(sent.map(|(payload, _)| payload).eq(written));
    });
}

/// A flush of discarded messages fails, and all waiting tasks are woken.
#[test]
fn messages_that_race_a_loss_are_written_or_reported_lost() {
    model(|| {
        let mut connection = detached_with_outbox_of_one();
        let link = connection.link();
        let sender = thread::spawn(move || {
            let sent =
                [1, 2].map(|payload| wait_for(link.send(message(payload), Caller::Holder)).is_ok());
            let is_flushed = wait_for(flushed(&link)).is_ok();
            let is_all = wait_for(poll_fn(|cx| link.poll_ended(cx))).is_ok();
            (sent, is_flushed, is_all)
        });
        let link = connection.link();
        let other = thread::spawn(move || {
            assert!(matches!(wait_for(recv(&link)), Err(RecvError::Io(_))));
            assert!(!wait_for(link.wait_closed()).is_clean());
        });
        connection.poll();
        let peer = connection.peer.clone();
        drop(connection);
        let (sent, is_flushed, is_all) = sender.join().unwrap();
        other.join().unwrap();
        let sent = sent.into_iter().filter(|sent| *sent).count();
        assert_eq!(is_flushed, peer.has(sent));
        assert_eq!(is_all, peer.has(sent));
    });
}

#[test]
fn messages_that_cannot_be_written_are_reported_lost() {
    model(|| {
        let connection = detached(config().max_outbox(1, 1024), Peer::default().fails_writes());
        let link = connection.link();
        let sender = thread::spawn(move || {
            assert!(wait_for(link.send(message(1), Caller::Holder)).is_ok());
            // It waits for room until the connection breaks, or is sent too late.
            assert!(wait_for(link.send(message(2), Caller::Holder)).is_err());
            assert!(wait_for(flushed(&link)).is_err());
            assert!(wait_for(poll_fn(|cx| link.poll_ended(cx))).is_err());
        });
        let link = connection.link();
        let other = thread::spawn(move || assert!(!wait_for(link.wait_closed()).is_clean()));
        assert!(connection.run().is_empty());
        sender.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn dropping_the_socket_ends_the_connection() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).sends(3);
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            assert_eq!(payload(wait_for(recv(&link))), Some(1));
            link.abandon(false);
            assert!(wait_for(link.wait_closed()).is_clean());
        });
        connection.run();
        holder.join().unwrap();
    });
}

#[test]
fn the_last_waker_that_waits_for_the_end_is_woken() {
    model(|| {
        let connection = detached_with_outbox_of_one();
        let link = connection.link();
        let holder = thread::spawn(move || {
            let mut ending = pin!(link.wait_closed());
            let _ = poll_once(ending.as_mut());
            assert!(wait_for(ending).is_clean());
        });
        let link = connection.link();
        let closer = thread::spawn(move || close(&link));
        connection.run();
        holder.join().unwrap();
        closer.join().unwrap();
    });
}
