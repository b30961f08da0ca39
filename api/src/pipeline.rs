//! The resource itself: what a user writes under `spec`.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    Cassandra, DeadLetter, DeletionPolicy, Image, Kafka, Landing, Pods, Postgres, RecordSpec, Retention, RunNow, Schedule, SchemaRegistry,
    Sinks, Source, SuspendPolicy, UserPipelineStatus, Workers,
};

/// Records from an HTTP API to PostgreSQL, through Kafka, into Cassandra and PostgreSQL; on a schedule.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "userpipeline.dev",
    version = "v1alpha1",
    kind = "UserPipeline",
    plural = "userpipelines",
    shortname = "up",
    category = "pipelines",
    namespaced,
    status = "UserPipelineStatus",
    derive = "PartialEq",
    cel,
    doc = "Records from an HTTP API to PostgreSQL, through Kafka, into Cassandra and PostgreSQL; on a schedule.",
    scale(
        spec_replicas_path = ".spec.workers.replicas",
        status_replicas_path = ".status.workers.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Fresh", type_ = "string", json_path = ".status.conditions[?(@.type=='DataFresh')].status", description = "Whether the data is as recent as the schedule promises, and in every sink"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule.cron"),
    printcolumn(name = "Suspended", type_ = "string", json_path = ".status.conditions[?(@.type=='Suspended')].status"),
    printcolumn(name = "Last Run", type_ = "date", json_path = ".status.lastRun.finishedAt", description = "Since the last run ended"),
    printcolumn(name = "Fetched", type_ = "integer", json_path = ".status.totals.fetched", description = "Record versions landed, ever"),
    printcolumn(name = "Stored", type_ = "integer", json_path = ".status.totals.stored", description = "Topic offsets acknowledged by every sink, ever"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag", description = "Records on the topic that the workers have not stored; empty while unknown"),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers.summary", description = "Ready and wanted"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = 1),
    printcolumn(name = "Next Run", type_ = "string", json_path = ".status.schedule.nextRunAt", priority = 1),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.schedule.backlog", priority = 1, description = "With catchUp, data intervals that are complete and have not been run yet"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "Topic", type_ = "string", json_path = ".status.topic", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name must be at most 63 lower-case letters, digits and '-', without dots: names of children, topics and tables derive from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.schedule) == has(self.source.http)")
        .message("spec.schedule goes with spec.source.http, which needs it; spec.source.topic has no runs"),
    validation = Rule::new("!has(self.runNow) || has(self.source.http)")
        .message("spec.runNow goes with spec.source.http: with spec.source.topic there are no runs"),
    validation = Rule::new("!has(self.source.topic) || (has(self.record) && has(self.record.orderBy))")
        .message("spec.source.topic needs spec.record with orderBy: only the records themselves can say which of two versions is newer"),
    validation = Rule::new("has(self.schemaRegistry) || (has(self.source.topic) && self.source.topic.format == 'JSON')")
        .message("spec.schemaRegistry is needed: records are Avro, or others write Avro to the topic"),
    validation = Rule::new("!has(self.sinks.cassandra) || has(self.cassandra)")
        .message("spec.cassandra is needed by spec.sinks.cassandra: give contactPoints, localDatacenter and credentialsSecretRef"),
    validation = Rule::new("has(self.sinks.cassandra) || !has(self.cassandra)")
        .message("spec.cassandra is given but nothing is written there: add spec.sinks.cassandra or remove it"),
    validation = Rule::new("!has(self.sinks.postgres) || !has(self.sinks.postgres.table) || !has(self.landing.table) || self.sinks.postgres.table != self.landing.table")
        .message("spec.landing.table and spec.sinks.postgres.table must differ: the one is what was fetched, the other what was streamed"),
    validation = Rule::new("!has(self.deadLetter.topic) || !has(self.kafka.topic.name) || self.deadLetter.topic != self.kafka.topic.name")
        .message("spec.deadLetter.topic must differ from spec.kafka.topic.name: a dead letter must not come back as a record"),
    validation = Rule::new("!has(oldSelf.record) || has(self.record)")
        .message("spec.record cannot be taken away: what is stored are such records; make a new pipeline instead"),
    validation = Rule::new("has(oldSelf.record) || !has(self.record) || (self.record.name == 'User' && self.record.__namespace__ == 'dev.userpipeline' && self.record.key == ['id'] && !has(self.record.orderBy) && (!has(self.record.clusterBy) || self.record.clusterBy.size() == 0))")
        .message("what is stored are the built-in records: spec.record can be added only with name User, namespace dev.userpipeline and key [id], without orderBy and clusterBy; make a new pipeline for others"),
)]
pub struct UserPipelineSpec {
    /// Stops the schedule and, when the runs under way have ended, the workers; resume by setting it back. Nothing is deleted.
    #[serde(default)]
    pub suspend: bool,
    /// What happens to runs that are under way when the pipeline is suspended.
    #[serde(default)]
    pub suspend_policy: SuspendPolicy,
    /// What becomes of topic, subject, consumer group and tables when the pipeline is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Whom to ask about this pipeline: a team, an address. It is a label of all children, of metrics and of Events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("spec.owner becomes a label: it has letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"))]
    pub owner: Option<String>,
    /// What this pipeline is for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// When records are fetched; needed by `source.http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// A run beside the schedule, once for each nonce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNow>,
    /// Where records come from.
    pub source: Source,
    /// What a record is; a user of randomuser.me when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordSpec>,
    /// The PostgreSQL database of the landing table and of the pipeline's bookkeeping; also of `sinks.postgres`.
    pub postgres: Postgres,
    /// What was fetched, as it was fetched: the outbox from which the topic is filled.
    #[serde(default)]
    pub landing: Landing,
    /// The topic between landing and the sinks.
    pub kafka: Kafka,
    /// The registry that holds the records' Avro schema; needed but where others write JSON to the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<SchemaRegistry>,
    /// The Cassandra cluster of `sinks.cassandra`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<Cassandra>,
    /// Where records end up: at least one.
    pub sinks: Sinks,
    /// Where messages go that can not be read or stored.
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// How long the pipeline keeps what it keeps beside its sinks.
    #[serde(default)]
    pub retention: Retention,
    /// The processes that read the topic and write to the sinks.
    #[serde(default)]
    pub workers: Workers,
    /// What the pods are to be like: resources, placement, labels, a proxy.
    #[serde(default)]
    pub pods: Pods,
    /// Which images the pods run; the operator's own where nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}
