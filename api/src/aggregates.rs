//! Aggregates: totals of the records that a pipeline stores.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, lists::without_default, source::DurationText};

/// Totals of the records that are stored in `sinks.postgres`, by group and window of time.
///
/// They are exact at any moment: a newer version of a record replaces what the older one added, and a deleted record is subtracted.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.keep) || has(self.window)").message("keep of an aggregate needs window: without one, totals do not age"),
)]
pub struct Aggregate {
    /// Name of the aggregate.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("the name of an aggregate must contain only lower-case letters, digits and '_', and start with a letter"))]
    pub name: String,
    /// Fields of the record. Records with equal values form a group. Default: one group of all records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), transform = without_default)]
    pub group_by: Vec<String>,
    /// Divides each group by time. Default: totals of all time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<AggregateWindow>,
    /// What is computed for each group and window.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub values: Vec<AggregateValue>,
    /// Time after the end of a window until which its totals are kept and revised. A record that arrives later
    /// is not counted. Default: forever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("keep of an aggregate must be between 1m and 87600h (10 years)"))]
    #[schemars(with = "Option<DurationText>")]
    pub keep: Option<Duration>,
    /// Where totals are read.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub sinks: AggregateSinks,
}

/// Windows of time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.hop) || !has(self.timeZone)")
        .message("hop and timeZone exclude each other: windows that overlap have a fixed length and start at multiples of hop since 1970 in UTC"),
)]
pub struct AggregateWindow {
    /// Field of type `timestamp`, neither optional nor without a value, that decides the window of a record.
    #[schemars(length(min = 1, max = 48))]
    pub field: String,
    /// Length of a window: a divisor of 24h, such as `15m` or `6h`, or a multiple of it. Windows below a day
    /// are counted from the midnight of `timeZone`. Windows of days are calendar days there, also where the
    /// clocks change; `168h` is a week from Monday.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('744h')")
        .message("every of a window must be between 1s and 744h (31 days)"))]
    #[schemars(with = "DurationText")]
    pub every: Duration,
    /// Windows overlap: one starts at each multiple of `hop`, a divisor of `every`. A record is in all windows
    /// that contain its time, at most 24.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('744h')")
        .message("hop of a window must be between 1s and 744h"))]
    #[schemars(with = "Option<DurationText>")]
    pub hop: Option<Duration>,
    /// Time zone of the windows: `Europe/Berlin`. Default: Etc/UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// A value of an aggregate: exactly one of `count`, `countDistinct`, `sum`, `avg`, `min` and `max`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.count), has(self.countDistinct), has(self.sum), has(self.avg), has(self.min), has(self.max)].filter(given, given).size() == 1")
        .message("a value of an aggregate must have exactly one of count, countDistinct, sum, avg, min and max"),
)]
pub struct AggregateValue {
    /// Name of the value and of its column.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("the name of a value must contain only lower-case letters, digits and '_', and start with a letter"))]
    pub name: String,
    /// Number of records: `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<CountRecords>,
    /// Number of different values of a field. Exact. null does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub count_distinct: Option<String>,
    /// Sum of a field of type `int`, `long` or `double`. null does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub sum: Option<String>,
    /// Average of a field of type `int`, `long` or `double`. null does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub avg: Option<String>,
    /// Smallest value of a field of type `int`, `long`, `double`, `date` or `timestamp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub min: Option<String>,
    /// Greatest value of such a field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub max: Option<String>,
}

/// Counts records. It has no settings.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountRecords {}

/// Where the totals of an aggregate are read.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AggregateSinks {
    /// A view in the database of `sinks.postgres`.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub postgres: AggregateView,
    /// A table in the keyspace of `sinks.cassandra`, which follows the view within seconds. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<AggregateTable>,
}

/// A table of an aggregate in Cassandra.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AggregateTable {
    /// Name of the table. Default: derived from the table of `sinks.cassandra` and the aggregate's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')")
        .message("the table of an aggregate must contain only lower-case letters, digits and '_', and start with a letter"))]
    pub table: Option<String>,
}

/// A view of an aggregate in PostgreSQL.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AggregateView {
    /// Name of the view. Default: derived from the table of `sinks.postgres` and the aggregate's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]*$')")
        .message("the view of an aggregate must contain only lower-case letters, digits and '_', and not start with a digit"))]
    pub view: Option<String>,
}
