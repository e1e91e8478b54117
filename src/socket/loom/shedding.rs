//! Models of a connection that has to drop the memory that it holds.

use std::{sync::Arc, time::Duration};

use ::loom::thread;

use super::{
    connection::{config, counted},
    message, model, payload,
    peer::{Gate, Peer},
    recv, wait_for,
};
use crate::{
    socket::{Events, Traffic, link::Caller},
    words::{CloseCode, ConnectionId},
};

/// A registry that ignores events.
struct Silent;

impl Events for Silent {
    fn round_trip(&self, _: ConnectionId, _: Duration) {}

    fn held(&self, _: isize) {}

    fn traffic(&self, _: ConnectionId, _: Traffic) {}
}

/// The connection is woken for it whatever it does at the moment, and ends with 1013.
#[test]
fn a_connection_that_sheds_its_memory_ends() {
    model(|| {
        let connection = counted(config(), Peer::default().sends(7), Arc::new(Silent));
        let link = connection.link();
        let sender = thread::spawn(move || {
            let _ = wait_for(link.send(message(1), Caller::Holder));
            while payload(wait_for(recv(&link))).is_some() {}
        });
        let link = connection.link();
        let registry = thread::spawn(move || link.shed());
        let link = connection.link();
        let written = connection.run();
        sender.join().unwrap();
        registry.join().unwrap();
        assert!(written.is_empty() || written == [1], "{written:?}");
        let code = link.ending().unwrap().code();
        assert_eq!(code, Some(CloseCode::TRY_AGAIN_LATER));
    });
}

/// Output that is blocked is dropped, and the connection ends once output moves.
#[test]
fn a_blocked_connection_that_sheds_its_memory_ends() {
    model(|| {
        let gate = Arc::new(Gate::default());
        let peer = Peer::default().blocks_writes(&gate);
        let mut connection = counted(config(), peer, Arc::new(Silent));
        let link = connection.link();
        assert!(wait_for(link.send(message(1), Caller::Holder)).is_ok());
        assert!(!connection.poll());
        let registry = thread::spawn(move || {
            link.shed();
            gate.open();
        });
        let link = connection.link();
        let written = connection.run();
        registry.join().unwrap();
        assert!(written.is_empty() || written == [1], "{written:?}");
        assert_eq!(link.buffered().bytes, 0);
        let code = link.ending().unwrap().code();
        assert_eq!(code, Some(CloseCode::TRY_AGAIN_LATER));
    });
}
