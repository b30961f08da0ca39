//! The proof of exactness: a source whose every item and version is known, faults whose effects are observed, and the comparison
//! of what the source served with the landing table, the topic, PostgreSQL and Cassandra.

pub mod comparison;
mod evidence;
pub mod fault;
pub mod garbage;
mod group;
pub mod inject;
pub mod network;
pub mod node;
mod outage;
mod rejected;
pub mod services;
pub mod source_model;
pub mod source_server;
pub mod trial;
pub mod volume;

pub use fault::{Fault, Network, SourceFault, Store};
pub use trial::Trial;
