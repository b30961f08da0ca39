//! Objects in stores, and the record of those that a pipeline created.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::digest;

/// Longest id of a store in a record, in bytes. A longer one is replaced by its SHA-256.
const STORE_LIMIT: usize = 128;

/// Kind of an object in a store.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StoreObjectKind {
    /// A topic in Kafka, dead-letter topics included.
    Topic,
    /// A consumer group in Kafka.
    ConsumerGroup,
    /// A subject in a schema registry.
    Subject,
    /// A table in PostgreSQL.
    Table,
    /// A table in Cassandra, as `keyspace.table`.
    CassandraTable,
}

/// An object in a store, such as a topic or a table.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreObject {
    /// Kind of the object.
    pub kind: StoreObjectKind,
    /// Id of the store: that of the Kafka cluster, `SYSTEM_IDENTIFIER/DATABASE` of PostgreSQL, the name of the
    /// Cassandra cluster, or the URL of the registry. The SHA-256 of an id with more than 128 bytes.
    #[schemars(length(max = 128))]
    pub store: String,
    /// Name of the object.
    #[schemars(length(max = 512))]
    pub name: String,
}

impl StoreObject {
    /// An object in the store with this id.
    pub fn new(kind: StoreObjectKind, store: &str, name: &str) -> Self {
        Self {
            kind,
            store: bounded(store),
            name: name.to_owned(),
        }
    }
}

/// The id of a store, as it is recorded.
pub(crate) fn bounded(id: &str) -> String {
    if id.len() > STORE_LIMIT { digest(id) } else { id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_id_of_a_store_is_replaced_by_its_digest() {
        let store = |length: usize| StoreObject::new(StoreObjectKind::Subject, &"r".repeat(length), "s").store;
        assert_eq!(store(128), "r".repeat(128));
        assert_eq!(store(129), digest(&"r".repeat(129)));
    }
}
