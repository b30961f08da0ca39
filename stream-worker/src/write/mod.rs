//! Writes a batch: dead letters to their topic, records to both sinks at once, progress with them; all or nothing, as
//! often as it takes.
//!
//! A record that PostgreSQL refuses may be in Cassandra by then, which was written at the same time; it becomes a dead
//! letter nevertheless, and its re-driven, mended version will be newer. A record that Cassandra refuses is never in
//! PostgreSQL: the transaction is rolled back and made again without it.

mod account;
mod bisect;
pub mod cassandra;
pub mod postgres;
pub mod progress;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{Class, StoreError, postgres::is_record_fault};
use uuid::Uuid;

use self::{account::Acknowledged, cassandra::CassandraSink, postgres::PostgresSink, progress::Rows};
use crate::{
    batch::{Advance, Batch, Faults, advances, newest},
    breaker::Breaker,
    dead_letters::DeadLetters,
    decode::{Decoders, Entry, Fault},
    ownership::Ownership,
    report::Trouble,
    retry::Backoff,
    shared::Shared,
};

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Written {
    /// The offset behind the last message of each partition that is stored now.
    pub next: BTreeMap<i32, i64>,
    /// Partitions that another worker has claimed: nothing of them was stored.
    pub fenced: Vec<i32>,
    /// The worker is to stop and a store does not answer: nothing was stored.
    pub abandoned: bool,
}

/// A batch under way.
struct Work {
    batch: Batch,
    /// The records; none until all messages are decoded.
    entries: Option<Vec<Entry>>,
    dead: Faults,
    /// Dead letters that are acknowledged.
    sent: BTreeSet<(i32, i64)>,
}

impl Work {
    fn retain(&mut self, keep: impl Fn(i32, Uuid) -> bool) {
        self.batch.retain(keep);
        let owners = &self.batch.owners;
        if let Some(entries) = &mut self.entries {
            entries.retain(|e| owners.contains_key(&e.origin.0));
        }
        self.dead.retain(|(partition, _), _| owners.contains_key(partition));
    }
}

/// Why an attempt failed.
enum Failure {
    /// A store does not do what it should: its name in the metrics, and why.
    Store(&'static str, StoreError),
    /// Partitions have another owner.
    Fenced(BTreeSet<i32>),
    /// Records are refused for their own sake.
    Refused(Faults),
    /// So many messages would be dead letters, of so many.
    TooManyDeadLetters(usize, usize),
}

/// What PostgreSQL answers, within its time.
async fn answered<T>(question: impl Future<Output = T>) -> Result<T, Failure> {
    postgres::answered(question).await.map_err(|e| Failure::Store(POSTGRES, e))
}

const POSTGRES: &str = "postgres";
const CASSANDRA: &str = "cassandra";
const REGISTRY: &str = "registry";
const KAFKA: &str = "kafka";

/// Writes batches.
pub struct Writer {
    shared: Arc<Shared>,
    rows: Rows,
    schema: RecordSchema,
    decoders: Decoders,
    postgres: Option<PostgresSink>,
    cassandra: Option<CassandraSink>,
    dead_letters: Option<DeadLetters>,
    breaker: Breaker,
    ownership: Arc<Ownership>,
    stop: CancellationToken,
}

impl Writer {
    /// A writer whose stores answer and have their tables.
    pub async fn open(shared: Arc<Shared>, rows: Rows, ownership: Arc<Ownership>, stop: CancellationToken) -> Result<Self, StoreError> {
        let schema = shared.schema.clone();
        let decoders = Decoders::of(&shared.pipeline, schema.clone())?;
        let mut writer = Self {
            breaker: Breaker::new(shared.pipeline.max_dead_letter_ratio),
            shared,
            rows,
            schema,
            decoders,
            postgres: None,
            cassandra: None,
            dead_letters: None,
            ownership,
            stop,
        };
        writer.open_postgres().await?;
        writer.open_cassandra().await?;
        Ok(writer)
    }

    /// Writes a batch, as often as it takes. It gives up only where the worker is to stop.
    pub async fn write(&mut self, batch: Batch) -> Written {
        let shared = Arc::clone(&self.shared);
        let mut work = Work {
            batch,
            entries: None,
            dead: Faults::new(),
            sent: BTreeSet::new(),
        };
        let (mut backoff, mut fenced) = (Backoff::default(), Vec::new());
        shared
            .metrics
            .in_flight
            .set(i64::try_from(work.batch.messages.len()).unwrap_or(i64::MAX));
        let abandoned = loop {
            work.retain(|partition, token| self.ownership.holds(partition, token));
            if work.batch.messages.is_empty() {
                break false;
            }
            match Box::pin(self.attempt(&mut work)).await {
                Ok((advances, acknowledged)) => {
                    self.breaker.passed(work.batch.messages.len(), work.dead.len());
                    self.account(&work, &advances, &acknowledged);
                    break false;
                }
                Err(Failure::Fenced(partitions)) => {
                    tracing::warn!(
                        ?partitions,
                        "another worker has claimed partitions; what this one holds of them is dropped"
                    );
                    work.retain(|partition, _| !partitions.contains(&partition));
                    fenced.extend(partitions);
                }
                Err(Failure::Refused(faults)) => work.dead.extend(faults),
                Err(Failure::Store(store, error)) => {
                    self.let_go(store, &error);
                    shared.metrics.retry(store);
                    // What the next attempt mends, such as a deadlock, is no trouble yet.
                    if error.class == Class::Configuration || backoff.attempts() > 0 {
                        shared.status.trouble(Trouble::Write, &error);
                    }
                    if self.waits(&mut backoff, store, &error).await {
                        break true;
                    }
                }
                Err(Failure::TooManyDeadLetters(bad, read)) => {
                    let error = self.too_many(&work.dead, bad, read);
                    shared.status.trouble(Trouble::Write, &error);
                    // What cannot be read now may be by then: the schema may be registered.
                    work.entries = None;
                    work.dead.clear();
                    if self.waits(&mut backoff, "dead letters", &error).await {
                        break true;
                    }
                }
            }
        };
        shared.metrics.in_flight.set(0);
        if !abandoned {
            shared.status.clear(Trouble::Write);
        }
        Written {
            next: if abandoned { BTreeMap::new() } else { work.batch.next_offsets() },
            fenced,
            abandoned,
        }
    }

    /// Waits for the next attempt; whether the worker is to stop instead.
    async fn waits(&self, backoff: &mut Backoff, store: &str, error: &StoreError) -> bool {
        let wait = backoff.wait();
        tracing::warn!(store, reason = error.reason, message = error.message, attempt = backoff.attempts(), wait = ?wait, "a batch was not written");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
        self.stop.is_cancelled()
    }

    async fn attempt(&mut self, work: &mut Work) -> Result<(BTreeMap<i32, Advance>, Acknowledged), Failure> {
        if work.entries.is_none() {
            self.decode(work).await.map_err(|e| Failure::Store(REGISTRY, e))?;
        }
        self.breaker
            .admits(work.batch.messages.len(), work.dead.len())
            .map_err(|(bad, read)| Failure::TooManyDeadLetters(bad, read))?;
        self.open_postgres().await.map_err(|e| Failure::Store(POSTGRES, e))?;
        self.open_cassandra().await.map_err(|e| Failure::Store(CASSANDRA, e))?;
        if work.dead.keys().any(|origin| !work.sent.contains(origin)) && self.dead_letters.is_none() {
            let letters = DeadLetters::new(&self.shared.pipeline, &self.shared.instance).map_err(|e| Failure::Store(KAFKA, e))?;
            self.dead_letters = Some(letters);
        }
        let Some(sink) = &mut self.postgres else {
            unreachable!("it was opened above")
        };
        let metrics = &self.shared.metrics;
        let Work {
            batch,
            entries,
            dead,
            sent,
        } = work;
        let entries = newest(entries.as_deref().unwrap_or_default(), dead);
        let postgres_failed = |e: tokio_postgres::Error| Failure::Store(POSTGRES, postgres::explain(&e));

        let table = sink.table();
        let transaction = answered(sink.begin()).await?.map_err(postgres_failed)?;
        let previous = answered(self.rows.lock(&transaction, &batch.owners))
            .await?
            .map_err(postgres_failed)?;
        let fenced: BTreeSet<i32> = batch.owners.keys().filter(|p| !previous.contains_key(p)).copied().collect();
        if !fenced.is_empty() {
            return Err(Failure::Fenced(fenced));
        }

        let to_postgres = async {
            let Some(table) = table.filter(|_| !entries.is_empty()) else {
                return Ok(true);
            };
            let started = Instant::now();
            match answered(table.write(&transaction, &entries)).await? {
                Ok(()) => {
                    metrics.sink_took(POSTGRES, started.elapsed());
                    Ok(true)
                }
                Err(e) if is_record_fault(&e) => Ok(false),
                Err(e) => Err(postgres_failed(e)),
            }
        };
        let to_cassandra = async {
            let Some(sink) = self.cassandra.as_ref().filter(|_| !entries.is_empty()) else {
                return Ok((Vec::new(), None));
            };
            let started = Instant::now();
            let refused = sink.write(&entries).await.map_err(|e| Failure::Store(CASSANDRA, e))?;
            metrics.sink_took(CASSANDRA, started.elapsed());
            Ok((refused, Some(Timestamp::now())))
        };
        let to_dead_letters = async {
            let Some(letters) = &self.dead_letters else { return Ok(()) };
            let unsent: Vec<_> = batch
                .messages
                .iter()
                .filter(|m| !sent.contains(&m.origin()))
                .filter_map(|m| Some((m, dead.get(&m.origin())?)))
                .collect();
            // Those that arrived are not sent again, whatever became of the others.
            let mut failed = None;
            for ((message, _), delivered) in unsent.iter().zip(letters.send(&unsent).await) {
                match delivered {
                    Ok(()) => drop(sent.insert(message.origin())),
                    Err(e) => failed = Some(e),
                }
            }
            failed.map_or(Ok(()), |e| Err(Failure::Store(KAFKA, e)))
        };
        let (accepted, (refused, cassandra), ()) = tokio::try_join!(to_postgres, to_cassandra, to_dead_letters)?;

        let fault = |class: &'static str| {
            let entries = &entries;
            move |(i, why): (usize, String)| (entries[i].origin, Fault::quoting(class, why).of(entries[i]))
        };
        let mut faults: Faults = refused.into_iter().map(fault("CassandraRefused")).collect();
        if !accepted || !faults.is_empty() {
            answered(transaction.rollback()).await?.map_err(postgres_failed)?;
            if !accepted {
                let refused = sink.find_refused(&entries).await.map_err(|e| Failure::Store(POSTGRES, e))?;
                faults.extend(refused.into_iter().map(fault("PostgresRefused")));
            }
            return Err(Failure::Refused(faults));
        }
        let advances = advances(&batch.messages, dead, &previous);
        answered(self.rows.advance(&transaction, &advances))
            .await?
            .map_err(postgres_failed)?;
        answered(transaction.commit()).await?.map_err(postgres_failed)?;
        let bytes = entries.iter().map(|entry| entry.record.size()).sum();
        let postgres = self.shared.pipeline.postgres_table.as_ref().filter(|_| !entries.is_empty());
        let acknowledged = Acknowledged {
            postgres: postgres.map(|_| Timestamp::now()),
            cassandra,
            records: entries.len(),
            bytes,
        };
        Ok((advances, acknowledged))
    }

    async fn decode(&mut self, work: &mut Work) -> Result<(), StoreError> {
        let mut entries = Vec::with_capacity(work.batch.messages.len());
        for message in &work.batch.messages {
            match self.decoders.decode(message).await? {
                Ok(entry) => entries.push(entry),
                Err(fault) => {
                    work.dead.insert(message.origin(), fault);
                }
            }
        }
        work.entries = Some(entries);
        Ok(())
    }

    /// Closes what failed, so that the next attempt opens it anew, with the credentials as they are then.
    fn let_go(&mut self, store: &str, error: &StoreError) {
        match store {
            POSTGRES => self.postgres = None,
            CASSANDRA if cassandra::needs_new_session(error) => {
                self.cassandra = None;
                self.shared.share_session(None);
            }
            KAFKA => self.dead_letters = None,
            _ => {}
        }
    }

    /// Opens a connection where there is none, or the credentials have changed since.
    async fn open_postgres(&mut self) -> Result<(), StoreError> {
        let Shared {
            pipeline,
            secrets,
            instance,
            ..
        } = &*self.shared;
        let rotated = |sink: &PostgresSink| postgres::credentials(&pipeline.postgres, secrets).is_ok_and(|now| now != sink.credentials);
        if self.postgres.as_ref().is_none_or(rotated) {
            let table = pipeline.postgres_table.as_deref();
            let opening = PostgresSink::open(&pipeline.postgres, table, &self.schema, secrets, instance);
            self.postgres = Some(postgres::answered(opening).await??);
        }
        Ok(())
    }

    /// Opens a session where there is none, or the credentials have changed since.
    async fn open_cassandra(&mut self) -> Result<(), StoreError> {
        let Shared { pipeline, secrets, .. } = &*self.shared;
        let Some(target) = &pipeline.cassandra else { return Ok(()) };
        let rotated = |sink: &CassandraSink| {
            userpipeline_stores::cassandra::credentials(&target.cluster, secrets).is_ok_and(|now| now != sink.credentials)
        };
        if self.cassandra.as_ref().is_none_or(rotated) {
            let sink = CassandraSink::open(target, &self.schema, secrets).await?;
            self.shared.share_session(Some(Arc::clone(&sink.session)));
            self.cassandra = Some(sink);
        }
        Ok(())
    }
}
