//! What `tower-websocket` costs, beside its peers and a TCP echo without WebSockets.
//!
//! The binary is all there is to use; `README.md` says how, and what the figures mean.

pub mod arguments;
pub mod cores;
pub mod load;
pub mod measure;
pub mod process;
pub mod server;
pub mod subject;
pub mod table;
pub mod wire;

/// What goes wrong in a measurement ends it, with a text for whoever started it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
