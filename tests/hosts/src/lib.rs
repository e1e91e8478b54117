//! Tests and examples of `tower-websocket` with HTTP servers and other crates that need a newer Rust than it.
//!
//! Each of them has one file in `tests/`, and the examples are in `examples/`. The library is empty.
