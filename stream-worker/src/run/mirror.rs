//! Writes to Cassandra what changes in the totals of aggregates. One worker at a time does it; what it could not write is written
//! later, because PostgreSQL has how far it got.

use std::{collections::HashMap, time::Duration};

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
/// Totals that are read at a time.
const PAGE: i32 = 1000;
/// Totals whose revision is remembered, so that they are not written again while a transaction of others lasts.
const REMEMBERED: usize = 100_000;
/// The namespace of the advisory locks.
const MIRROR_SEED: i64 = 0x7570_6d69_7200_0000;

struct Connection {
    client: Client,
    /// It has the lock of the pipeline's mirrors.
    is_alone: bool,
}

/// The mirror of an aggregate.
struct Mirror {
    statements: MirrorStatements,
    writer: CassandraWriter,
    /// Before this transaction, everything is in Cassandra. None until it is read.
    since: Option<String>,
    /// The revisions that Cassandra has of totals that changed since.
    written: HashMap<String, i64>,
    /// Fields of a total, and how many of them, the first ones, are its key.
    fields: usize,
    key: usize,
}

/// Mirrors until the session ends, if an aggregate of the pipeline has a table in Cassandra.
pub async fn run(context: &WorkerContext) {
    let mirror = |aggregate: &Aggregate| {
        let schema = aggregate.mirror_schema()?;
        Some(Mirror {
            statements: aggregate.mirror_statements()?,
            writer: mirror_writer(context, aggregate)?,
            since: None,
            written: HashMap::new(),
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
                    mirror.since = None;
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
    let open = match connection.take() {
        Some(open) => open,
        None => Connection {
            client: context.postgres.connect(&format!("{} mirror", context.instance)).await?,
            is_alone: false,
        },
    };
    let Connection { client, is_alone } = connection.insert(open);
    if !*is_alone {
        *is_alone = lock(client, &context.pipeline.id.to_string()).await?;
    }
    if *is_alone {
        for mirror in mirrors {
            mirror.pass(context, client).await?;
        }
    }
    Ok(())
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
        let since = match self.since.take() {
            Some(since) => since,
            None => match self.recorded(client).await? {
                Some(since) => since,
                // A schema Job has dropped or replaced the totals: this worker is about to be replaced, too.
                None => return Ok(()),
            },
        };
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
        let mut is_changed = false;
        loop {
            let page = answered(transaction.query_portal(&portal, PAGE)).await?.map_err(|e| failed(&e))?;
            let writes: Vec<Write> = page
                .iter()
                .map(|row| self.write_of(row))
                .collect::<Result<_, _>>()
                .map_err(|e| failed(&e))?;
            let new: Vec<&Write> = writes
                .iter()
                .filter(|write| self.written.get(&write.key) != Some(&write.version))
                .collect();
            is_changed |= !new.is_empty();
            for (position, why) in self.writer.write_rows(&new).await? {
                tracing::warn!(
                    key = new[position].key,
                    why,
                    "Cassandra refuses a total, which only PostgreSQL has now"
                );
            }
            context.metrics.mirrored(new.len());
            if seen.len() < REMEMBERED {
                seen.extend(writes.into_iter().map(|write| (write.key, write.version)));
            }
            if page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                break;
            }
        }
        answered(transaction.rollback()).await?.map_err(|e| failed(&e))?;
        if is_changed {
            self.advance(client, &since, &horizon).await?;
        }
        self.written = seen;
        self.since = Some(horizon);
        Ok(())
    }

    /// The transaction before which everything was mirrored. None where the totals of this definition are gone.
    async fn recorded(&self, client: &Client) -> Result<Option<String>, StoreError> {
        let row = answered(client.query_opt(&self.statements.since, &[])).await?;
        let row = row.map_err(|e| failed(&e))?;
        Ok(row.map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "0".to_owned())))
    }

    /// Records that Cassandra has everything before `horizon`.
    async fn advance(&self, client: &Client, since: &str, horizon: &str) -> Result<(), StoreError> {
        let forgotten = answered(client.execute(&self.statements.forget_empty, &[&since, &horizon])).await?;
        forgotten.map_err(|e| failed(&e))?;
        let advanced = answered(client.execute(&self.statements.advance, &[&horizon])).await?;
        advanced.map(drop).map_err(|e| failed(&e))
    }

    /// The row of a total in Cassandra; without records, its delete.
    fn write_of(&self, row: &Row) -> Result<Write, Error> {
        let (exists, revision): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
        let values = (2..2 + self.fields).map(|column| Ok(row.try_get::<_, PgValue>(column)?.0));
        let values = values.collect::<Result<Vec<_>, Error>>()?;
        let record = VersionedRecord {
            origin: (0, 0),
            key: format!("{:?}", &values[..self.key]),
            version: revision,
            order: None,
            record: Record(values),
        };
        Ok(if exists { Write::upsert(record) } else { Write::delete(record) })
    }
}
