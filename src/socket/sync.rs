//! The lock of a connection: std's, or loom's where `loom.rs` tries every order in which threads take
//! it.

#[cfg(not(all(test, tower_websocket_loom)))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, tower_websocket_loom))]
pub(super) use ::loom::sync::{Mutex, MutexGuard};
