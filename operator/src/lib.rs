//! The operator: it creates a schema Job, a CronJob and a Deployment for each `UserPipeline`, and reports their state.
//!
//! It holds no credentials and opens no connection to Kafka, PostgreSQL or Cassandra: it knows of them only what pods report.

pub mod backfill;
pub mod connection;
pub mod health;
pub mod identity;
pub mod leader;
pub mod metrics;
pub mod pipeline;
pub mod strimzi;

pub use identity::MANAGER;
