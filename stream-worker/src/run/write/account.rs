//! The figures of a batch, and a log line where it has dead letters.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use userpipeline_record::trace::{HEADER, Trace};
use userpipeline_stores::{StoreError, error::TOO_MANY_DEAD_LETTERS};

use super::{work::Work, writer::Writer};
use crate::{model::Faults, progress::Advance};

/// The sinks that acknowledged a batch, and when: each the same records.
pub(super) struct Acknowledged {
    pub sinks: Vec<(&'static str, Timestamp)>,
    pub records: usize,
    pub bytes: usize,
}

impl Writer {
    pub(super) fn account(&self, work: &Work, advances: &BTreeMap<i32, Advance>, acknowledged: &Acknowledged) {
        let metrics = &self.context.metrics;
        for (sink, at) in &acknowledged.sinks {
            metrics.sink_has(sink, acknowledged.records, acknowledged.bytes);
            for message in work.batch.messages.iter().filter(|m| !work.unwritten.contains(m.origin())) {
                if let Some(fetched) = message.fetched() {
                    metrics.latency(sink, at.as_millisecond() - fetched);
                }
            }
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            trace(work);
        }
        let stored: i64 = advances.values().map(|a| a.stored).sum();
        metrics.stored.inc_by(u64::try_from(stored).unwrap_or(0));
        let filtered: i64 = advances.values().map(|a| a.filtered).sum();
        metrics.filtered.inc_by(u64::try_from(filtered).unwrap_or(0));
        metrics.batches.inc();
        #[allow(clippy::cast_precision_loss)] // A batch has at most some thousands.
        metrics.batch_records.observe(work.batch.messages.len() as f64);
        self.account_dead_letters(&work.unwritten.faults);
        self.context.status.count(stored, Instant::now());
    }

    fn account_dead_letters(&self, faults: &Faults) {
        let metrics = &self.context.metrics;
        // A line per class and not per message: a topic full of garbage must not fill the log as well.
        let mut classes: BTreeMap<&str, (i64, (i32, i64))> = BTreeMap::new();
        for (origin, fault) in faults {
            metrics.dead_letter(fault.class);
            classes.entry(fault.class).or_insert((0, *origin)).0 += 1;
            tracing::debug!(
                partition = origin.0,
                offset = origin.1,
                class = fault.class,
                fault = fault.message,
                "dead letter"
            );
        }
        for (class, (count, (partition, offset))) in classes {
            tracing::warn!(
                class,
                count,
                partition,
                offset,
                "dead letters; partition and offset are those of the first"
            );
        }
    }

    /// Why the worker waits rather than write so many dead letters.
    pub(super) fn too_many_dead_letters(&self, faults: &Faults, bad: usize, read: usize) -> StoreError {
        let pipeline = &self.context.pipeline;
        let first = faults.iter().next().map_or_else(String::new, |((partition, offset), fault)| {
            format!(
                "; the first of them, at partition {partition}, offset {offset}, is {}",
                fault.redacted()
            )
        });
        let message = format!(
            "of the last {read} messages of topic `{}`, {bad} would be dead letters, a greater share than spec.deadLetter.maxRatio ({}) allows{first}. Nothing is \
             lost: fix the producer, or what the pipeline declares, or raise the ratio to let them pass",
            pipeline.topic, pipeline.max_dead_letter_ratio
        );
        StoreError::configuration(TOO_MANY_DEAD_LETTERS, message)
    }
}

/// Logs each stored message with its trace.
fn trace(work: &Work) {
    for message in work.batch.messages.iter().filter(|m| !work.unwritten.contains(m.origin())) {
        let trace = message.header(HEADER).and_then(Trace::read);
        tracing::debug!(
            partition = message.partition,
            offset = message.offset,
            run = message.header("run").map(String::from_utf8_lossy).as_deref(),
            trace_id = trace.as_ref().map(|trace| trace.id.as_str()),
            "stored"
        );
    }
}
