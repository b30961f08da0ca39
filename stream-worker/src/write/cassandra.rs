//! The table in Cassandra.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use scylla::{
    client::session::Session,
    statement::prepared::PreparedStatement,
    value::{CqlDate, CqlTimestamp, CqlValue},
};
use userpipeline_api::document::CassandraTarget;
use userpipeline_record::{RecordSchema, Value};
use userpipeline_stores::{
    Credentials, Secrets, StoreError, cassandra,
    error::{CASSANDRA_FAILED, CASSANDRA_UNREACHABLE},
};

use crate::decode::Entry;

/// So many rows are on their way at once.
const IN_FLIGHT: usize = 256;
/// All rows of a batch are acknowledged by then: the transaction in PostgreSQL waits for them, and must not wait for ever.
const BATCH_TIMEOUT: Duration = Duration::from_secs(45);

/// Cassandra counts days so that 1970-01-01 is the middle of what an unsigned number holds.
const CASSANDRA_EPOCH: u32 = 1 << 31;

/// A session, ready to write.
pub struct CassandraSink {
    /// The session.
    pub session: Arc<Session>,
    insert: PreparedStatement,
    delete: PreparedStatement,
    schema: RecordSchema,
    /// What the session was opened with; other credentials need another session.
    pub credentials: Credentials,
}

impl CassandraSink {
    /// Opens a session, and prepares what will be written: a table that is missing is noticed here.
    pub async fn open(target: &CassandraTarget, schema: &RecordSchema, secrets: &Secrets) -> Result<Self, StoreError> {
        let credentials = cassandra::credentials(&target.cluster, secrets)?;
        let session = cassandra::connect(&target.cluster, target.consistency, secrets).await?;
        let what = format!("writing to table `{}.{}`", target.keyspace, target.table);
        let prepare = async |statement: String| {
            let prepared = session.prepare(statement).await;
            let mut prepared = prepared.map_err(|e| cassandra::explain_prepare(&what, &e))?;
            // Its version is in it, so that a repeated write changes nothing.
            prepared.set_is_idempotent(true);
            Ok::<_, StoreError>(prepared)
        };
        let insert = prepare(schema.cassandra_insert_cql(&target.keyspace, &target.table)).await?;
        let delete = prepare(schema.cassandra_delete_cql(&target.keyspace, &target.table)).await?;
        Ok(Self {
            session: Arc::new(session),
            insert,
            delete,
            schema: schema.clone(),
            credentials,
        })
    }

    /// Writes entries; gives those that Cassandra refuses for their own sake, by position, and why.
    pub async fn write(&self, entries: &[&Entry]) -> Result<Vec<(usize, String)>, StoreError> {
        let writes = entries.iter().enumerate().map(|(i, entry)| self.write_one(i, entry).boxed());
        let all = stream::iter(writes)
            .buffer_unordered(IN_FLIGHT)
            .try_filter_map(|refused| async move { Ok(refused) })
            .try_collect();
        tokio::time::timeout(BATCH_TIMEOUT, all).await.map_err(|_| {
            StoreError::transient(
                CASSANDRA_UNREACHABLE,
                format!("Cassandra did not acknowledge a batch within {} seconds", BATCH_TIMEOUT.as_secs()),
            )
        })?
    }

    /// Writes an entry; gives its position, and why Cassandra refuses it, if it does. The values are made when it is its turn: as many
    /// are in memory as are on their way.
    async fn write_one(&self, position: usize, entry: &Entry) -> Result<Option<(usize, String)>, StoreError> {
        let (statement, values) = if entry.deleted {
            (&self.delete, key(&self.schema, entry))
        } else {
            (&self.insert, row(entry))
        };
        match self.session.execute_unpaged(statement, values).await {
            Ok(_) => Ok(None),
            Err(e) => match cassandra::record_fault(&e) {
                Some(why) => Ok(Some((position, why))),
                None => Err(cassandra::explain("writing to Cassandra", &e)),
            },
        }
    }
}

/// Whether the next attempt needs a new session. The driver finds its way back to nodes that it lost; but not with other
/// credentials, nor to a table that was made anew, nor to a cluster that moved.
pub fn needs_new_session(error: &StoreError) -> bool {
    error.reason != CASSANDRA_FAILED
}

/// The values in the order of the insert: the fields, null included, and the version as the write time.
fn row(entry: &Entry) -> Vec<Option<CqlValue>> {
    let version = Some(CqlValue::BigInt(entry.version));
    entry.record.0.iter().map(cql).chain([version]).collect()
}

/// The values in the order of the delete: the version as the write time, and the key.
fn key(schema: &RecordSchema, entry: &Entry) -> Vec<Option<CqlValue>> {
    let key = schema.key_positions().map(|position| cql(&entry.record.0[position]));
    std::iter::once(Some(CqlValue::BigInt(entry.version))).chain(key).collect()
}

fn cql(value: &Value) -> Option<CqlValue> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) | Value::Json(text) => CqlValue::Text(text.clone()),
        Value::Boolean(truth) => CqlValue::Boolean(*truth),
        Value::Long(number) => CqlValue::BigInt(*number),
        Value::Double(number) => CqlValue::Double(*number),
        Value::Date(days) => CqlValue::Date(CqlDate(days.cast_unsigned().wrapping_add(CASSANDRA_EPOCH))),
        Value::Timestamp(millis) => CqlValue::Timestamp(CqlTimestamp(*millis)),
        Value::Uuid(uuid) => CqlValue::Uuid(*uuid),
        Value::Bytes(bytes) => CqlValue::Blob(bytes.clone()),
    })
}

#[cfg(test)]
mod tests {
    use userpipeline_record::Record;

    use super::*;

    #[test]
    fn null_is_bound_and_the_version_comes_last() {
        let entry = Entry {
            origin: (0, 0),
            key: "k".into(),
            version: 7,
            record: Record(vec![Value::String("a".into()), Value::Null, Value::Timestamp(5), Value::Date(-1)]),
            deleted: false,
        };
        assert_eq!(
            row(&entry),
            [
                Some(CqlValue::Text("a".into())),
                None,
                Some(CqlValue::Timestamp(CqlTimestamp(5))),
                Some(CqlValue::Date(CqlDate((1 << 31) - 1))),
                Some(CqlValue::BigInt(7))
            ]
        );
    }
}
