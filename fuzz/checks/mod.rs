//! The checks of the fuzz targets that use private modules.
//!
//! Compiled with `--cfg tower_websocket_fuzzing` alone; `fuzz/README.md` says how to run them. Each function
//! panics when something does not hold, whatever bytes it is given.

#![allow(missing_docs, reason = "nobody but the fuzz targets sees it")]

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

/// Takes the first byte off, zero when there is none.
fn byte(data: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = data.split_first() else {
        return 0;
    };
    *data = rest;
    first
}
