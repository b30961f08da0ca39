//! A stand-in for Strimzi: its custom resource definitions, and what its operators do with `KafkaTopic`, `KafkaUser` and `Kafka`, at the
//! Kafka of the local cluster. It does what was observed on a real Strimzi, as far as a pipeline can notice, and contains nothing of it.
//!
//! All stories share one Kafka, so an installation touches only what begins with the prefix of its story. What a real Strimzi does
//! besides that is left out: `user.p12` and `user.password` of a tls user, quotas, the renewal of user certificates, and whatever
//! concerns brokers.

pub mod broker_admin;
mod conditions;
pub mod crds;
pub mod in_memory;
mod installation;
mod kafka_resource;
pub mod model;
pub mod resources;
mod topics;
mod users;
mod watch_loop;

pub use installation::{Installation, remove_users};
pub use kafka_resource::KafkaResource;
