//! One attempt to store a batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use futures::future::try_join_all;
use jiff::Timestamp;
use userpipeline_stores::StoreError;

use super::{
    account::Acknowledged,
    failure::{Failure, Store},
    work::Work,
    writer::Writer,
};
use crate::{
    dead_letters::DeadLetters,
    metrics::Metrics,
    model::{Faults, Message, RecordFault, Stored, Write},
    progress::{Advance, BatchTransaction},
    run::{
        arbitration::{Arbitrated, arbitrate},
        batch::{advances, filtered, newest},
    },
    sinks::{ActiveSink, Arbiter, WriteOutcome},
};

impl Writer {
    /// Stores a batch and its progress, or nothing of it in PostgreSQL.
    pub(super) async fn store(&mut self, work: &mut Work) -> Result<(BTreeMap<i32, Advance>, Acknowledged), Failure> {
        let Some(progress) = &mut self.stores.progress else {
            unreachable!("it is opened before each attempt")
        };
        let metrics = &self.context.metrics;
        let Work {
            batch,
            writes,
            unwritten,
            sent,
        } = work;
        let transaction = progress.begin(&self.table).await.map_err(Failure::bookkeeping)?;
        let candidates = writes.as_deref_mut().unwrap_or_default();
        // Statements of the transaction that do not depend on each other are sent at once, and run in this order.
        let (previous, stored) = futures::join!(
            transaction.lock(&batch.owners),
            stored(&self.stores.sinks, &transaction, candidates, &unwritten.faults)
        );
        let previous = previous.map_err(Failure::bookkeeping)?;
        let fenced: BTreeSet<i32> = batch.owners.keys().filter(|p| !previous.contains_key(p)).copied().collect();
        if !fenced.is_empty() {
            return Err(Failure::Fenced(fenced));
        }

        let filtered = filtered(candidates);
        let Arbitrated {
            winners: writes,
            is_unordered,
        } = select(stored?.as_ref(), candidates, &unwritten.faults);
        if is_unordered {
            self.context.status.unordered_messages();
        }
        let to_sinks = write_to_sinks(&self.stores.sinks, &transaction, &writes, metrics);
        let to_dead_letters = async {
            let Some(letters) = &self.dead_letters else { return Ok(()) };
            let faults = &unwritten.faults;
            let unsent = batch.messages.iter().filter(|m| !sent.contains(&m.origin()));
            let unsent: Vec<_> = unsent.filter_map(|m| Some((m, faults.get(&m.origin())?))).collect();
            let (arrived, failed) = send(letters, &unsent).await;
            sent.extend(arrived);
            failed.map_or(Ok(()), |e| Err(Failure::Store(Store::DeadLetters, e)))
        };
        // It is sent before the writes: after one that is refused, PostgreSQL refuses it as well. Without a commit it has no effect.
        let advances = advances(&batch.messages, unwritten, &filtered, &previous);
        let advancing = async { transaction.advance(&advances).await.map_err(Failure::bookkeeping) };
        let ((), results, ()) = futures::try_join!(advancing, to_sinks, to_dead_letters)?;

        let mut faults = refused_by_sinks(&self.stores.sinks, &results, &writes);
        let searches: Vec<_> = searches(&self.stores.sinks, &results).collect();
        if !searches.is_empty() || !faults.is_empty() {
            transaction.rollback().await.map_err(Failure::bookkeeping)?;
            for sink in searches {
                let refused = sink.writer.find_refused(progress.client_mut(), &writes).await;
                let refused = refused.map_err(|e| Failure::Store(Store::Sink(sink.name()), e))?;
                faults.extend(refused.into_iter().map(fault(sink.writer.refusal_class(), &writes)));
            }
            return Err(Failure::Refused(faults));
        }
        transaction.commit().await.map_err(Failure::bookkeeping)?;
        let acknowledged = acknowledged(&self.stores.sinks, &results, &writes, Timestamp::now());
        Ok((advances, acknowledged))
    }
}

/// A sink's answer to a batch.
struct SinkResult {
    outcome: WriteOutcome,
    /// None where the sink stores with the transaction.
    stored_at: Option<Timestamp>,
}

impl SinkResult {
    const fn nothing() -> Self {
        Self {
            outcome: WriteOutcome::Stored { refused: Vec::new() },
            stored_at: None,
        }
    }
}

fn acknowledged(sinks: &[ActiveSink], results: &[SinkResult], writes: &[&Write], committed_at: Timestamp) -> Acknowledged {
    let sinks = sinks.iter().zip(results);
    Acknowledged {
        sinks: sinks
            .map(|(sink, result)| (sink.name(), result.stored_at.unwrap_or(committed_at)))
            .collect(),
        records: writes.len(),
        bytes: writes.iter().map(|write| write.record.size()).sum(),
    }
}

/// The sink that decides versions, if the pipeline has one.
fn arbiter(sinks: &[ActiveSink]) -> Option<(&ActiveSink, &dyn Arbiter)> {
    sinks.iter().find_map(|sink| Some((sink, sink.writer.arbiter()?)))
}

/// What the sink that decides versions has of the records, by key. None where the pipeline has no such sink.
async fn stored(
    sinks: &[ActiveSink],
    transaction: &BatchTransaction<'_>,
    writes: &[Write],
    faults: &Faults,
) -> Result<Option<BTreeMap<String, Stored>>, Failure> {
    let Some((sink, arbiter)) = arbiter(sinks) else { return Ok(None) };
    let stored = arbiter.stored(transaction.inner(), &newest(writes, faults)).await;
    stored.map(Some).map_err(|e| Failure::Store(Store::Sink(sink.name()), e))
}

/// The writes that reach the sinks: one for each key. `stored`: what the sink that decides versions has.
fn select<'a>(stored: Option<&BTreeMap<String, Stored>>, writes: &'a mut [Write], faults: &Faults) -> Arbitrated<'a> {
    match stored {
        Some(stored) => arbitrate(writes, faults, stored),
        None => Arbitrated {
            winners: newest(writes, faults),
            is_unordered: false,
        },
    }
}

/// The results in the order of the sinks; none where there is nothing to write. Concurrently, except that a sink that decides
/// versions comes first, and otherwise one that locks what others need comes last.
async fn write_to_sinks(
    sinks: &[ActiveSink],
    transaction: &BatchTransaction<'_>,
    writes: &[&Write],
    metrics: &Metrics,
) -> Result<Vec<SinkResult>, Failure> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let write = async |sink: &ActiveSink| {
        let started = Instant::now();
        let outcome = sink.writer.write(transaction.inner(), writes).await;
        let outcome = outcome.map_err(|e| Failure::Store(Store::Sink(sink.name()), e))?;
        if outcome != WriteOutcome::Refused {
            metrics.sink_took(sink.name(), started.elapsed());
        }
        let stored_at = matches!(outcome, WriteOutcome::Stored { .. }).then(Timestamp::now);
        Ok(SinkResult { outcome, stored_at })
    };
    let Some((first, _)) = arbiter(sinks) else {
        return last_after_others(sinks, write).await;
    };
    let mut decided = Some(write(first).await?);
    let is_refused = decided.as_ref().is_some_and(|result| result.outcome == WriteOutcome::Refused);
    let all = sinks.iter().map(|sink| {
        let own = if sink.name() == first.name() { decided.take() } else { None };
        async {
            match own {
                Some(result) => Ok(result),
                // The batch is repeated without what was refused.
                None if is_refused => Ok(SinkResult::nothing()),
                None => write(sink).await,
            }
        }
    });
    try_join_all(all).await
}

async fn last_after_others(
    sinks: &[ActiveSink],
    write: impl AsyncFn(&ActiveSink) -> Result<SinkResult, Failure>,
) -> Result<Vec<SinkResult>, Failure> {
    let mut results: Vec<(usize, SinkResult)> = Vec::with_capacity(sinks.len());
    for is_last in [false, true] {
        let turn = sinks.iter().enumerate().filter(|(_, sink)| sink.is_last == is_last);
        let writing = turn.map(async |(position, sink)| Ok((position, write(sink).await?)));
        results.extend(try_join_all(writing).await?);
    }
    results.sort_by_key(|(position, _)| *position);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Sends dead letters: the origins of those that arrived, and an error where some did not.
async fn send(letters: &DeadLetters, unsent: &[(&Message, &RecordFault)]) -> (Vec<(i32, i64)>, Option<StoreError>) {
    let (mut arrived, mut failed) = (Vec::new(), None);
    for ((message, _), delivered) in unsent.iter().zip(letters.send(unsent).await) {
        match delivered {
            Ok(()) => arrived.push(message.origin()),
            Err(e) => failed = Some(e),
        }
    }
    (arrived, failed)
}

/// The sinks that refuse some of the records, and do not know which.
fn searches<'a>(sinks: &'a [ActiveSink], results: &'a [SinkResult]) -> impl Iterator<Item = &'a ActiveSink> {
    sinks
        .iter()
        .zip(results)
        .filter(|(_, result)| result.outcome == WriteOutcome::Refused)
        .map(|(sink, _)| sink)
}

fn refused_by_sinks(sinks: &[ActiveSink], results: &[SinkResult], writes: &[&Write]) -> Faults {
    let mut faults = Faults::new();
    for (sink, result) in sinks.iter().zip(results) {
        if let WriteOutcome::Stored { refused } = &result.outcome {
            faults.extend(refused.iter().cloned().map(fault(sink.writer.refusal_class(), writes)));
        }
    }
    faults
}

fn fault(class: &'static str, writes: &[&Write]) -> impl Fn((usize, String)) -> ((i32, i64), RecordFault) {
    move |(i, why)| (writes[i].origin, RecordFault::quoting(class, why).of(writes[i]))
}
