//! What the fuzz targets call: the rules of this crate under arbitrary bytes, with what must hold
//! of them.
//!
//! Only there for `--cfg fuzzing`, which `cargo fuzz` sets; `fuzz/README.md` says how to run it.
//! Each function panics when something does not hold, whatever it is given.

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
