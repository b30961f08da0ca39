//! The kinds of backlogs.

use clap::ValueEnum;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Cassandra's driver alone, with single inserts.
    Driver,
    /// Cassandra's driver alone, with batches like the worker's.
    DriverBatched,
    /// JSON to Cassandra.
    Cassandra,
    /// JSON to both stores.
    Both,
    /// JSON to both stores, with TLS on every wire.
    Encrypted,
    /// JSON to both stores by four workers.
    FourWorkers,
    /// JSON to both stores, with a filter that all records pass.
    Filter,
    /// JSON to both stores, with an aggregate of 4,096 groups.
    Aggregate,
    /// The same by four workers.
    AggregateFourWorkers,
    /// JSON to both stores by eight workers, with an aggregate of one group.
    AggregateOneGroup,
    /// As [`Self::Aggregate`], with the totals in both stores.
    AggregateMirrored,
    /// Avro of our runs to Cassandra.
    Avro,
    /// Avro of an external producer to Cassandra.
    ExternalAvro,
    /// Spark to Cassandra.
    SparkCassandra,
    /// Spark to both stores.
    SparkBoth,
}
