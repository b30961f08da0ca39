//! From the landing table to the topic: whatever is not there yet, whichever run left it.

use tokio_postgres::{Row, Statement, Transaction, types::ToSql};
use userpipeline_api::document::IngestPipeline;
use userpipeline_api::names;
use userpipeline_record::{
    Field, Record, RecordSchema, Value,
    avro::Encoder,
    trace::{self, Trace},
    wire,
};
use userpipeline_stores::{
    StoreError,
    error::{POSTGRES_FAILED, TABLE_MISMATCH},
    kafka::{
        self,
        producer::{Message, Producer},
    },
    postgres::{PgParam, PgValue, explain},
    schema_registry,
};

use crate::{
    ledger::{self, Ledger, explain_missing},
    outcome::{Counts, Failure, SCHEMA_MISSING},
};

/// How many rows are taken at a time: few enough for others not to wait long for their locks.
const BATCH: i64 = 250;
/// A batch ends with the rows that bring it to so many bytes: it is held in memory.
const BATCH_BYTES: usize = 8 << 20;
/// So many rows are read before it is known how large they are.
const FIRST: i32 = 4;
/// The header that names the run that published.
pub const RUN_HEADER: &str = "run";

/// The outbox and its topic.
pub struct Publisher {
    producer: Producer,
    schema: RecordSchema,
    encoder: Encoder,
    frame: [u8; wire::FRAME],
    table: String,
    pending: Statement,
    published: Statement,
}

/// A row of the outbox, ready to be sent.
struct Pending {
    record: Record,
    key: String,
    version: i64,
    version_text: String,
    fetched: String,
    trace: String,
    /// None for a record that is no more.
    payload: Option<Vec<u8>>,
}

impl Publisher {
    /// Looks for schema and topic, makes neither, and prepares the statements.
    pub async fn open(pipeline: &IngestPipeline, schema: &RecordSchema, ledger: &Ledger) -> Result<Self, Failure> {
        let subject = names::subject(&pipeline.topic);
        let id = schema_registry::Connection::new(&pipeline.registry_url)
            .connect()?
            .id_of(&subject, &schema.avro_schema())
            .await?;
        let id = id.ok_or_else(|| {
            let message = format!(
                "subject `{subject}` of the schema registry does not have this pipeline's schema: its schema Job has not been applied"
            );
            Failure::configuration(SCHEMA_MISSING, message)
        })?;
        let producer = Producer::connect(
            &kafka::Connection::new(&pipeline.bootstrap_servers),
            &pipeline.topic,
            "userpipeline-ingest",
            pipeline.max_record,
        )
        .await?;
        let encoder = Encoder::new(schema.clone()).map_err(|e| Failure::configuration(SCHEMA_MISSING, e.to_string()))?;
        let table = pipeline.landing_table.clone();
        let failed = |e| explain_missing(explain(&format!("landing table \"{table}\""), &e));
        Ok(Self {
            pending: ledger.client.prepare(&schema.pending_select(&table)).await.map_err(failed)?,
            published: ledger.client.prepare(&schema.published_update(&table)).await.map_err(failed)?,
            schema: schema.clone(),
            frame: wire::frame(id),
            producer,
            encoder,
            table,
        })
    }

    /// Publishes until nothing is pending, but for what another publisher holds.
    pub async fn publish_pending(&self, ledger: &mut Ledger) -> Result<(), StoreError> {
        while self.publish_batch(ledger).await? {}
        Ok(())
    }

    /// Publishes a batch; whether there was one. The rows stay locked until the topic has acknowledged them and they are
    /// marked; what was not acknowledged stays pending, and may then be on the topic twice.
    async fn publish_batch(&self, ledger: &mut Ledger) -> Result<bool, StoreError> {
        let failed = |e| explain_missing(explain(&format!("landing table \"{}\"", self.table), &e));
        let Ledger { client, key, counts, .. } = ledger;
        let transaction = client.transaction().await.map_err(failed)?;
        let batch = self.take(&transaction, &key.pipeline).await?;
        if batch.is_empty() {
            return Ok(false);
        }
        let headers: Vec<[(&str, &[u8]); 4]> = batch
            .iter()
            .map(|row| {
                [
                    (wire::VERSION_HEADER, row.version_text.as_bytes()),
                    (RUN_HEADER, key.run_id.as_bytes()),
                    (wire::FETCHED_HEADER, row.fetched.as_bytes()),
                    (trace::HEADER, row.trace.as_bytes()),
                ]
            })
            .collect();
        let messages: Vec<Message<'_>> = batch
            .iter()
            .zip(&headers)
            .map(|(row, headers)| Message {
                key: &row.key,
                payload: row.payload.as_deref(),
                headers,
            })
            .collect();
        let delivered = self.producer.send_all(&messages).await;
        let acknowledged: Vec<&Pending> = batch
            .iter()
            .zip(&delivered)
            .filter(|(_, d)| d.is_ok())
            .map(|(row, _)| row)
            .collect();
        if !acknowledged.is_empty() {
            let keys: Vec<Vec<PgParam<'_>>> = self
                .schema
                .key_positions()
                .map(|i| acknowledged.iter().map(|row| PgParam(&row.record.0[i])).collect())
                .collect();
            let versions: Vec<i64> = acknowledged.iter().map(|row| row.version).collect();
            let mut values: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|k| k as &(dyn ToSql + Sync)).collect();
            values.push(&versions);
            let marked = transaction.execute(&self.published, &values).await.map_err(failed)?;
            if marked != acknowledged.len() as u64 {
                let message = format!(
                    "landing table \"{}\": {marked} of {} published rows could be marked",
                    self.table,
                    acknowledged.len()
                );
                return Err(StoreError::configuration(POSTGRES_FAILED, message));
            }
            let published = Counts {
                published: i64::try_from(marked).unwrap_or(i64::MAX),
                ..Counts::default()
            };
            ledger::advance(&transaction, key, published).await?;
            transaction.commit().await.map_err(failed)?;
            *counts += published;
        }
        delivered.into_iter().collect::<Result<Vec<()>, _>>().map(|_| true)
    }

    /// Takes rows of the outbox, and locks them.
    async fn take(&self, transaction: &Transaction<'_>, pipeline: &str) -> Result<Vec<Pending>, StoreError> {
        let failed = |e| explain_missing(explain(&format!("landing table \"{}\"", self.table), &e));
        let outbox = transaction.bind(&self.pending, &[&BATCH]).await.map_err(failed)?;
        let (mut batch, mut bytes, mut next) = (Vec::new(), 0, FIRST);
        loop {
            let rows = transaction.query_portal(&outbox, next).await.map_err(failed)?;
            for row in &rows {
                let pending = self.pending(row, pipeline)?;
                bytes += pending.record.size() + pending.payload.as_ref().map_or(0, Vec::len);
                batch.push(pending);
            }
            // As many as there is room for, should the others be as large as these.
            let room = BATCH_BYTES.saturating_sub(bytes) * batch.len() / bytes.max(1);
            if rows.len() < next.unsigned_abs() as usize || room == 0 {
                break;
            }
            next = i32::try_from(room).unwrap_or(i32::MAX);
        }
        Ok(batch)
    }

    fn pending(&self, row: &Row, pipeline: &str) -> Result<Pending, StoreError> {
        let unfit = |e: &dyn std::fmt::Display| {
            StoreError::configuration(
                TABLE_MISMATCH,
                format!("landing table \"{}\" holds a row that is no record: {e}", self.table),
            )
        };
        let fields = self.schema.fields.len();
        let deleted: bool = row.try_get(fields + 1).map_err(|e| unfit(&e))?;
        // A column that was there before its field had a default may hold null.
        let value = |(i, field): (usize, &Field)| {
            let PgValue(value) = row.try_get(i)?;
            let default = field.default.clone().filter(|_| value == Value::Null && !deleted);
            Ok(default.unwrap_or(value))
        };
        let values = self.schema.fields.iter().enumerate().map(value);
        let values = values.collect::<Result<_, tokio_postgres::Error>>().map_err(|e| unfit(&e))?;
        let version: i64 = row.try_get(fields).map_err(|e| unfit(&e))?;
        let fetched: i64 = row.try_get(fields + 2).map_err(|e| unfit(&e))?;
        let run: &str = row.try_get(fields + 3).map_err(|e| unfit(&e))?;
        let record = Record(values);
        let payload = if deleted {
            None
        } else {
            let mut payload = self.frame.to_vec();
            self.encoder.encode(&record, &mut payload).map_err(|e| unfit(&e))?;
            Some(payload)
        };
        Ok(Pending {
            key: record.key(&self.schema),
            version,
            version_text: version.to_string(),
            fetched: fetched.to_string(),
            trace: Trace::of(pipeline, run).header(),
            payload,
            record,
        })
    }
}
