//! A record in Cassandra: keyspace, table, and the statement that fills it.
//!
//! The version is the write time of every cell, so that an older version that arrives later changes nothing.

use std::collections::BTreeMap;

use crate::{FieldType, RecordSchema, postgres::quote};

impl FieldType {
    /// The column's type.
    pub const fn cassandra(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamp",
        }
    }
}

/// Creates a keyspace that keeps `replication` copies in each datacenter.
pub fn keyspace_cql(keyspace: &str, replication: &BTreeMap<String, i32>) -> String {
    let copies: Vec<String> = replication
        .iter()
        .map(|(datacenter, copies)| format!(", '{}': {copies}", datacenter.replace('\'', "''")))
        .collect();
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy'{}}}",
        quote(keyspace),
        copies.concat()
    )
}

impl RecordSchema {
    /// Creates the table. The key is the partition: one record, one partition.
    pub fn cassandra_table_cql(&self, keyspace: &str, table: &str) -> String {
        let columns: Vec<String> = self
            .fields
            .iter()
            .map(|f| format!("{} {}", quote(&f.name), f.field_type.cassandra()))
            .collect();
        format!(
            "CREATE TABLE IF NOT EXISTS {}.{} ({}, PRIMARY KEY (({})))",
            quote(keyspace),
            quote(table),
            columns.join(", "),
            self.columns_of_key()
        )
    }

    /// Writes one record: its fields, then its version as the write time. Every field is bound, null included: an
    /// unset one would keep an older version's value.
    pub fn cassandra_insert_cql(&self, keyspace: &str, table: &str) -> String {
        let marks = vec!["?"; self.fields.len()].join(", ");
        format!(
            "INSERT INTO {}.{} ({}) VALUES ({marks}) USING TIMESTAMP ?",
            quote(keyspace),
            quote(table),
            self.columns("")
        )
    }

    fn columns_of_key(&self) -> String {
        self.key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_are_those_that_were_reviewed() {
        let schema = RecordSchema::user();
        let replication = BTreeMap::from([("datacenter1".to_owned(), 1), ("it's".to_owned(), 3)]);
        insta::assert_snapshot!(
            [
                keyspace_cql("spark_streams", &replication),
                schema.cassandra_table_cql("spark_streams", "created_users"),
                schema.cassandra_insert_cql("spark_streams", "created_users"),
            ]
            .join(";\n\n")
        );
    }
}
