//! The operator: one `UserPipeline` becomes a schema Job, a CronJob and a Deployment, and says how they are.
//!
//! It holds no credentials and opens no connection to Kafka, PostgreSQL or Cassandra: what it knows of them, pods have told it.

pub mod backfill;
pub mod health;
pub mod identity;
pub mod leader;
pub mod metrics;
pub mod pipeline;

/// Who writes: the field manager of server-side apply, the controller of Events, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "userpipeline-operator";
