//! The faults of a trial.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    Kafka,
    Cassandra,
    Postgres,
    Registry,
}

impl Store {
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Cassandra, Self::Postgres, Self::Registry];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// Packets are answered with a TCP reset.
    Cut,
    /// The bandwidth is a few kilobits.
    Slow,
    /// Packets are dropped.
    BlackHole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceFault {
    /// Answers 500.
    ServerError,
    /// Answers 429 with `Retry-After`.
    TooManyRequests,
    /// Answers 200 with invalid JSON.
    Garbage,
    /// Closes the connection within the answer.
    HalfBody,
    /// Answers with the previous page.
    Repeated,
    /// Leaves out half of a page.
    Shrunk,
    /// Serves earlier revisions.
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of a run's process while landed rows are not published.
    IngestKilled,
    /// SIGKILL of a worker with a batch in flight.
    WorkerKilled,
    /// SIGKILL of a store with its pod, while it is needed.
    Killed(Store),
    /// The network between the pods and a store.
    Network(Network, Store),
    /// One worker, then four, then two, with a backlog.
    Scaled,
    /// Two concurrent runs.
    TwoRuns,
    Source(SourceFault),
    /// The volume of PostgreSQL's tables is full, including those of the bookkeeping.
    VolumeFull,
    /// SIGSTOP of a worker until others own its partitions, then SIGCONT.
    Frozen,
    /// Earlier messages of the topic, on any partition.
    Redelivered,
    /// Invalid messages on the topic.
    Garbage,
}

impl Fault {
    pub fn all() -> Vec<Self> {
        let network = |kind| Store::ALL.map(|store| Self::Network(kind, store));
        let source_faults = [
            SourceFault::ServerError,
            SourceFault::TooManyRequests,
            SourceFault::Garbage,
            SourceFault::HalfBody,
            SourceFault::Repeated,
            SourceFault::Shrunk,
            SourceFault::Stale,
        ];
        let single = [
            Self::IngestKilled,
            Self::WorkerKilled,
            Self::Scaled,
            Self::TwoRuns,
            Self::VolumeFull,
            Self::Frozen,
            Self::Redelivered,
            Self::Garbage,
        ];
        single
            .into_iter()
            .chain(Store::ALL.map(Self::Killed))
            .chain(network(Network::Cut))
            .chain(network(Network::Slow))
            .chain(network(Network::BlackHole))
            .chain(source_faults.map(Self::Source))
            .collect()
    }
}

impl fmt::Display for Fault {
    /// `Killed(Kafka)` as `kafka-killed`, `Network(Cut, Kafka)` as `kafka-cut`, `Source(HalfBody)` as `source-half-body`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kebab = |name: String| {
            let mut text = String::new();
            for c in name.chars() {
                if c.is_uppercase() && !text.is_empty() {
                    text.push('-');
                }
                text.extend(c.to_lowercase());
            }
            text
        };
        let text = match self {
            Self::Killed(store) => format!("{store:?}Killed"),
            Self::Network(kind, store) => format!("{store:?}{kind:?}"),
            Self::Source(source_fault) => format!("Source{source_fault:?}"),
            other => format!("{other:?}"),
        };
        f.write_str(&kebab(text))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_fault_has_a_unique_name() {
        let names: BTreeSet<String> = Fault::all().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Fault::all().len());
        for name in ["kafka-killed", "registry-black-hole", "source-half-body", "worker-killed"] {
            assert!(names.contains(name), "{name} among {names:?}");
        }
    }
}
