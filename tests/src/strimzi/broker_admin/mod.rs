//! Requests of Kafka's protocol that no Rust client offers: access control lists and SCRAM users. Kafka's own tools could do the same,
//! but each of them starts a JVM in the broker's pod, which takes seconds and the broker's memory.

mod acls;
mod connection;
mod message;
mod scram;

pub use acls::{Acl, Pattern, Permission, ResourceType, operation_code};
pub use connection::BrokerAdmin;
