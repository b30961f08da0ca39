//! Status of a pipeline.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LastSuccess, Run, RunNowStatus, StoreIdentity, StoreObject, TlsMode, TopicsStatus, omitted::is_zero};

/// Status of a pipeline, as the operator observed it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPipelineStatus {
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions. See docs/reference/status-and-events.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Version of the pods, and the operator's version if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionStatus>,
    /// Label selector of the workers, for `kubectl scale` and autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Name of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Names that the pipeline uses in the stores, set in the spec or derived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// The versions of its connections that the pipeline uses, or is changing to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub connections: Vec<ConnectionVersion>,
    /// The slot of this pipeline, while a changed connection is rolled out to it. At most five pipelines of
    /// a connection have one; a pipeline whose rollout fails has it until it succeeds or is edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_rollout: Option<ConnectionRollout>,
    /// SHA-256 of the ConfigMaps that the operator reads back: the connections that the pipeline last used,
    /// and the config of a later deletion Job. Others are ignored, because only the operator writes the status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub config_digests: Vec<String>,
    /// Objects in stores that this pipeline created, at most 32: `deletionPolicy: Delete` deletes only these,
    /// and only topics among them are changed. Absent in a pipeline that is older than this field, until one
    /// more schema Job has reported them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub created_objects: Option<Vec<StoreObject>>,
    /// Stores that the pipeline uses, as their servers reported to schema Jobs. Two pipelines whose stores have
    /// a common id use the same store, at whatever addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6))]
    pub store_identities: Vec<StoreIdentity>,
    /// TLS mode of PostgreSQL, Kafka and Cassandra where `tls` is omitted: `VerifyFull`, or `Disable` in a
    /// pipeline that is older than this field. Once a schema Job has succeeded with `tls` everywhere, it is
    /// `VerifyFull` for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_tls_mode: Option<TlsMode>,
    /// Result of the last schema Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaStatus>,
    /// The topics that Strimzi manages for the pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<TopicsStatus>,
    /// Result of the drain of a suspended pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// Progress of `deletionPolicy: Delete`, once the pipeline is being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionStatus>,
    /// Replica counts of the workers' Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersStatus>,
    /// Progress of the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// Result of `spec.runNow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNowStatus>,
    /// The run that ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Run>,
    /// The runs that ended last, newest first, at most ten. The ledger has all runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub runs: Vec<Run>,
    /// The last successful run, and the interval up to which data was fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<LastSuccess>,
    /// Totals since the pipeline was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// Number of messages on the topic that are not stored yet. Absent while a partition has no ready worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Time at which `totals` and `lag` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Time>,
}

/// Names in the stores. A name is absent if the pipeline does not use such an object.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Names {
    /// Topic of the records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Topic of the dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
    /// Subject in the schema registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Consumer group of the workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_group: Option<String>,
    /// Landing table in PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landing_table: Option<String>,
    /// Sink table in PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_table: Option<String>,
    /// Sink table in Cassandra, as `keyspace.table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra_table: Option<String>,
    /// Tables of the aggregates in Cassandra, as `keyspace.table`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregate_tables: Vec<String>,
    /// Views of the aggregates in PostgreSQL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregate_views: Vec<String>,
}

/// A version of a connection.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionVersion {
    /// Name of the connection.
    pub name: String,
    /// Uid of the connection: one that was deleted and created again has another.
    pub uid: String,
    /// Generation of the connection's spec.
    pub generation: i64,
    /// Hash of the listener in the connection's status, without its certificates. Absent without `kafka.strimzi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
}

/// The rollout of a changed connection.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRollout {
    /// Time at which it began.
    pub since: Time,
    /// Names of the connections that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub connections: Vec<String>,
}

/// Version of a pipeline's pods.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Version that the pods run: `spec.image.version`, or the operator's.
    pub wanted: String,
    /// The operator's version, if `spec.image.version` pins another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
}

/// Result of the last schema Job.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaStatus {
    /// Hash of the applied schema. A schema Job is needed while the desired hash differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_hash: Option<String>,
    /// Time at which it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Time>,
    /// Id of the schema in the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
    /// Number of partitions of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Id of the topic, as Kafka's tools print it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Id of the Kafka cluster in which it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_cluster: Option<String>,
    /// PostgreSQL database in which it was applied, as `SYSTEM_IDENTIFIER/DATABASE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_system: Option<String>,
    /// Hash of the schema that the failed attempts tried to apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempted_hash: Option<String>,
    /// Number of failed schema Jobs for that hash.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// Time of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Reason of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Message of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
}

/// Result of the drain of a suspended pipeline.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// Time at which the suspension was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Time at which a drain Job found the consumer group empty and every stored offset committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// Message of that drain Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Committed offsets of the group, by partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<String, i64>,
    /// Number of messages on the topic that were not stored yet.
    #[serde(default)]
    pub lag: i64,
    /// Number of failed drain Jobs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// Time of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Reason of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

/// Progress of `deletionPolicy: Delete`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionStatus {
    /// Time at which a deletion Job had deleted everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Time>,
    /// Message of the last deletion Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Names of the `KafkaTopic` resources that are deleted with the pipeline, after the deletion Job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub kafka_topics: Vec<String>,
    /// Time at which Strimzi had deleted their topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics_deleted_at: Option<Time>,
    /// Number of failed deletion Jobs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// Time of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Reason of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

/// Replica counts of the workers' Deployment.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkersStatus {
    /// Number of workers.
    pub replicas: i32,
    /// Number of ready workers.
    pub ready: i32,
    /// Ready and desired workers, as `2/2`.
    pub summary: String,
}

/// Progress of the schedule.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Time at which the next run is due. Absent if none is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<Time>,
    /// All intervals that end up to this time are settled: each ran or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_until: Option<Time>,
    /// Number of complete intervals that have not run yet, counted up to 1000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backlog: i32,
    /// Number of consecutive failed runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_failures: i32,
    /// Name of the ConfigMap of these runs. Failures with an older ConfigMap do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_of: Option<String>,
    /// Hash of the schedule in effect: cron, time zone, start, deadlines and suspension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Time since which this schedule is in effect. `DataFresh` evaluates only runs that are due later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_since: Option<Time>,
}

/// Totals since the pipeline was created.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Number of record versions landed.
    #[serde(default)]
    pub fetched: i64,
    /// Number of topic offsets acknowledged by every sink.
    #[serde(default)]
    pub stored: i64,
    /// Number of messages sent to the dead-letter topic.
    #[serde(default)]
    pub dead_lettered: i64,
    /// Number of record versions that an aggregate did not count, because their windows had expired. One that several
    /// aggregates did not count is counted for each.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: i64,
    /// Number of record versions landed, or with `source.topic` of messages stored, that do not pass
    /// `spec.record.where`.
    #[serde(default)]
    pub filtered: i64,
}
