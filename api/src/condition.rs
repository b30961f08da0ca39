//! Conditions of a pipeline: a closed set, documented in docs/reference/status-and-events.md.

/// Topic, subject and tables match the spec.
pub const SCHEMA_READY: &str = "SchemaReady";
/// The topic exists.
pub const TOPIC_READY: &str = "TopicReady";
/// The schedule is in place.
pub const SCHEDULE_READY: &str = "ScheduleReady";
/// The desired workers run the current spec and are ready.
pub const WORKERS_READY: &str = "WorkersReady";
/// The four above are True.
pub const READY: &str = "Ready";
/// The data is as recent as the schedule promises, and in every sink. Separate from `Ready`.
pub const DATA_FRESH: &str = "DataFresh";
/// The pipeline is suspended and drained.
pub const SUSPENDED: &str = "Suspended";
/// kstatus: a change is being applied.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: nothing changes until the spec changes.
pub const STALLED: &str = "Stalled";
/// Others than the operator changed children of the pipeline. Separate from `Ready`.
pub const MODIFIED: &str = "Modified";
/// All runs of a back-fill have ended.
pub const COMPLETE: &str = "Complete";
/// Pipelines can use a connection.
pub const ACCEPTED: &str = "Accepted";
/// A Job could use all servers of a connection.
pub const CHECKED: &str = "Checked";
