//! A page into the landing table: one transaction, a fixed number of round trips.

use tokio_postgres::{Client, Row, Statement, Transaction, types::Type};
use userpipeline_record::{RecordSchema, bookkeeping};
use userpipeline_stores::{
    StoreError,
    error::POSTGRES_FAILED,
    postgres::{CopyError, CopyRows, PgParam, RawJson, explain, landing_type},
};

use crate::{
    cursor::Cursor,
    ledger::{self, Key, Ledger, bookkeeping_failed, explain_missing},
    outcome::Counts,
    page::MappedPage,
};

const REJECT: &str = "INSERT INTO userpipeline.rejects (pipeline, run_id, field, class, reason, raw) \
     SELECT $1, $2, page.* FROM unnest($3::text[], $4::text[], $5::text[], $6::json[]) AS page";

/// Adds to the total number of rejects by field and class.
const COUNT_REJECTS: &str = "INSERT INTO userpipeline.reject_totals AS r (pipeline, field, class, items) \
     SELECT $1, field, class, count(*) FROM unnest($2::text[], $3::text[]) AS page (field, class) GROUP BY field, class ORDER BY field, class \
     ON CONFLICT (pipeline, field, class) DO UPDATE SET items = r.items + excluded.items";

/// The session locks of a pipeline's active runs are distinguished from others by this number.
const ACTIVE_SEED: i64 = 0x7570_6163_7469_7600;
/// Waits only while another run lands a page and is alone.
const BE_ACTIVE: &str = "SELECT pg_advisory_lock_shared(hashtextextended($1, $2))";
/// A session's own lock does not exclude it. A run that starts later waits until the transaction ends, and sends its requests
/// afterwards.
const IS_ALONE: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, $2)) AS alone";

/// The landing table, with the statements of a session.
pub struct Landing {
    table: String,
    types: Vec<Type>,
    has_filter: bool,
    copy: Statement,
    upsert: Statement,
    /// With `orderBy`.
    arbiter: Option<Arbiter>,
    reject: Statement,
    count_rejects: Statement,
}

/// Statements that tell which of two responses was requested later.
struct Arbiter {
    next_request: Statement,
    is_alone: Statement,
}

impl Arbiter {
    async fn prepare(client: &Client, pipeline: &str) -> Result<Self, StoreError> {
        let failed = |e| bookkeeping_failed("userpipeline.requests", &e);
        client.query_one(BE_ACTIVE, &[&pipeline, &ACTIVE_SEED]).await.map_err(failed)?;
        Ok(Self {
            next_request: client.prepare(bookkeeping::NEXT_REQUEST).await.map_err(failed)?,
            is_alone: client.prepare(IS_ALONE).await.map_err(failed)?,
        })
    }
}

impl Landing {
    /// Creates the session's temporary table and prepares the statements.
    pub async fn prepare(client: &Client, pipeline: &str, table: &str, schema: &RecordSchema) -> Result<Self, StoreError> {
        let failed = |e| table_failed(table, &e);
        client.batch_execute(&schema.landing_batch_ddl()).await.map_err(failed)?;
        let (upsert, arbiter) = if schema.order_by.is_some() {
            let arbiter = Arbiter::prepare(client, pipeline).await?;
            (schema.landing_upsert_ordered(table), Some(arbiter))
        } else {
            (schema.landing_upsert(table), None)
        };
        let fields = schema.fields.iter().map(|f| landing_type(f.field_type));
        Ok(Self {
            table: table.to_owned(),
            has_filter: schema.filter.is_some(),
            types: [Type::INT4, Type::BOOL, Type::INT8]
                .into_iter()
                .chain(schema.filter.is_some().then_some(Type::BOOL))
                .chain(fields)
                .chain([Type::JSON])
                .collect(),
            copy: client.prepare(&schema.landing_copy()).await.map_err(failed)?,
            upsert: client.prepare(&upsert).await.map_err(failed)?,
            arbiter,
            reject: client
                .prepare(REJECT)
                .await
                .map_err(|e| bookkeeping_failed("userpipeline.rejects", &e))?,
            count_rejects: client
                .prepare(COUNT_REJECTS)
                .await
                .map_err(|e| bookkeeping_failed("userpipeline.reject_totals", &e))?,
        })
    }

    /// Whether requests have numbers.
    pub const fn has_request_numbers(&self) -> bool {
        self.arbiter.is_some()
    }

    /// The number of a request that is sent next. Without `orderBy` it has no meaning.
    pub async fn number_request(&self, client: &Client) -> Result<i64, StoreError> {
        let Some(arbiter) = &self.arbiter else { return Ok(0) };
        let row = client.query_one(&arbiter.next_request, &[]).await;
        row.map(|row| row.get(0))
            .map_err(|e| bookkeeping_failed("userpipeline.requests", &e))
    }

    /// Lands a page: records, rejects, counters and cursor are committed together. `request`: its number.
    pub async fn land(&self, ledger: &mut Ledger, page: &MappedPage, request: i64, cursor: Option<&Cursor>) -> Result<(), StoreError> {
        let failed = |e| table_failed(&self.table, &e);
        let Ledger { client, key, counts, .. } = ledger;
        let transaction = client.transaction().await.map_err(failed)?;
        let mut landed = Counts {
            pages: 1,
            items: count(page.items()),
            bytes: count(page.bytes()),
            rejected: count(page.rejects.len()),
            ..Counts::default()
        };
        if !page.records.is_empty() {
            self.copy(&transaction, page).await.map_err(|e| copy_failed(&self.table, e))?;
            (landed.landed, landed.filtered) = self.upsert(&transaction, key, request).await.map_err(failed)?;
        }
        if !page.rejects.is_empty() {
            self.reject(&transaction, key, page).await.map_err(failed)?;
        }
        ledger::advance(&transaction, key, landed).await?;
        if let Some(cursor) = cursor {
            cursor.store(&transaction, key).await?;
        }
        transaction.commit().await.map_err(failed)?;
        *counts += landed;
        Ok(())
    }

    /// Returns the number of landed versions, and that of those among them that do not pass.
    async fn upsert(&self, transaction: &Transaction<'_>, key: &Key, request: i64) -> Result<(i64, i64), tokio_postgres::Error> {
        let counts = |row: &Row| (row.get(0), if self.has_filter { row.get(1) } else { 0 });
        let Some(arbiter) = &self.arbiter else {
            if self.has_filter {
                let row = transaction.query_one(&self.upsert, &[&key.run_id]).await?;
                return Ok(counts(&row));
            }
            let landed = transaction.execute(&self.upsert, &[&key.run_id]).await?;
            return Ok((i64::try_from(landed).unwrap_or(i64::MAX), 0));
        };
        let row = transaction.query_one(&arbiter.is_alone, &[&key.pipeline, &ACTIVE_SEED]).await?;
        let has_others = !row.get::<_, bool>(0);
        let row = transaction.query_one(&self.upsert, &[&key.run_id, &request, &has_others]).await?;
        Ok(counts(&row))
    }

    async fn reject(&self, transaction: &Transaction<'_>, key: &Key, page: &MappedPage) -> Result<(), tokio_postgres::Error> {
        let fields: Vec<&str> = page.rejects.iter().map(|r| r.field.as_str()).collect();
        let classes: Vec<&str> = page.rejects.iter().map(|r| r.class).collect();
        let reasons: Vec<&str> = page.rejects.iter().map(|r| r.reason.as_str()).collect();
        let raws: Vec<RawJson<'_>> = page.rejects.iter().map(|r| RawJson(r.raw.bytes())).collect();
        transaction
            .execute(&self.reject, &[&key.pipeline, &key.run_id, &fields, &classes, &reasons, &raws])
            .await?;
        transaction
            .execute(&self.count_rejects, &[&key.pipeline, &fields, &classes])
            .await
            .map(drop)
    }

    async fn copy(&self, transaction: &Transaction<'_>, page: &MappedPage) -> Result<(), CopyError> {
        let mut rows = CopyRows::new(transaction.copy_in(&self.copy).await.map_err(CopyError::Store)?);
        for (position, item) in (0_i32..).zip(&page.records) {
            let raw = RawJson(item.raw.bytes());
            let mut row = rows.row(&self.types)?;
            row.put(&position)?.put(&item.deleted)?.put(&item.order)?;
            if self.has_filter {
                row.put(&item.filtered)?;
            }
            for value in &item.record.0 {
                row.put(&PgParam(value))?;
            }
            row.put(&raw)?;
            rows.send_full().await?;
        }
        rows.finish().await
    }
}

fn copy_failed(table: &str, e: CopyError) -> StoreError {
    match e {
        CopyError::Store(e) => table_failed(table, &e),
        CopyError::Value(e) => StoreError::configuration(POSTGRES_FAILED, format!("landing table \"{table}\": {e}")),
    }
}

/// Explains an error of the landing table.
pub(crate) fn table_failed(table: &str, e: &tokio_postgres::Error) -> StoreError {
    explain_missing(explain(&format!("landing table \"{table}\""), e))
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
