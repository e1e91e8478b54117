//! Models of receiving.

use std::{pin::pin, task::Poll};

use ::loom::thread;

use super::{
    connection::{config, detached},
    message, model, payload,
    peer::{CLOSE, Peer, frame},
    poll_once, recv, wait_for,
};
use crate::socket::{RecvError, link::Caller};

#[test]
fn each_message_is_received_once_in_order() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).closes();
        let connection = detached(config(), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = [(); 3].map(|()| payload(wait_for(recv(&link))));
            assert_eq!(received, [Some(1), Some(2), None]);
        });
        connection.run();
        holder.join().unwrap();
    });
}

#[test]
fn reading_goes_on_when_a_full_inbox_has_room() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).sends(3).closes();
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = [(); 4].map(|()| payload(wait_for(recv(&link))));
            assert_eq!(received, [Some(1), Some(2), Some(3), None]);
        });
        connection.run();
        holder.join().unwrap();
    });
}

/// The holder decodes messages that a full inbox has no room for. It leaves the ping to the
/// connection.
#[test]
fn the_holder_leaves_control_frames_to_the_connection() {
    model(|| {
        let frames = [frame(0x82, 1), frame(0x82, 2), frame(0x89, 7)].concat();
        let peer = Peer::default().then([&frames[..], &CLOSE[..]].concat());
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = [(); 3].map(|()| payload(wait_for(recv(&link))));
            assert_eq!(received, [Some(1), Some(2), None]);
        });
        assert_eq!(connection.run(), [7]);
        holder.join().unwrap();
    });
}

#[test]
fn the_end_of_the_stream_waits_for_the_answer() {
    model(|| {
        let connection = detached(config(), Peer::default().sends(1).ends());
        let link = connection.link();
        let holder = thread::spawn(move || {
            assert_eq!(payload(wait_for(recv(&link))), Some(1));
            assert!(wait_for(link.send(message(9), Caller::Holder)).is_ok());
            assert!(matches!(wait_for(recv(&link)), Err(RecvError::Io(_))));
        });
        assert_eq!(connection.run(), [9]);
        holder.join().unwrap();
    });
}

#[test]
fn the_last_waker_of_recv_is_woken() {
    model(|| {
        let connection = detached(config(), Peer::default().sends(1).closes());
        let link = connection.link();
        let holder = thread::spawn(move || {
            let received = match poll_once(pin!(recv(&link))) {
                Poll::Ready(received) => received,
                Poll::Pending => wait_for(recv(&link)),
            };
            assert_eq!(payload(received), Some(1));
            assert_eq!(payload(wait_for(recv(&link))), None);
        });
        connection.run();
        holder.join().unwrap();
    });
}

#[test]
fn reading_goes_on_after_ignore_incoming() {
    model(|| {
        let peer = Peer::default().sends(1).sends(2).sends(3).closes();
        let connection = detached(config().max_inbox(1, 1024), peer);
        let link = connection.link();
        let holder = thread::spawn(move || {
            link.ignore_incoming();
            assert!(wait_for(link.wait_closed()).is_clean());
            assert_eq!(payload(wait_for(recv(&link))), None);
            assert_eq!(link.traffic().messages_received, 3);
        });
        connection.run();
        holder.join().unwrap();
    });
}
