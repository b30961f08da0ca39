//! From the landing table to the topic: publishes all pending rows, including those of interrupted runs.

use std::sync::Arc;

use tokio_postgres::{Client, Statement, Transaction, types::ToSql};
use userpipeline_api::{document::IngestPipeline, names};
use userpipeline_record::{RecordSchema, avro::Encoder, message};
use userpipeline_stores::{
    Secrets, StoreError,
    error::POSTGRES_FAILED,
    kafka::{
        self,
        producer::{Message, Producer, Queued},
    },
    postgres::PgParam,
    schema_registry,
};

pub use crate::pending::RUN_HEADER;
use crate::{
    land::table_failed,
    ledger::{self, Ledger},
    outcome::{Counts, Failure, SCHEMA_MISSING},
    pending::{PendingFormat, PendingRow},
};

/// Rows of a transaction. They stay locked until its end, and other runs that land the same records wait for them.
const TRANSACTION: i64 = 5000;
/// The server may lose the marks of the last transactions if it crashes. Then these rows are pending again, and are published twice.
const MARKS_MAY_BE_LOST: &str = "SET LOCAL synchronous_commit = off";

/// Publishes the pending rows of the landing table.
pub struct Publisher {
    connection: kafka::Connection,
    topic: String,
    /// In bytes.
    max_record: usize,
    producer: Producer,
    schema: RecordSchema,
    encoder: Arc<Encoder>,
    frame: [u8; message::FRAME],
    table: String,
    statements: Statements,
}

/// What is prepared on the connection of a run.
struct Statements {
    pending: PendingFormat,
    mark_published: Statement,
}

impl Publisher {
    /// Requires the schema in the registry and the topic; it creates neither.
    pub async fn open(pipeline: &IngestPipeline, schema: &RecordSchema, secrets: &Secrets, client: &Client) -> Result<Self, Failure> {
        let schema_id = schema_id(pipeline, schema, secrets).await?;
        let connection = kafka::Connection::new(&pipeline.brokers, secrets);
        let producer = connect(&connection, &pipeline.topic, pipeline.max_record).await?;
        let encoder = Encoder::new(schema.clone()).map_err(|e| Failure::configuration(SCHEMA_MISSING, e.to_string()))?;
        let (encoder, frame) = (Arc::new(encoder), message::frame(schema_id));
        let table = pipeline.landing_table.clone();
        Ok(Self {
            statements: Statements::prepare(client, schema, &table, &encoder, frame).await?,
            schema: schema.clone(),
            frame,
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
        self.statements = Statements::prepare(client, &self.schema, &self.table, &self.encoder, self.frame).await?;
        Ok(())
    }

    /// Publishes until no row is pending, except those that another publisher has locked.
    pub async fn publish_pending(&mut self, ledger: &mut Ledger) -> Result<(), StoreError> {
        // Between transactions nothing is in flight, so no message is sent twice.
        if self.producer.is_rotated(&self.connection) {
            tracing::info!("Kafka's credentials or certificates have changed: connecting with the new ones");
            self.producer = connect(&self.connection, &self.topic, self.max_record).await?;
        }
        while self.publish_some(ledger).await? {}
        Ok(())
    }

    /// Publishes rows in one transaction. Returns whether there were any. They stay locked until the topic has acknowledged them and
    /// they are marked. Rows without an acknowledgement stay pending, and may be published twice.
    async fn publish_some(&self, ledger: &mut Ledger) -> Result<bool, StoreError> {
        let failed = |e| table_failed(&self.table, &e);
        let Ledger { client, key, counts, .. } = ledger;
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(MARKS_MAY_BE_LOST).await.map_err(failed)?;
        let mut rows = self.statements.pending.rows(&transaction, &key.pipeline, TRANSACTION).await?;
        let mut batch = rows.next_batch().await?;
        let mut error = None;
        let mut published = Counts::default();
        let mut queued = self.queue(&batch, &key.run_id);
        while !batch.is_empty() {
            // While a batch is on its way to the topic, the next one is read, and then the one before is marked. A row that cannot be
            // read fails the run, once those before it are marked.
            let next = if error.is_none() { rows.next_batch().await } else { Ok(Vec::new()) };
            let next = next.unwrap_or_else(|e| {
                error = Some(e);
                Vec::new()
            });
            let next_queued = self.queue(&next, &key.run_id);
            let reports = self.producer.reports(queued).await;
            let marked = self.mark_acknowledged(&transaction, &batch, &reports).await;
            match marked {
                Ok(marked) => published.published += marked,
                // After an earlier error of PostgreSQL, it refuses this statement, too.
                Err(e) => return Err(error.unwrap_or(e)),
            }
            error = error.or(reports.into_iter().find_map(Result::err));
            (batch, queued) = (next, next_queued);
        }
        drop(rows);
        if published.published > 0 {
            ledger::advance(&transaction, key, published).await?;
            transaction.commit().await.map_err(failed)?;
            *counts += published;
        }
        error.map_or(Ok(published.published > 0), Err)
    }

    fn queue(&self, batch: &[PendingRow], run_id: &str) -> Queued {
        let headers: Vec<_> = batch.iter().map(|row| row.headers(run_id)).collect();
        let messages: Vec<Message<'_>> = batch.iter().zip(&headers).map(|(row, headers)| row.message(headers)).collect();
        self.producer.queue_all(&messages)
    }

    /// Marks the rows that the topic has. Returns how many.
    async fn mark_acknowledged(
        &self,
        transaction: &Transaction<'_>,
        batch: &[PendingRow],
        reports: &[Result<(), StoreError>],
    ) -> Result<i64, StoreError> {
        let acknowledged = batch.iter().zip(reports).filter(|(_, report)| report.is_ok());
        let acknowledged: Vec<&PendingRow> = acknowledged.map(|(row, _)| row).collect();
        if acknowledged.is_empty() {
            return Ok(0);
        }
        self.mark(transaction, &acknowledged).await
    }

    /// Marks rows as published. Returns how many.
    async fn mark(&self, transaction: &Transaction<'_>, rows: &[&PendingRow]) -> Result<i64, StoreError> {
        let keys: Vec<Vec<PgParam<'_>>> = (0..self.schema.key.len())
            .map(|i| rows.iter().map(|row| PgParam(&row.key_values[i])).collect())
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
}

impl Statements {
    async fn prepare(
        client: &Client,
        schema: &RecordSchema,
        table: &str,
        encoder: &Arc<Encoder>,
        frame: [u8; message::FRAME],
    ) -> Result<Self, StoreError> {
        let mark_published = client.prepare(&schema.published_update(table)).await;
        Ok(Self {
            pending: PendingFormat::prepare(client, schema, table, Arc::clone(encoder), frame).await?,
            mark_published: mark_published.map_err(|e| table_failed(table, &e))?,
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
