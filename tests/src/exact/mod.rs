//! What the proof of exactness is told with: a source whose every item and version is known, faults that are seen to hit,
//! and the comparison of what it served with what is in landing, topic, PostgreSQL and Cassandra.

pub mod book;
mod evidence;
pub mod fault;
pub mod garbage;
mod group;
pub mod network;
pub mod node;
mod outage;
mod refused;
pub mod scene;
pub mod server;
pub mod services;
pub mod strike;
pub mod verdict;
pub mod volume;

pub use fault::{Fault, Misdeed, Network, Store};
pub use scene::Scene;
