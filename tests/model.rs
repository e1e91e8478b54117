//! A whole connection against a reference model: random steps of a handler, senders, a peer and the
//! clock. Messages keep the order of their sender, none is lost or comes twice, and every end has the
//! code that its cause calls for.
//!
//! | File in `model/` | Holds |
//! | --- | --- |
//! | `session` | the steps of a session |
//! | `settings` | what a session may be set to |
//! | `oracle` | the reference model |
//! | `outgoing` | its rules for what this side sends |
//! | `incoming` | its rules for what the peer sends, and for ends |
//! | `rest` | what must have happened when all tasks sleep |
//! | `words` | causes, places, messages; what is to be changed when a rule of the crate changes |
//! | `actors` | handlers, holders of sockets, senders |
//! | `peer` | the peer, which writes and reads bytes |
//! | `stream` | the pipe between the peer and the connection |
//!
//! The test takes a million steps, or as many as `STEPS` says, in sessions of some hundred. It is the
//! same in every run: the clock is stopped, there is one thread, and all that is random comes from the
//! seed of the session. A failure prints the last steps and the seed; `SEED=<seed> cargo test
//! --all-features --test model` runs that session alone. Should a test hang, `SEEDS=1` prints each
//! seed as its session begins.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "model/actors.rs"]
mod actors;
#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/peer.rs"]
mod peer;
#[path = "model/session.rs"]
mod session;
#[path = "model/settings.rs"]
mod settings;
#[path = "model/stream.rs"]
mod stream;
mod support;
#[path = "model/words.rs"]
mod words;

use std::time::Duration;

use schedule::{Random, run};
use session::Session;
use support::{schedule, wire};
use words::Place;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Returns how many steps are to be taken.
fn steps() -> usize {
    match std::env::var("STEPS") {
        Ok(steps) => steps.parse().unwrap(),
        Err(_) => 1_000_000,
    }
}

#[test]
fn keeps_to_the_model_with_a_handler() {
    run(steps() / 2, |seed| async move {
        let mut random = Random::new(seed);
        let places = [Place::Inside, Place::Inside, Place::Moved, Place::Awaited];
        let mut place = random.pick(&places);
        if random.below(5) == 0 {
            place = Place::Left;
        }
        Session::open(random, seed, place).await.run().await
    });
}

#[test]
fn keeps_to_the_model_with_a_socket_of_its_own() {
    run(steps() / 2, |seed| async move {
        let random = Random::new(seed.rotate_left(32));
        Session::open(random, seed, Place::Alone).await.run().await
    });
}
