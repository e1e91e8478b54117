//! The locks of connections and rooms: std's, or loom's for the models.

#[cfg(all(feature = "hub", not(all(test, tower_websocket_loom))))]
pub(crate) use std::sync::atomic::AtomicBool;
#[cfg(not(all(test, tower_websocket_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(all(feature = "hub", test, tower_websocket_loom))]
pub(crate) use ::loom::sync::atomic::AtomicBool;
#[cfg(all(test, tower_websocket_loom))]
pub(crate) use ::loom::sync::{Mutex, MutexGuard};
