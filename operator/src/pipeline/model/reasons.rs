//! Reasons of conditions that more than one module uses, and problems of objects as a reason with a message.

/// A reason and a message.
pub type Problem = (String, String);

/// `ScheduleReady`: too many runs failed in a row.
pub const PAUSED: &str = "PausedAfterFailures";
/// Of all conditions of a pipeline that is being deleted.
pub const DELETING: &str = "Deleting";
/// A pipeline names a connection that does not exist.
pub const CONNECTION_MISSING: &str = "ConnectionMissing";
/// A pipeline names a connection that cannot be used.
pub const CONNECTION_INVALID: &str = "ConnectionInvalid";
/// A Job was deleted before it ended.
pub const JOB_DELETED: &str = "JobDeleted";
/// A schema Job waits until Strimzi has the topics.
pub const WAITING_FOR_TOPICS: &str = "WaitingForTopics";
/// Used where neither a pod nor Kubernetes reports a reason.
pub const UNSPECIFIED: &str = "Unspecified";

/// Progress, not a fault: no Event is published for `WorkersReady=False` with one of them.
pub const IN_PROGRESS: [&str; 11] = [
    "RollingOut",
    "Unavailable",
    "WaitingForSchema",
    "Draining",
    "InvalidSpec",
    "Conflict",
    "Applying",
    "BeingDeleted",
    "Changed",
    "Starting",
    KAFKA_USER_PENDING,
];
/// The same for `TopicReady`.
pub const TOPIC_IN_PROGRESS: [&str; 6] = [
    "Inspecting",
    "WaitingForTopicOperator",
    "BeingDeleted",
    "Changed",
    "Applying",
    "Unspecified",
];
/// Strimzi has not reconciled the pipeline's `KafkaUser` yet.
pub const KAFKA_USER_PENDING: &str = "KafkaUserPending";
/// A child cannot be applied or deleted.
pub const NOT_APPLIED: [&str; 3] = ["ApplyFailed", "NotOurs", "DeleteFailed"];
