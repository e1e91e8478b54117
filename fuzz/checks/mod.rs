//! The checks of the fuzz targets that use private modules.
//!
//! They are only compiled with `--cfg tower_websocket_fuzzing`. `fuzz/README.md` describes how to run them.
//! Each function accepts any bytes and panics if a check fails.

#![allow(missing_docs, reason = "only the fuzz targets use it")]

#[cfg(feature = "deflate")]
mod deflate;
mod frames;
mod lists;

#[cfg(feature = "deflate")]
pub use self::deflate::deflate;
pub use self::{
    frames::{Conversation, conversation, frames},
    lists::{contains_token, extensions, origins, subprotocols},
};
#[cfg(feature = "hub")]
pub use crate::hub::checks::position;

/// Takes the first byte, or returns 0 at the end.
fn byte(data: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = data.split_first() else {
        return 0;
    };
    *data = rest;
    first
}
