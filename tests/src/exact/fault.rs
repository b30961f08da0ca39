//! What goes wrong.

use std::fmt;

/// A store, as the network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// The broker.
    Kafka,
    /// Cassandra.
    Cassandra,
    /// PostgreSQL.
    Postgres,
    /// The schema registry.
    Registry,
}

impl Store {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Cassandra, Self::Postgres, Self::Registry];
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// Whoever sends is told that there is no such connection.
    Cut,
    /// Bytes trickle.
    Slow,
    /// Nothing arrives, and nobody is told.
    BlackHole,
}

/// What the source does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misdeed {
    /// It answers 500.
    ServerError,
    /// It answers 429 and says for how long.
    TooManyRequests,
    /// It answers 200 with something that is no JSON.
    Garbage,
    /// It breaks off in mid-answer.
    HalfBody,
    /// It answers with the page before.
    Repeated,
    /// Half of a page is missing.
    Shrunk,
    /// It serves items as they were some revisions ago.
    Stale,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of a run's process, with rows that are landed and not published.
    IngestKilled,
    /// SIGKILL of a worker, with a batch in flight.
    WorkerKilled,
    /// SIGKILL of a store with its pod, while it is needed.
    Killed(Store),
    /// The network between the pods and a store.
    Network(Network, Store),
    /// One worker, four, two, with a backlog.
    Scaled,
    /// Two runs at the same time.
    TwoRuns,
    /// The source.
    Source(Misdeed),
    /// The volume of PostgreSQL's tables is full, those of the bookkeeping included.
    VolumeFull,
    /// A worker is stopped (SIGSTOP) until the group has given its partitions away, and then goes on.
    Frozen,
    /// Messages that were on the topic before come again, on any partition.
    Redelivered,
    /// Messages on the topic that are no records.
    Garbage,
}

impl Fault {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let network = |kind| Store::ALL.map(|store| Self::Network(kind, store));
        let misdeeds = [
            Misdeed::ServerError,
            Misdeed::TooManyRequests,
            Misdeed::Garbage,
            Misdeed::HalfBody,
            Misdeed::Repeated,
            Misdeed::Shrunk,
            Misdeed::Stale,
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
            .chain(misdeeds.map(Self::Source))
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
            Self::Source(misdeed) => format!("Source{misdeed:?}"),
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
    fn each_fault_has_a_name_of_its_own() {
        let names: BTreeSet<String> = Fault::all().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Fault::all().len());
        for name in ["kafka-killed", "registry-black-hole", "source-half-body", "worker-killed"] {
            assert!(names.contains(name), "{name} among {names:?}");
        }
    }
}
