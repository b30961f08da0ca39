//! From the topic to the sinks, and the tasks around it: create topic, subject and tables, verify a drained group, delete
//! data, inspect dead letters.

pub mod back_off;
pub mod claims;
pub mod cli;
pub mod context;
pub mod created_objects;
pub mod dead_letters;
pub mod heartbeat;
pub mod http;
pub mod metrics;
pub mod mode;
pub mod model;
pub mod progress;
pub mod run;
pub mod sinks;
pub mod status;
pub mod store_identities;
pub mod tasks;
mod wires;
