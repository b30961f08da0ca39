//! The sink table in PostgreSQL, and the transaction that both it and the progress rows are written in.

use jiff::Timestamp;
use tokio_postgres::{Client, Error, Statement, Transaction, types::ToSql};
use userpipeline_api::Postgres;
use userpipeline_record::{FieldType, RecordSchema, Value};
use userpipeline_stores::{Credentials, Secrets, StoreError, error::POSTGRES_FAILED, postgres};

use super::{
    bisect::Bisect,
    progress::{Claimed, Rows},
};
use crate::decode::Entry;

/// A worker that stopped in mid-transaction (paused, cut off) must not hold its rows' locks for ever: whoever takes over
/// waits for them.
const IDLE_IN_TRANSACTION: &str = "SET idle_in_transaction_session_timeout = '60s'";

/// A connection, ready to write.
pub struct PostgresSink {
    client: Client,
    upsert: Option<Statement>,
    /// What the connection was opened with; other credentials need another connection.
    pub credentials: Credentials,
}

/// What came of writing entries.
#[derive(Debug)]
pub enum Upserted {
    /// All of them are in the transaction.
    All,
    /// The table refuses some, by position, and why. Nothing was kept.
    Refused(Vec<(usize, String)>),
}

/// The user name and password, as they are at this moment.
pub fn credentials(postgres: &Postgres, secrets: &Secrets) -> Result<Credentials, StoreError> {
    secrets.credentials(&postgres.credentials_secret_ref.name, "spec.postgres.credentialsSecretRef")
}

/// What an error means while a batch is written.
pub fn explain(error: &Error) -> StoreError {
    postgres::explain("writing to PostgreSQL", error)
}

impl PostgresSink {
    /// Connects, and prepares what will be written: a table that is missing is noticed here.
    pub async fn open(
        postgres: &Postgres,
        table: Option<&str>,
        schema: &RecordSchema,
        secrets: &Secrets,
        application: &str,
    ) -> Result<Self, StoreError> {
        let credentials = credentials(postgres, secrets)?;
        let client = postgres::connect(postgres, secrets, application).await?;
        client
            .batch_execute(IDLE_IN_TRANSACTION)
            .await
            .map_err(|e| postgres::explain("PostgreSQL", &e))?;
        client
            .query("SELECT 1 FROM userpipeline.progress LIMIT 0", &[])
            .await
            .map_err(|e| postgres::explain("reading userpipeline.progress", &e))?;
        let upsert = match table {
            Some(table) => Some(
                client
                    .prepare(&schema.sink_upsert(table))
                    .await
                    .map_err(|e| postgres::explain(&format!("writing to table `{table}`"), &e))?,
            ),
            None => None,
        };
        Ok(Self {
            client,
            upsert,
            credentials,
        })
    }

    /// Begins a batch's transaction.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.client.transaction().await
    }

    /// The statement that writes to the sink table, if that is a sink.
    pub fn upsert(&self) -> Option<Statement> {
        self.upsert.clone()
    }

    /// Finds out which entries the table refuses, in a transaction of its own that is rolled back.
    pub async fn find_refused(&mut self, schema: &RecordSchema, entries: &[&Entry]) -> Result<Vec<(usize, String)>, StoreError> {
        let Some(upsert) = self.upsert() else { return Ok(Vec::new()) };
        let mut transaction = self.client.transaction().await.map_err(|e| explain(&e))?;
        let mut bisect = Bisect::new(entries.len());
        while let Some(range) = bisect.next() {
            let part = transaction.transaction().await.map_err(|e| explain(&e))?;
            match execute(&part, &upsert, schema, &entries[range]).await {
                // Kept, so that rows which only refuse each other are found too.
                Ok(()) => {
                    part.commit().await.map_err(|e| explain(&e))?;
                    bisect.accepted();
                }
                Err(e) if postgres::is_record_fault(&e) => {
                    part.rollback().await.map_err(|e| explain(&e))?;
                    bisect.refused(
                        e.as_db_error()
                            .map_or_else(|| e.to_string(), |db| format!("{} (SQLSTATE {})", db.message(), db.code().code())),
                    );
                }
                Err(e) => return Err(explain(&e)),
            }
        }
        let refused = bisect.into_refused();
        if refused.is_empty() {
            return Err(StoreError::transient(
                POSTGRES_FAILED,
                "PostgreSQL refused a batch and then each of its parts not",
            ));
        }
        Ok(refused)
    }
}

/// Writes entries, each key once.
pub async fn execute(transaction: &Transaction<'_>, upsert: &Statement, schema: &RecordSchema, entries: &[&Entry]) -> Result<(), Error> {
    let columns = columns(schema, entries);
    let versions: Vec<i64> = entries.iter().map(|e| e.version).collect();
    let mut values: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| -> &(dyn ToSql + Sync) { &**c }).collect();
    values.push(&versions);
    transaction.execute(upsert, &values).await.map(drop)
}

/// An array per field.
fn columns<'a>(schema: &RecordSchema, entries: &[&'a Entry]) -> Vec<Box<dyn ToSql + Sync + Send + 'a>> {
    let column = |(i, field): (usize, &userpipeline_record::Field)| -> Box<dyn ToSql + Sync + Send + 'a> {
        let values = entries.iter().map(move |e| e.record.0.get(i).unwrap_or(&Value::Null));
        match field.field_type {
            FieldType::String => Box::new(
                values
                    .map(|v| if let Value::String(s) = v { Some(s.as_str()) } else { None })
                    .collect::<Vec<_>>(),
            ),
            FieldType::Uuid => Box::new(
                values
                    .map(|v| if let Value::Uuid(u) = v { Some(*u) } else { None })
                    .collect::<Vec<_>>(),
            ),
            FieldType::Timestamp => Box::new(
                values
                    .map(|v| {
                        if let Value::Timestamp(ms) = v {
                            Timestamp::from_millisecond(*ms).ok()
                        } else {
                            None
                        }
                    })
                    .collect::<Vec<_>>(),
            ),
        }
    };
    schema.fields.iter().enumerate().map(column).collect()
}

/// Takes partitions over, on a connection of its own: a batch that cannot be written must not keep others waiting.
pub async fn claim(
    postgres: &Postgres,
    secrets: &Secrets,
    application: &str,
    rows: &Rows,
    first: impl FnOnce(&std::collections::BTreeSet<i32>) -> std::collections::BTreeMap<i32, i64>,
    owner: uuid::Uuid,
) -> Result<(Claimed, std::collections::BTreeSet<i32>), StoreError> {
    let client = postgres::connect(postgres, secrets, application).await?;
    let explain = |e| postgres::explain("taking partitions over in userpipeline.progress", &e);
    let made_anew = rows.made_anew(&client).await.map_err(explain)?;
    let claimed = rows.claim(&client, &first(&made_anew), owner).await.map_err(explain)?;
    Ok((claimed, made_anew))
}
