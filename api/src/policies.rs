//! What happens to what is under way, and to what was made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to runs that are under way when the pipeline is suspended.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SuspendPolicy {
    /// They end first; the workers stop when they have.
    #[default]
    Finish,
    /// They are stopped as a suspended Job is, and go on with the pipeline.
    Stop,
}

/// What becomes of topic, subject, consumer group and tables when the pipeline is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// They stay, and a pipeline of the same name takes them up again.
    #[default]
    Retain,
    /// What the pipeline has made is deleted by a Job before the pipeline itself is gone. What was there before it stays.
    Delete,
}
