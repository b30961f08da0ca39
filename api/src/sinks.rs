//! Where records end up.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, TableManagement, source::DurationText};

/// Where records end up.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.cassandra) || has(self.postgres)").message("spec.sinks needs at least one of cassandra and postgres"))]
pub struct Sinks {
    /// A table in Cassandra.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<CassandraSink>,
    /// A table in `spec.postgres`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSink>,
}

/// A table in Cassandra.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.keyspace) ? self.keyspace : '') == (has(oldSelf.keyspace) ? oldSelf.keyspace : '')")
        .message("spec.sinks.cassandra.keyspace cannot be changed: make a new pipeline instead"),
    validation = Rule::new("(has(self.table) ? self.table : '') == (has(oldSelf.table) ? oldSelf.table : '')")
        .message("spec.sinks.cassandra.table cannot be changed: make a new pipeline instead"),
    validation = Rule::new("self.management == 'Direct' || (!has(self.timeToLive) && !has(self.compaction))")
        .message("spec.sinks.cassandra.timeToLive and compaction go with management Direct: a table that somebody else makes stays as it is"),
)]
pub struct CassandraSink {
    /// Its keyspace, made if it is not there; derived from namespace and name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("spec.sinks.cassandra.keyspace must be lower-case letters, digits and '_', starting with a letter"))]
    pub keyspace: Option<String>,
    /// How many copies each datacenter keeps (NetworkTopologyStrategy), used when the keyspace is made. There is no
    /// default, because durability is not ours to guess: 3 is usual, 1 is for trying out.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub replication: BTreeMap<String, i32>,
    /// Its name; derived from namespace and name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("spec.sinks.cassandra.table must be lower-case letters, digits and '_', starting with a letter"))]
    pub table: Option<String>,
    /// How many replicas must acknowledge a write.
    #[serde(default)]
    pub consistency: Consistency,
    /// Who makes keyspace and table.
    #[serde(default)]
    pub management: TableManagement,
    /// How long a row stays, from when it was written (the table's default_time_to_live); for good when not given. A message that is
    /// delivered again after that brings its row back for as long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('175200h')")
        .message("spec.sinks.cassandra.timeToLive must be between 1s and 175200h, which is twenty years"))]
    #[schemars(with = "Option<DurationText>")]
    pub time_to_live: Option<Duration>,
    /// How Cassandra merges what it has written; Cassandra's own default when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Compaction>,
}

/// How Cassandra merges what it has written.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compaction {
    /// Which strategy: TimeWindowCompactionStrategy goes with rows that are written once and have a time to live.
    pub class: CompactionClass,
    /// The strategy's own options, such as compaction_window_unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub options: BTreeMap<String, String>,
}

/// The compaction strategies of Cassandra.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompactionClass {
    /// Merges what is of a size: for tables that are written to more than they are read.
    SizeTieredCompactionStrategy,
    /// Keeps few files to read from: for rows that are often updated and read.
    LeveledCompactionStrategy,
    /// Keeps what was written at a time together.
    TimeWindowCompactionStrategy,
    /// Any of the others, by its options; since Cassandra 5.
    UnifiedCompactionStrategy,
}

/// How many replicas must acknowledge a write.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Consistency {
    /// One, anywhere.
    One,
    /// One in the local datacenter.
    LocalOne,
    /// More than half of all.
    Quorum,
    /// More than half in the local datacenter.
    #[default]
    LocalQuorum,
    /// More than half in each datacenter.
    EachQuorum,
    /// All of them.
    All,
}

/// A table in `spec.postgres`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.table) ? self.table : '') == (has(oldSelf.table) ? oldSelf.table : '')")
    .message("spec.sinks.postgres.table cannot be changed: make a new pipeline instead"))]
pub struct PostgresSink {
    /// Its name; derived from namespace and name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]*$')")
        .message("spec.sinks.postgres.table must be lower-case letters, digits and '_', not starting with a digit"))]
    pub table: Option<String>,
    /// Who makes it.
    #[serde(default)]
    pub management: TableManagement,
}
