//! What the benches share.

pub mod node_network;
pub mod peers;
pub mod process;
pub mod report;
