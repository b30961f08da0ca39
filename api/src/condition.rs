//! The conditions of a pipeline and the reasons they give: a closed set, documented in the guide to status and events.

/// Topic, subject and tables are as the spec wants them.
pub const SCHEMA_READY: &str = "SchemaReady";
/// The topic is there.
pub const TOPIC_READY: &str = "TopicReady";
/// The schedule is in place.
pub const SCHEDULE_READY: &str = "ScheduleReady";
/// The wanted workers run the wanted spec and are ready.
pub const WORKERS_READY: &str = "WorkersReady";
/// All of the above.
pub const READY: &str = "Ready";
/// The data is as recent as the schedule promises, and has reached every sink. Stands beside `Ready`.
pub const DATA_FRESH: &str = "DataFresh";
/// Schedule and workers are stopped because the spec says so.
pub const SUSPENDED: &str = "Suspended";
/// kstatus: work towards the spec is under way.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: no progress can be expected without a change.
pub const STALLED: &str = "Stalled";
/// All of a back-fill has ended.
pub const COMPLETE: &str = "Complete";
