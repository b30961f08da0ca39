//! The pending rows of the landing table, as messages.

use std::{mem, sync::Arc};

use tokio_postgres::{Client, Portal, Row, Statement, Transaction};
use userpipeline_record::{
    Field, Record, RecordSchema, Value,
    avro::Encoder,
    message,
    postgres::{DELETED, FETCHED_MILLIS, RUN_ID, VERSION},
    trace::{self, Trace},
};
use userpipeline_stores::{StoreError, error::TABLE_MISMATCH, kafka::producer::Message, postgres::PgValue};

use crate::land::table_failed;

/// The header with the run that published a message.
pub const RUN_HEADER: &str = "run";
/// Rows of a batch.
const BATCH: usize = 1000;
/// Bytes of a batch. The rows that reach it are its last.
const BATCH_BYTES: usize = 4 << 20;
/// Rows that are read at a time: the next ones may be much larger.
const READ: usize = 250;
/// Rows that are read before their size is known.
const FIRST_READ: usize = 4;

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
pub struct PendingRow {
    /// The values of the key's fields.
    pub key_values: Vec<Value>,
    key: String,
    pub version: i64,
    version_header: String,
    fetched_header: String,
    trace_header: Arc<str>,
    /// None for a deleted record.
    payload: Option<Vec<u8>>,
}

impl PendingRow {
    pub fn headers<'a>(&'a self, run_id: &'a str) -> [(&'a str, &'a [u8]); 4] {
        [
            (message::VERSION_HEADER, self.version_header.as_bytes()),
            (RUN_HEADER, run_id.as_bytes()),
            (message::FETCHED_HEADER, self.fetched_header.as_bytes()),
            (trace::HEADER, self.trace_header.as_bytes()),
        ]
    }

    pub fn message<'a>(&'a self, headers: &'a [(&'a str, &'a [u8])]) -> Message<'a> {
        Message {
            key: &self.key,
            payload: self.payload.as_deref(),
            headers,
        }
    }

    /// Approximate bytes in memory.
    fn size(&self) -> usize {
        size_of_val(self) + self.key.len() + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// Reads pending rows in batches. Each row is locked when it is read.
pub struct PendingRows<'a> {
    format: &'a PendingFormat,
    transaction: &'a Transaction<'a>,
    portal: Portal,
    traces: Traces<'a>,
    /// How many rows to read next.
    read: usize,
    is_at_end: bool,
}

impl PendingRows<'_> {
    /// Empty at the end.
    pub async fn next_batch(&mut self) -> Result<Vec<PendingRow>, StoreError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while !self.is_at_end && batch.len() < BATCH {
            let rows = self
                .transaction
                .query_portal(&self.portal, i32::try_from(self.read).unwrap_or(i32::MAX));
            let rows = rows.await.map_err(|e| table_failed(&self.format.table, &e))?;
            self.is_at_end = rows.len() < self.read;
            for row in &rows {
                let row = self.format.pending_row(row, &mut self.traces)?;
                bytes += row.size();
                batch.push(row);
            }
            // As many as there is room for, if they are as large as the ones before.
            let room = BATCH_BYTES.saturating_sub(bytes) * batch.len() / bytes.max(1);
            self.read = room.clamp(FIRST_READ, READ);
            if room == 0 {
                break;
            }
        }
        Ok(batch)
    }
}

/// How to read pending rows on the connection of a run, and to encode them.
pub struct PendingFormat {
    select: Statement,
    columns: PendingColumns,
    schema: RecordSchema,
    encoder: Arc<Encoder>,
    frame: [u8; message::FRAME],
    table: String,
}

impl PendingFormat {
    /// `frame`: of the messages.
    pub async fn prepare(
        client: &Client,
        schema: &RecordSchema,
        table: &str,
        encoder: Arc<Encoder>,
        frame: [u8; message::FRAME],
    ) -> Result<Self, StoreError> {
        let select = client
            .prepare(&schema.pending_select(table))
            .await
            .map_err(|e| table_failed(table, &e))?;
        Ok(Self {
            columns: PendingColumns::of(&select, schema, table)?,
            select,
            schema: schema.clone(),
            encoder,
            frame,
            table: table.to_owned(),
        })
    }

    /// Up to `limit` rows, of any run. Rows that another publisher has locked are skipped.
    pub async fn rows<'a>(
        &'a self,
        transaction: &'a Transaction<'a>,
        pipeline: &'a str,
        limit: i64,
    ) -> Result<PendingRows<'a>, StoreError> {
        let portal = transaction
            .bind(&self.select, &[&limit])
            .await
            .map_err(|e| table_failed(&self.table, &e))?;
        Ok(PendingRows {
            format: self,
            transaction,
            portal,
            traces: Traces::of(pipeline),
            read: FIRST_READ,
            is_at_end: false,
        })
    }

    fn pending_row(&self, row: &Row, traces: &mut Traces<'_>) -> Result<PendingRow, StoreError> {
        let invalid = |e: &dyn std::fmt::Display| {
            let message = format!("landing table \"{}\" has a row that is not a record: {e}", self.table);
            StoreError::configuration(TABLE_MISMATCH, message)
        };
        let columns = &self.columns;
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
        let mut record = Record(values);
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
            trace_header: traces.header(run),
            payload,
            key_values: self
                .schema
                .key_positions()
                .map(|i| mem::replace(&mut record.0[i], Value::Null))
                .collect(),
        })
    }
}

/// The traces of the runs that landed rows. Most rows have that of the row before.
struct Traces<'a> {
    pipeline: &'a str,
    last: Option<(String, Arc<str>)>,
}

impl<'a> Traces<'a> {
    const fn of(pipeline: &'a str) -> Self {
        Self { pipeline, last: None }
    }

    fn header(&mut self, run: &str) -> Arc<str> {
        match &self.last {
            Some((last, header)) if last == run => Arc::clone(header),
            _ => {
                let header: Arc<str> = Trace::of(self.pipeline, run).header().into();
                self.last = Some((run.to_owned(), Arc::clone(&header)));
                header
            }
        }
    }
}
