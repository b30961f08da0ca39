//! Writes to Cassandra what changes in the totals of aggregates. One worker at a time does it; what it could not write is written
//! later, because PostgreSQL has how far it got.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, Error, IsolationLevel, Row};
use userpipeline_record::{Record, aggregate::Aggregate, postgres::totals::MirrorStatements};
use userpipeline_stores::{
    StoreError,
    postgres::{self, PgValue, answered},
};

use crate::{
    context::WorkerContext,
    model::{VersionedRecord, Write},
    sinks::cassandra::{CassandraWriter, mirror_writer},
    status::Trouble,
};

/// Between two looks for changes.
const EVERY: Duration = Duration::from_millis(500);
/// Totals that are read at a time: the texts of their groups may have 60 KB.
const PAGE: i32 = 200;
/// Totals whose revision is remembered, so that they are not written again while a transaction of others lasts.
const REMEMBERED: usize = 100_000;
/// A worker that vanished must neither keep the lock nor block a schema Job. A page is written to Cassandra within 45 seconds.
const LIMITS: &str = "SET idle_session_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'";
/// The namespace of the advisory locks.
const MIRROR_SEED: i64 = 0x7570_6d69_7200_0000;

struct Connection {
    client: Client,
    /// It has the lock of the pipeline's mirrors.
    is_alone: bool,
}

/// The mirror of an aggregate.
struct Mirror {
    /// In Cassandra.
    table: String,
    statements: MirrorStatements,
    writer: CassandraWriter,
    /// Before this transaction, everything is in Cassandra. None until it is read.
    since: Option<String>,
    /// What is recorded of that. A schema Job that empties the table records something else.
    recorded: Option<String>,
    /// The revisions that Cassandra has of totals that changed since, by the hash of their keys.
    written: HashMap<u64, i64>,
    hashes: RandomState,
    /// Fields of a total, and how many of them, the first ones, are its key.
    fields: usize,
    key: usize,
}

/// Mirrors until the session ends, if an aggregate of the pipeline has a table in Cassandra.
pub async fn run(context: &WorkerContext) {
    let mirror = |aggregate: &Aggregate| {
        let schema = aggregate.mirror_schema()?;
        Some(Mirror {
            table: aggregate.mirror.clone()?,
            statements: aggregate.mirror_statements()?,
            writer: mirror_writer(context, aggregate)?,
            since: None,
            recorded: None,
            written: HashMap::new(),
            hashes: RandomState::new(),
            fields: schema.fields.len(),
            key: schema.key.len(),
        })
    };
    let mut mirrors: Vec<Mirror> = context.aggregates.iter().filter_map(mirror).collect();
    if mirrors.is_empty() {
        return;
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut connection, mut failures) = (None, 0);
    loop {
        ticks.tick().await;
        match pass(context, &mut connection, &mut mirrors).await {
            Ok(()) => {
                failures = 0;
                context.status.clear(Trouble::Mirror);
            }
            Err(error) => {
                connection = None;
                for mirror in &mut mirrors {
                    mirror.forget();
                }
                failures += 1;
                // A restart of a store, or a schema Job that replaces the totals, ends one pass.
                if failures > 2 {
                    context.status.trouble(Trouble::Mirror, &error);
                }
                tokio::time::sleep(EVERY * failures.min(20)).await;
            }
        }
    }
}

/// Mirrors what has changed, if no other worker does.
async fn pass(context: &WorkerContext, connection: &mut Option<Connection>, mirrors: &mut [Mirror]) -> Result<(), StoreError> {
    let open = if let Some(open) = connection.take() {
        open
    } else {
        let client = context.postgres.connect(&format!("{} mirror", context.instance)).await?;
        for settings in [postgres::KEEPALIVE, LIMITS] {
            answered(client.batch_execute(settings)).await?.map_err(|e| failed(&e))?;
        }
        Connection { client, is_alone: false }
    };
    let Connection { client, is_alone } = connection.insert(open);
    if !*is_alone {
        *is_alone = lock(client, &context.pipeline.id.to_string()).await?;
    }
    if !*is_alone {
        return Ok(());
    }
    // One that cannot be mirrored does not stop the others.
    let mut result = Ok(());
    for mirror in mirrors {
        if let Err(error) = mirror.pass(context, client).await {
            result = Err(error);
        }
    }
    result
}

/// Whether no other worker mirrors. The lock is held until the connection is closed.
async fn lock(client: &Client, pipeline: &str) -> Result<bool, StoreError> {
    let statement = "SELECT pg_try_advisory_lock(hashtextextended($1, $2))";
    let row = answered(client.query_one(statement, &[&pipeline, &MIRROR_SEED])).await?;
    Ok(row.map_err(|e| failed(&e))?.get(0))
}

fn failed(e: &Error) -> StoreError {
    postgres::explain("reading the totals of an aggregate", e)
}

impl Mirror {
    async fn pass(&mut self, context: &WorkerContext, client: &mut Client) -> Result<(), StoreError> {
        // Without a row, a schema Job has dropped or replaced the totals: this worker is about to be replaced, too.
        let Some(recorded) = self.recorded(client).await? else {
            return Ok(());
        };
        if recorded != self.recorded {
            self.forget();
            self.recorded = recorded;
        }
        let since = self.since.take().or_else(|| self.recorded.clone());
        let since = since.unwrap_or_else(|| "0".to_owned());
        let snapshot = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true);
        let transaction = answered(snapshot.start()).await?.map_err(|e| failed(&e))?;
        let row = answered(transaction.query_one(self.statements.horizon, &[])).await?;
        let horizon: String = row.map_err(|e| failed(&e))?.get(0);
        let bound = answered(transaction.bind(&self.statements.changed, &[&since])).await?;
        let portal = bound.map_err(|e| failed(&e))?;
        let mut seen = HashMap::new();
        let mut has_any = false;
        loop {
            let page = answered(transaction.query_portal(&portal, PAGE)).await?.map_err(|e| failed(&e))?;
            let writes: Vec<Write> = page
                .iter()
                .map(|row| self.write_of(row))
                .collect::<Result<_, _>>()
                .map_err(|e| failed(&e))?;
            has_any |= !writes.is_empty();
            let keys: Vec<u64> = writes.iter().map(|write| self.key_of(write)).collect();
            let is_new = |(key, write): &(&u64, &Write)| self.written.get(key) != Some(&write.version);
            let new: Vec<&Write> = keys.iter().zip(&writes).filter(is_new).map(|(_, write)| write).collect();
            for (position, why) in self.writer.write_rows(&new).await? {
                // The group's values are content of records, which no log quotes.
                tracing::warn!(
                    table = self.table,
                    revision = new[position].version,
                    why,
                    "Cassandra refuses a total, which only PostgreSQL has now"
                );
            }
            context.metrics.mirrored(new.len());
            if seen.len() < REMEMBERED {
                seen.extend(keys.into_iter().zip(writes.iter().map(|write| write.version)));
            }
            if page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                break;
            }
        }
        answered(transaction.rollback()).await?.map_err(|e| failed(&e))?;
        // Also where nothing is new: what is empty now was not forgotten while an older transaction lasted.
        if has_any {
            self.advance(client, &since, &horizon).await?;
        }
        self.written = seen;
        self.since = Some(horizon);
        Ok(())
    }

    /// What Cassandra has is not known any more.
    fn forget(&mut self) {
        self.since = None;
        self.written.clear();
    }

    /// The hash of a total's group and window.
    fn key_of(&self, write: &Write) -> u64 {
        self.hashes.hash_one(format!("{:?}", &write.record.0[..self.key]))
    }

    /// The transaction before which everything was mirrored, if anything was. None where the totals of this definition are gone.
    async fn recorded(&self, client: &Client) -> Result<Option<Option<String>>, StoreError> {
        let row = answered(client.query_opt(&self.statements.since, &[])).await?;
        let row = row.map_err(|e| failed(&e))?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Records that Cassandra has everything before `horizon`, unless a schema Job has reset what was recorded.
    async fn advance(&mut self, client: &Client, since: &str, horizon: &str) -> Result<(), StoreError> {
        let forgotten = answered(client.execute(&self.statements.forget_empty, &[&since, &horizon])).await?;
        forgotten.map_err(|e| failed(&e))?;
        let advanced = answered(client.execute(&self.statements.advance, &[&horizon, &self.recorded])).await?;
        if advanced.map_err(|e| failed(&e))? > 0 {
            self.recorded = Some(horizon.to_owned());
        }
        Ok(())
    }

    /// The row of a total in Cassandra; without records, its delete.
    fn write_of(&self, row: &Row) -> Result<Write, Error> {
        let (exists, revision): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
        let values = (2..2 + self.fields).map(|column| Ok(row.try_get::<_, PgValue>(column)?.0));
        let values = values.collect::<Result<Vec<_>, Error>>()?;
        let record = VersionedRecord {
            origin: (0, 0),
            key: String::new(),
            version: revision,
            order: None,
            record: Record(values),
        };
        Ok(if exists { Write::upsert(record) } else { Write::delete(record) })
    }
}
