//! Tests of `tower-websocket` under HTTP servers that need a newer Rust than it does.
//!
//! One file in `tests/` for each server; there is nothing in the library.
