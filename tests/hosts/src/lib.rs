//! Tests of `tower-websocket` under HTTP servers that need a newer Rust than the crate.
//!
//! Each server has one file in `tests/`. The library is empty.
