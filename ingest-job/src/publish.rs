//! From the landing table to the topic: publishes all pending rows, including those of interrupted runs.

use tokio_postgres::{Client, Row, Statement, Transaction, types::ToSql};
use userpipeline_api::{document::IngestPipeline, names};
use userpipeline_record::{
    Field, Record, RecordSchema, Value,
    avro::Encoder,
    message,
    postgres::{DELETED, FETCHED_MILLIS, RUN_ID, VERSION},
    trace::{self, Trace},
};
use userpipeline_stores::{
    Secrets, StoreError,
    error::{POSTGRES_FAILED, TABLE_MISMATCH},
    kafka::{
        self,
        producer::{Message, Producer},
    },
    postgres::{PgParam, PgValue},
    schema_registry,
};

use crate::{
    land::table_failed,
    ledger::{self, Ledger},
    outcome::{Counts, Failure, SCHEMA_MISSING},
};

/// Rows of a batch: few enough that other publishers do not wait long for their locks.
const BATCH: i64 = 250;
/// Bytes of a batch, which is held in memory. The rows that reach it are its last.
const BATCH_BYTES: usize = 8 << 20;
/// Rows that are read before their size is known.
const FIRST_ROWS: i32 = 4;
/// The header with the run that published a message.
pub const RUN_HEADER: &str = "run";

/// Publishes the pending rows of the landing table.
pub struct Publisher {
    connection: kafka::Connection,
    topic: String,
    /// In bytes.
    max_record: usize,
    producer: Producer,
    schema: RecordSchema,
    encoder: Encoder,
    frame: [u8; message::FRAME],
    table: String,
    statements: Statements,
}

/// What is prepared on the connection of a run.
struct Statements {
    select_pending: Statement,
    columns: PendingColumns,
    mark_published: Statement,
}

impl Statements {
    async fn prepare(client: &Client, schema: &RecordSchema, table: &str) -> Result<Self, StoreError> {
        let failed = |e| table_failed(table, &e);
        let select_pending = client.prepare(&schema.pending_select(table)).await.map_err(failed)?;
        Ok(Self {
            columns: PendingColumns::of(&select_pending, schema, table)?,
            select_pending,
            mark_published: client.prepare(&schema.published_update(table)).await.map_err(failed)?,
        })
    }
}

/// The positions of the columns of a pending row.
struct PendingColumns {
    fields: Vec<usize>,
    version: usize,
    deleted: usize,
    fetched: usize,
    run: usize,
}

impl PendingColumns {
    fn of(statement: &Statement, schema: &RecordSchema, table: &str) -> Result<Self, StoreError> {
        let position = |name: &str| {
            let position = statement.columns().iter().position(|column| column.name() == name);
            position.ok_or_else(|| StoreError::configuration(TABLE_MISMATCH, format!("landing table \"{table}\" has no column \"{name}\"")))
        };
        Ok(Self {
            fields: schema.fields.iter().map(|field| position(&field.name)).collect::<Result<_, _>>()?,
            version: position(VERSION)?,
            deleted: position(DELETED)?,
            fetched: position(FETCHED_MILLIS)?,
            run: position(RUN_ID)?,
        })
    }
}

/// A landed row whose version is not on the topic yet, encoded.
struct PendingRow {
    record: Record,
    key: String,
    version: i64,
    version_header: String,
    fetched_header: String,
    trace_header: String,
    /// None for a deleted record.
    payload: Option<Vec<u8>>,
}

impl PendingRow {
    fn headers<'a>(&'a self, run_id: &'a str) -> [(&'a str, &'a [u8]); 4] {
        [
            (message::VERSION_HEADER, self.version_header.as_bytes()),
            (RUN_HEADER, run_id.as_bytes()),
            (message::FETCHED_HEADER, self.fetched_header.as_bytes()),
            (trace::HEADER, self.trace_header.as_bytes()),
        ]
    }
}

impl Publisher {
    /// Requires the schema in the registry and the topic; it creates neither.
    pub async fn open(pipeline: &IngestPipeline, schema: &RecordSchema, secrets: &Secrets, client: &Client) -> Result<Self, Failure> {
        let schema_id = schema_id(pipeline, schema, secrets).await?;
        let connection = kafka::Connection::new(&pipeline.brokers, secrets);
        let producer = connect(&connection, &pipeline.topic, pipeline.max_record).await?;
        let encoder = Encoder::new(schema.clone()).map_err(|e| Failure::configuration(SCHEMA_MISSING, e.to_string()))?;
        let table = pipeline.landing_table.clone();
        Ok(Self {
            statements: Statements::prepare(client, schema, &table).await?,
            schema: schema.clone(),
            frame: message::frame(schema_id),
            producer,
            connection,
            topic: pipeline.topic.clone(),
            max_record: pipeline.max_record,
            encoder,
            table,
        })
    }

    /// Prepares its statements on another connection.
    pub async fn prepare(&mut self, client: &Client) -> Result<(), StoreError> {
        self.statements = Statements::prepare(client, &self.schema, &self.table).await?;
        Ok(())
    }

    /// Publishes until no row is pending, except those that another publisher has locked.
    pub async fn publish_pending(&mut self, ledger: &mut Ledger) -> Result<(), StoreError> {
        // Between batches nothing is in flight, so no message is sent twice.
        if self.producer.is_rotated(&self.connection) {
            tracing::info!("Kafka's credentials or certificates have changed: connecting with the new ones");
            self.producer = connect(&self.connection, &self.topic, self.max_record).await?;
        }
        while self.publish_batch(ledger).await? {}
        Ok(())
    }

    /// Publishes a batch. Returns whether there was one. The rows stay locked until the topic has acknowledged them and they are
    /// marked. Rows without an acknowledgement stay pending, and may be published twice.
    async fn publish_batch(&self, ledger: &mut Ledger) -> Result<bool, StoreError> {
        let failed = |e| table_failed(&self.table, &e);
        let Ledger { client, key, counts, .. } = ledger;
        let transaction = client.transaction().await.map_err(failed)?;
        let batch = self.read_batch(&transaction, &key.pipeline).await?;
        if batch.is_empty() {
            return Ok(false);
        }
        let deliveries = self.send(&batch, &key.run_id).await;
        let delivered = batch.iter().zip(&deliveries).filter(|(_, delivery)| delivery.is_ok());
        let acknowledged: Vec<&PendingRow> = delivered.map(|(row, _)| row).collect();
        if !acknowledged.is_empty() {
            let published = Counts {
                published: self.mark(&transaction, &acknowledged).await?,
                ..Counts::default()
            };
            ledger::advance(&transaction, key, published).await?;
            transaction.commit().await.map_err(failed)?;
            *counts += published;
        }
        deliveries.into_iter().collect::<Result<Vec<()>, _>>().map(|_| true)
    }

    async fn send(&self, batch: &[PendingRow], run_id: &str) -> Vec<Result<(), StoreError>> {
        let headers: Vec<_> = batch.iter().map(|row| row.headers(run_id)).collect();
        let messages: Vec<Message<'_>> = batch
            .iter()
            .zip(&headers)
            .map(|(row, headers)| Message {
                key: &row.key,
                payload: row.payload.as_deref(),
                headers,
            })
            .collect();
        self.producer.send_all(&messages).await
    }

    /// Marks rows as published. Returns how many.
    async fn mark(&self, transaction: &Transaction<'_>, rows: &[&PendingRow]) -> Result<i64, StoreError> {
        let keys: Vec<Vec<PgParam<'_>>> = self
            .schema
            .key_positions()
            .map(|i| rows.iter().map(|row| PgParam(&row.record.0[i])).collect())
            .collect();
        let versions: Vec<i64> = rows.iter().map(|row| row.version).collect();
        let mut values: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|key| key as &(dyn ToSql + Sync)).collect();
        values.push(&versions);
        let marked = transaction.execute(&self.statements.mark_published, &values).await;
        let marked = marked.map_err(|e| table_failed(&self.table, &e))?;
        if marked != rows.len() as u64 {
            let message = format!(
                "landing table \"{}\": only {marked} of {} published rows could be marked as published; was the table changed by hand?",
                self.table,
                rows.len()
            );
            return Err(StoreError::configuration(POSTGRES_FAILED, message));
        }
        Ok(i64::try_from(marked).unwrap_or(i64::MAX))
    }

    /// Reads and locks pending rows.
    async fn read_batch(&self, transaction: &Transaction<'_>, pipeline: &str) -> Result<Vec<PendingRow>, StoreError> {
        let failed = |e| table_failed(&self.table, &e);
        let portal = transaction.bind(&self.statements.select_pending, &[&BATCH]).await.map_err(failed)?;
        let (mut batch, mut bytes, mut max_rows) = (Vec::new(), 0, FIRST_ROWS);
        loop {
            let rows = transaction.query_portal(&portal, max_rows).await.map_err(failed)?;
            for row in &rows {
                let row = self.pending_row(row, pipeline)?;
                bytes += row.record.size() + row.payload.as_ref().map_or(0, Vec::len);
                batch.push(row);
            }
            // As many as there is room for, if they are as large as the ones before.
            let room = BATCH_BYTES.saturating_sub(bytes) * batch.len() / bytes.max(1);
            if rows.len() < max_rows.unsigned_abs() as usize || room == 0 {
                break;
            }
            max_rows = i32::try_from(room).unwrap_or(i32::MAX);
        }
        Ok(batch)
    }

    fn pending_row(&self, row: &Row, pipeline: &str) -> Result<PendingRow, StoreError> {
        let invalid = |e: &dyn std::fmt::Display| {
            let message = format!("landing table \"{}\" has a row that is not a record: {e}", self.table);
            StoreError::configuration(TABLE_MISMATCH, message)
        };
        let columns = &self.statements.columns;
        let deleted: bool = row.try_get(columns.deleted).map_err(|e| invalid(&e))?;
        // A row may be older than the default of its field, and contain null.
        let value = |(field, &column): (&Field, &usize)| {
            let PgValue(value) = row.try_get(column)?;
            let default = field.default.clone().filter(|_| value == Value::Null && !deleted);
            Ok(default.unwrap_or(value))
        };
        let values = self.schema.fields.iter().zip(&columns.fields).map(value);
        let values = values.collect::<Result<_, tokio_postgres::Error>>().map_err(|e| invalid(&e))?;
        let version: i64 = row.try_get(columns.version).map_err(|e| invalid(&e))?;
        let fetched: i64 = row.try_get(columns.fetched).map_err(|e| invalid(&e))?;
        let run: &str = row.try_get(columns.run).map_err(|e| invalid(&e))?;
        let record = Record(values);
        let payload = if deleted {
            None
        } else {
            let mut payload = self.frame.to_vec();
            self.encoder.encode(&record, &mut payload).map_err(|e| invalid(&e))?;
            Some(payload)
        };
        Ok(PendingRow {
            key: record.key(&self.schema),
            version,
            version_header: version.to_string(),
            fetched_header: fetched.to_string(),
            trace_header: Trace::of(pipeline, run).header(),
            payload,
            record,
        })
    }
}

async fn connect(connection: &kafka::Connection, topic: &str, max_record: usize) -> Result<Producer, StoreError> {
    Producer::connect(connection, topic, "userpipeline-ingest", max_record).await
}

async fn schema_id(pipeline: &IngestPipeline, schema: &RecordSchema, secrets: &Secrets) -> Result<u32, Failure> {
    let subject = names::subject(&pipeline.topic);
    let registry = schema_registry::Connection::new(&pipeline.registry, secrets).connect()?;
    let id = registry.id_of(&subject, &schema.avro_schema()).await?;
    id.ok_or_else(|| {
        let message = format!(
            "subject `{subject}` at {} does not have this pipeline's schema: see `SchemaReady` for its schema Job",
            registry.url()
        );
        Failure::configuration(SCHEMA_MISSING, message)
    })
}
