//! Which stores a pipeline uses, as their servers report it: one store has many addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Cassandra, Postgres, store_object::bounded, text::digest};

/// Most nodes of a Cassandra cluster that identify it. It stays the same cluster until all of them are replaced.
const NODES: usize = 3;

/// Kind of a store.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StoreKind {
    /// A Kafka cluster.
    Kafka,
    /// A PostgreSQL database.
    Postgres,
    /// A Cassandra cluster.
    Cassandra,
}

/// A store at an address, with the ids that its servers report.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreIdentity {
    /// Kind of the store.
    pub kind: StoreKind,
    /// SHA-256 of the address in the spec or the connection, in 64 hexadecimal digits: at another address is
    /// another store, until its servers report that it is the same.
    #[schemars(length(max = 64))]
    pub address: String,
    /// The id of the Kafka cluster, `SYSTEM_IDENTIFIER/DATABASE` of PostgreSQL, or the host ids of up to three
    /// nodes of Cassandra, whose clusters have no id. The SHA-256 of an id with more than 128 bytes.
    #[schemars(length(max = 3), inner(length(max = 128)))]
    pub ids: Vec<String>,
}

/// Where a pipeline finds a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAddress {
    kind: StoreKind,
    digest: String,
}

impl StoreAddress {
    /// Brokers, as in `bootstrapServers`.
    pub fn kafka(bootstrap_servers: &str) -> Self {
        Self::new(StoreKind::Kafka, bootstrap_servers)
    }

    /// A database.
    pub fn postgres(postgres: &Postgres) -> Self {
        let Postgres { host, port, database, .. } = postgres;
        Self::new(StoreKind::Postgres, &format!("{host}:{port}/{database}"))
    }

    /// A cluster, by its contact points.
    pub fn cassandra(cassandra: &Cassandra) -> Self {
        Self::new(StoreKind::Cassandra, &cassandra.contact_points.join(","))
    }

    fn new(kind: StoreKind, address: &str) -> Self {
        Self {
            kind,
            digest: digest(address),
        }
    }

    /// The store at this address, with the ids that its servers report. Of many, the first three in their order.
    pub fn identified(self, ids: impl IntoIterator<Item = String>) -> StoreIdentity {
        let mut ids: Vec<String> = ids.into_iter().map(|id| bounded(&id)).collect();
        ids.sort();
        ids.truncate(NODES);
        StoreIdentity {
            kind: self.kind,
            address: self.digest,
            ids,
        }
    }

    /// The ids of the store at this address. Empty while they are unknown.
    pub fn ids<'a>(&self, known: &'a [StoreIdentity]) -> &'a [String] {
        let found = known.iter().find(|store| store.kind == self.kind && store.address == self.digest);
        found.map_or(&[], |store| &store.ids)
    }
}

/// A name that another pipeline uses in a store. A schema Job learns only there whether that is its own store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TakenName {
    /// An id of the store, as in [`StoreIdentity::ids`].
    pub store: String,
    /// The object, for people, for example `topic users`.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_store_are_known_only_at_the_address_where_they_were_reported() {
        let known = [StoreAddress::kafka("kafka:9092").identified(["k1".to_owned()])];
        assert_eq!(StoreAddress::kafka("kafka:9092").ids(&known), ["k1"]);
        assert_eq!(StoreAddress::kafka("other:9092").ids(&known), [""; 0]);
        assert_eq!(StoreAddress::new(StoreKind::Cassandra, "kafka:9092").ids(&known), [""; 0]);
    }

    #[test]
    fn nodes_identify_a_cluster_whichever_of_them_answers() {
        let nodes = ["d", "b", "a", "c"].map(str::to_owned);
        let mut reversed = nodes.clone();
        reversed.reverse();
        let found = |nodes| StoreAddress::new(StoreKind::Cassandra, "c").identified(nodes);
        assert_eq!(found(nodes.clone()), found(reversed));
        assert_eq!(found(nodes).ids, ["a", "b", "c"]);
    }
}
