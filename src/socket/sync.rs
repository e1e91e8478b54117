//! The lock of a connection: std's, or loom's for the models in `loom`.

#[cfg(not(all(test, tower_websocket_loom)))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, tower_websocket_loom))]
pub(super) use ::loom::sync::{Mutex, MutexGuard};
