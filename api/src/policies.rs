//! Policies for suspending and deleting a pipeline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to active runs when the pipeline is suspended.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SuspendPolicy {
    /// Active runs finish, then the workers stop.
    #[default]
    Finish,
    /// Active runs are stopped, as a suspended Job is, and resume with the pipeline.
    Stop,
}

/// What happens to topic, subject, consumer group and tables when the pipeline is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// They stay. A new pipeline with the same name continues with them.
    #[default]
    Retain,
    /// A Job deletes what the pipeline created, before the pipeline is gone. What existed before the pipeline
    /// stays.
    Delete,
}
