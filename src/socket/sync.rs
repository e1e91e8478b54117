//! The locks of connections and rooms: std's, or loom's for the models.

#[cfg(not(all(test, tower_websocket_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicBool};

#[cfg(all(test, tower_websocket_loom))]
pub(crate) use ::loom::sync::{Mutex, MutexGuard, atomic::AtomicBool};
