//! Measures the cost of `tower-websocket`, of its peers, and of a TCP echo without WebSockets.
//!
//! Only the binary is for users. `README.md` describes it and explains the figures.

pub mod arguments;
pub mod cores;
pub mod load;
pub mod measure;
pub mod process;
pub mod server;
pub mod subject;
pub mod table;
pub mod wire;

/// An error that ends a measurement. The binary prints its text.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
