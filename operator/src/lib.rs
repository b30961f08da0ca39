//! The operator: it creates a schema Job, a CronJob and a Deployment for each `UserPipeline`, and reports their state.
//!
//! It holds no credentials and opens no connection to Kafka, PostgreSQL or Cassandra: it knows of them only what pods report.

pub mod backfill;
mod cli;
pub mod connection;
pub mod health;
pub mod identity;
mod installed;
pub mod leader;
pub mod metrics;
pub mod pipeline;
pub mod program;
mod replace_status;
pub mod strimzi;

pub use identity::MANAGER;
