//! Sinks: the stores that workers write to.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, TableManagement, source::DurationText};

/// Sinks: the stores that workers write to.
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
        .message("spec.sinks.cassandra.keyspace cannot be changed: create a new pipeline instead"),
    validation = Rule::new("(has(self.table) ? self.table : '') == (has(oldSelf.table) ? oldSelf.table : '')")
        .message("spec.sinks.cassandra.table cannot be changed: create a new pipeline instead"),
    validation = Rule::new("self.management == 'Direct' || (!has(self.timeToLive) && !has(self.compaction))")
        .message("spec.sinks.cassandra.timeToLive and compaction need management Direct: an externally managed table is not altered"),
)]
pub struct CassandraSink {
    /// Keyspace, which is created if it does not exist. Default: derived from namespace and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("spec.sinks.cassandra.keyspace must contain only lower-case letters, digits and '_', and start with a letter"))]
    pub keyspace: Option<String>,
    /// Number of replicas in each datacenter (NetworkTopologyStrategy), used when the keyspace is created:
    /// use 3 in production, and 1 for tests. Datacenters of the connection that are not set here are added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub replication: BTreeMap<String, i32>,
    /// Name of the table. Default: derived from namespace and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("spec.sinks.cassandra.table must contain only lower-case letters, digits and '_', and start with a letter"))]
    pub table: Option<String>,
    /// Number of replicas that must acknowledge a write.
    #[serde(default)]
    pub consistency: Consistency,
    /// Who creates keyspace and table.
    #[serde(default)]
    pub management: TableManagement,
    /// How long a row stays after it was written (the table's default_time_to_live). Default: forever. A
    /// message that is delivered again after that restores its row for the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('175200h')")
        .message("spec.sinks.cassandra.timeToLive must be between 1s and 175200h (20 years)"))]
    #[schemars(with = "Option<DurationText>")]
    pub time_to_live: Option<Duration>,
    /// Compaction of the table. Default: Cassandra's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Compaction>,
}

/// Compaction of a table.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compaction {
    /// Compaction strategy. Use TimeWindowCompactionStrategy for rows that are written once and have a time
    /// to live.
    pub class: CompactionClass,
    /// Options of the strategy, such as compaction_window_unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub options: BTreeMap<String, String>,
}

/// Compaction strategies of Cassandra.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompactionClass {
    /// Merges files of similar size: for tables with more writes than reads.
    SizeTieredCompactionStrategy,
    /// Keeps the number of files for a read low: for rows that are often updated and read.
    LeveledCompactionStrategy,
    /// Keeps rows that were written at the same time together.
    TimeWindowCompactionStrategy,
    /// Behaves as one of the others, by its options. Needs Cassandra 5.
    UnifiedCompactionStrategy,
}

/// Number of replicas that must acknowledge a write.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Consistency {
    /// One replica in any datacenter.
    One,
    /// One replica in the local datacenter.
    LocalOne,
    /// A majority of all replicas.
    Quorum,
    /// A majority in the local datacenter.
    #[default]
    LocalQuorum,
    /// A majority in each datacenter.
    EachQuorum,
    /// All replicas.
    All,
}

/// A table in `spec.postgres`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.table) ? self.table : '') == (has(oldSelf.table) ? oldSelf.table : '')")
    .message("spec.sinks.postgres.table cannot be changed: create a new pipeline instead"))]
pub struct PostgresSink {
    /// Name of the table. Default: derived from namespace and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]*$')")
        .message("spec.sinks.postgres.table must contain only lower-case letters, digits and '_', and not start with a digit"))]
    pub table: Option<String>,
    /// Who creates the table.
    #[serde(default)]
    pub management: TableManagement,
}
