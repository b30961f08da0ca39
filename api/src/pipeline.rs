//! The resource itself: what a user writes under `spec`.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    Aggregate, Cassandra, ConnectionRef, DeadLetter, DeletionPolicy, Image, KafkaSpec, Landing, Pods, Postgres, RecordSpec, Retention,
    RunNow, Schedule, SchemaRegistrySpec, Sinks, Source, SuspendPolicy, UserPipelineStatus, Workers,
};

/// Moves records from an HTTP API or a Kafka topic into Cassandra and PostgreSQL, through a landing table and
/// Kafka.
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
    doc = "Moves records from an HTTP API or a Kafka topic into Cassandra and PostgreSQL, through a landing table and Kafka.",
    scale(
        spec_replicas_path = ".spec.workers.replicas",
        status_replicas_path = ".status.workers.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Fresh", type_ = "string", json_path = ".status.conditions[?(@.type=='DataFresh')].status", description = "Whether the data is as recent as the schedule promises, and in every sink"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule.cron"),
    printcolumn(name = "Suspended", type_ = "string", json_path = ".status.conditions[?(@.type=='Suspended')].status"),
    printcolumn(name = "Last Run", type_ = "date", json_path = ".status.lastRun.finishedAt", description = "Time since the last run ended"),
    printcolumn(name = "Last Result", type_ = "string", json_path = ".status.lastRun.reason", description = "Result of the run that ended last: Completed, or the reason of its failure"),
    printcolumn(name = "Fetched", type_ = "integer", json_path = ".status.totals.fetched", description = "Record versions landed, in total"),
    printcolumn(name = "Stored", type_ = "integer", json_path = ".status.totals.stored", description = "Topic offsets acknowledged by every sink, in total"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag", description = "Messages on the topic that are not stored yet; empty while a partition has no ready worker"),
    printcolumn(name = "Dead", type_ = "integer", json_path = ".status.totals.deadLettered", description = "Messages sent to the dead-letter topic, in total"),
    printcolumn(name = "Filtered", type_ = "integer", json_path = ".status.totals.filtered", priority = 1, description = "Record versions landed, or messages stored with source.topic, that do not pass spec.record.where, in total"),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers.summary", description = "Ready and desired workers"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = 1),
    printcolumn(name = "Next Run", type_ = "string", json_path = ".status.schedule.nextRunAt", priority = 1),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.schedule.backlog", priority = 1, description = "With catchUp, complete data intervals that have not run yet"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "Topic", type_ = "string", json_path = ".status.topic", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name must have at most 63 lower-case letters, digits and '-', without dots: the names of children, topics and tables derive from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.schedule) == has(self.source.http)")
        .message("spec.schedule is required with spec.source.http, and not allowed with spec.source.topic, which has no runs"),
    validation = Rule::new("!has(self.runNow) || has(self.source.http)")
        .message("spec.runNow is not allowed with spec.source.topic, which has no runs"),
    validation = Rule::new("!has(self.source.topic) || (has(self.record) && has(self.record.orderBy))")
        .message("spec.source.topic needs spec.record with orderBy, which decides the newest version of a record"),
    validation = Rule::new("!has(self.source.topic) || !has(self.record) || self.record.fields.all(f, !has(f.mask))")
        .message("a mask of a field of spec.record needs spec.source.http: with spec.source.topic, the topic already has the values"),
    validation = Rule::new("!has(self.source.http) || !has(self.record) || !has(self.record.changes) || self.record.changes != 'Never'")
        .message("spec.record.changes: Never needs spec.source.topic: with spec.source.http, runs land records and find what changed"),
    validation = Rule::new("has(self.postgres) || (has(self.connections) && self.connections.size() > 0)")
        .message("spec.postgres is needed: set it, or name a connection with postgres in spec.connections"),
    validation = Rule::new("(has(self.kafka) && has(self.kafka.bootstrapServers)) || (has(self.connections) && self.connections.size() > 0)")
        .message("spec.kafka.bootstrapServers is needed: set it, or name a connection with kafka in spec.connections"),
    validation = Rule::new("(has(self.schemaRegistry) && has(self.schemaRegistry.url)) || (has(self.connections) && self.connections.size() > 0) || (has(self.source.topic) && self.source.topic.format == 'JSON')")
        .message("spec.schemaRegistry is needed, because the topic has Avro: set its url, or name a connection with schemaRegistry in spec.connections"),
    validation = Rule::new("!has(self.sinks.cassandra) || has(self.cassandra) || (has(self.connections) && self.connections.size() > 0)")
        .message("spec.cassandra is needed by spec.sinks.cassandra: set contactPoints, localDatacenter and credentialsSecretRef, or name a connection with cassandra in spec.connections"),
    validation = Rule::new("!has(self.sinks.cassandra) || has(self.sinks.cassandra.replication) || self.sinks.cassandra.management == 'None' || (has(self.connections) && self.connections.size() > 0)")
        .message("spec.sinks.cassandra.replication is needed to create the keyspace"),
    validation = Rule::new("!has(self.source.http) || !has(self.source.http.path) || (has(self.connections) && self.connections.size() > 0)")
        .message("spec.source.http.path needs a connection with http in spec.connections"),
    validation = Rule::new("!has(self.source.http) || !has(self.source.http.path) || !has(self.pods.ingest.proxy)")
        .message("spec.pods.ingest.proxy is not allowed with spec.source.http.path: the connection has the proxy"),
    validation = Rule::new("has(self.sinks.cassandra) || !has(self.cassandra)")
        .message("spec.cassandra is set but nothing is written there: add spec.sinks.cassandra, or remove spec.cassandra"),
    validation = Rule::new("!has(self.sinks.postgres) || !has(self.sinks.postgres.table) || !has(self.landing.table) || self.sinks.postgres.table != self.landing.table")
        .message("spec.landing.table and spec.sinks.postgres.table must differ: one has the fetched records, the other the stored ones"),
    validation = Rule::new("!has(self.aggregates) || self.aggregates.size() == 0 || (has(self.sinks.postgres) && (!has(self.sinks.postgres.management) || self.sinks.postgres.management == 'Direct'))")
        .message("spec.aggregates need spec.sinks.postgres with management Direct: triggers on its table keep the totals exact"),
    validation = Rule::new("!has(self.deadLetter.topic) || !has(self.kafka) || !has(self.kafka.topic.name) || self.deadLetter.topic != self.kafka.topic.name")
        .message("spec.deadLetter.topic must differ from spec.kafka.topic.name, or workers would read dead letters as records"),
    // On the spec, because a rule on an optional block does not see that the block is added or removed.
    validation = Rule::new("(has(self.kafka) && has(self.kafka.groupId) ? self.kafka.groupId : '') == (has(oldSelf.kafka) && has(oldSelf.kafka.groupId) ? oldSelf.kafka.groupId : '')")
        .message("spec.kafka.groupId cannot be changed, because offsets and totals are stored under it: create a new pipeline instead"),
    validation = Rule::new("(has(self.kafka) && has(self.kafka.topic.name) ? self.kafka.topic.name : '') == (has(oldSelf.kafka) && has(oldSelf.kafka.topic.name) ? oldSelf.kafka.topic.name : '')")
        .message("spec.kafka.topic.name cannot be changed: create a new pipeline instead"),
    validation = Rule::new("(has(self.kafka) ? self.kafka.topic.partitions : 6) >= (has(oldSelf.kafka) ? oldSelf.kafka.topic.partitions : 6)")
        .message("spec.kafka.topic.partitions can only grow: Kafka does not remove partitions"),
    validation = Rule::new("(has(self.connections) && self.connections.size() > 0) || (has(oldSelf.connections) && oldSelf.connections.size() > 0) || (has(self.kafka) && has(self.kafka.topic.replicas) ? self.kafka.topic.replicas : 1) == (has(oldSelf.kafka) && has(oldSelf.kafka.topic.replicas) ? oldSelf.kafka.topic.replicas : 1)")
        .message("spec.kafka.topic.replicas cannot be changed: reassign the partitions with Kafka's own tools"),
    validation = Rule::new("!has(self.kafka) || !has(self.kafka.topic.replicas) || !has(oldSelf.kafka) || !has(oldSelf.kafka.topic.replicas) || self.kafka.topic.replicas == oldSelf.kafka.topic.replicas")
        .message("spec.kafka.topic.replicas cannot be changed: reassign the partitions with Kafka's own tools"),
    validation = Rule::new("!has(oldSelf.record) || has(self.record)")
        .message("spec.record cannot be removed, because stored data has it: create a new pipeline instead"),
    validation = Rule::new("has(oldSelf.record) || !has(self.record) || (self.record.name == 'User' && self.record.__namespace__ == 'dev.userpipeline' && self.record.key == ['id'] && !has(self.record.orderBy) && (!has(self.record.clusterBy) || self.record.clusterBy.size() == 0) && self.record.fields.all(f, !has(f.mask)))")
        .message("spec.record can be added only with name User, namespace dev.userpipeline and key [id], and without orderBy, clusterBy and masks, because stored data has the built-in record: create a new pipeline for another record"),
)]
pub struct UserPipelineSpec {
    /// Suspends the pipeline: no run starts, and the workers stop when active runs have ended. Nothing is
    /// deleted. Set it to false to resume.
    #[serde(default)]
    pub suspend: bool,
    /// What happens to active runs when the pipeline is suspended.
    #[serde(default)]
    pub suspend_policy: SuspendPolicy,
    /// What happens to topic, subject, consumer group and tables when the pipeline is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Owner of the pipeline: a team, an address. It is a label of all children, and is in metrics and
    /// Events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("spec.owner must contain only letters, digits, '-', '_' and '.', and begin and end with a letter or digit, because it is a label"))]
    pub owner: Option<String>,
    /// Purpose of the pipeline, for its readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// When runs start. Required with `source.http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Requests a run, once for each nonce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNow>,
    /// Connections that have the addresses, authentication and defaults which this spec does not set. Each of
    /// `postgres`, `kafka`, `schemaRegistry`, `cassandra` and `http` comes from exactly one connection, or from
    /// this spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub connections: Vec<ConnectionRef>,
    /// Where records come from.
    pub source: Source,
    /// The record. Default: a user of randomuser.me.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordSpec>,
    /// PostgreSQL database for the landing table and the bookkeeping, and for `sinks.postgres`. Default: that
    /// of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// The landing table: fetched records and items, and the outbox of the topic.
    #[serde(default)]
    pub landing: Landing,
    /// Kafka cluster, topic and consumer group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,
    /// Schema registry for the records' Avro schema. Needed, here or in a connection, except with
    /// `source.topic` and format JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<SchemaRegistrySpec>,
    /// Cassandra cluster of `sinks.cassandra`. Default: that of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<Cassandra>,
    /// Stores that workers write to: at least one.
    pub sinks: Sinks,
    /// Totals of the stored records by group and window of time. They need `sinks.postgres`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub aggregates: Vec<Aggregate>,
    /// Messages that cannot be read, or that a store refuses for their content.
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// Retention of what the pipeline stores beside its sinks.
    #[serde(default)]
    pub retention: Retention,
    /// Workers, which read the topic and write to the sinks.
    #[serde(default)]
    pub workers: Workers,
    /// Settings of the pods: resources, placement, labels, proxy.
    #[serde(default)]
    pub pods: Pods,
    /// Images of the pods. Default: those of the operator's installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}
