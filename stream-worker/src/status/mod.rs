//! The state of the worker, for `/readyz` and `/status`.

mod partition;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use userpipeline_api::report::{StoredTotals, WorkerReport};
use userpipeline_stores::StoreError;

use self::partition::Partition;

/// Rates are of the last minute.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// What can be wrong, in descending severity: the most severe is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The session cannot start, or ended.
    Session,
    /// A writer, by its number, cannot write its batch.
    Write(usize),
    /// A partition's next messages were deleted.
    Partition(i32),
    /// An assigned partition cannot be taken over.
    TakeOver,
    /// The brokers do not answer.
    Kafka,
    /// The bookkeeping's database does not answer, though nothing needs writing.
    Bookkeeping,
    /// A sink does not answer, though nothing needs writing.
    Sink(&'static str),
    /// Cassandra does not have the newest totals of an aggregate.
    Mirror,
}

#[derive(Default)]
struct Inner {
    consuming: bool,
    troubles: BTreeMap<Trouble, (&'static str, String)>,
    topic_partitions: i32,
    partitions: BTreeMap<i32, Partition>,
    totals: Option<StoredTotals>,
    last_commit_at: Option<Timestamp>,
    stored: VecDeque<(Instant, i64)>,
    has_unordered_messages: bool,
}

#[derive(Default)]
pub struct Status {
    inner: Mutex<Inner>,
}

impl Status {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is a single step: a panic elsewhere leaves no partial state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn trouble(&self, trouble: Trouble, error: &StoreError) {
        let new = self
            .inner()
            .troubles
            .insert(trouble, (error.reason, error.message.clone()))
            .is_none_or(|(reason, _)| reason != error.reason);
        if new {
            tracing::warn!(reason = error.reason, message = error.message, "not ready");
        }
    }

    pub fn clear(&self, trouble: Trouble) {
        if let Some((reason, _)) = self.inner().troubles.remove(&trouble) {
            tracing::info!(reason, "recovered");
        }
    }

    /// A session starts or ends.
    pub fn consuming(&self, consuming: bool) {
        let mut inner = self.inner();
        inner.consuming = consuming;
        if !consuming {
            inner.partitions.clear();
            inner.troubles.retain(|trouble, _| *trouble == Trouble::Session);
        }
    }

    pub fn topic_partitions(&self, partitions: i32) {
        self.inner().topic_partitions = partitions;
    }

    pub fn assigned(&self, partition: i32, next_offset: i64) {
        let fresh = Partition::new(next_offset, Instant::now());
        self.inner().partitions.insert(partition, fresh);
    }

    pub fn revoked(&self, partition: i32) {
        let mut inner = self.inner();
        inner.partitions.remove(&partition);
        inner.troubles.remove(&Trouble::Partition(partition));
    }

    pub fn stored(&self, partition: i32, next_offset: i64) {
        if let Some(there) = self.inner().partitions.get_mut(&partition) {
            there.stored(next_offset, Instant::now());
        }
    }

    pub fn count(&self, records: i64, now: Instant) {
        let mut inner = self.inner();
        inner.stored.push_back((now, records));
        while inner
            .stored
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > RATE_WINDOW)
        {
            inner.stored.pop_front();
        }
    }

    /// Messages of one record with equal values of `orderBy` are on several partitions.
    pub fn unordered_messages(&self) {
        let known = std::mem::replace(&mut self.inner().has_unordered_messages, true);
        if !known {
            tracing::warn!("messages of one record with equal values of orderBy are on several partitions: none of them is later");
        }
    }

    /// The broker reported that all messages up to this offset were delivered; or that is no longer known.
    pub fn delivered(&self, partition: i32, up_to: Option<i64>) {
        if let Some(there) = self.inner().partitions.get_mut(&partition) {
            there.delivered = up_to;
        }
    }

    /// Nothing more of a partition was fetched, and this offset is the next one; or something was.
    pub fn dry(&self, partition: i32, at: Option<i64>) {
        if let Some(there) = self.inner().partitions.get_mut(&partition) {
            there.dry = at;
        }
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.inner().partitions.keys().copied().collect()
    }

    /// The end offsets that the brokers listed in response to a request at that time.
    pub fn ends(&self, ends: &BTreeMap<i32, i64>, asked_at: Timestamp, now: Instant) {
        let mut inner = self.inner();
        let something_is_wrong = !inner.troubles.is_empty();
        for (partition, end) in ends {
            if let Some(there) = inner.partitions.get_mut(partition) {
                there.ends_at(*end, asked_at, something_is_wrong, now);
            }
        }
    }

    /// A partition that has stalled: the worker must rejoin the group.
    pub fn stalled(&self, now: Instant) -> Option<i32> {
        self.inner()
            .partitions
            .iter()
            .find(|(_, p)| p.is_stalled(now))
            .map(|(partition, _)| *partition)
    }

    pub fn totals(&self, totals: StoredTotals) {
        self.inner().totals = Some(totals);
    }

    pub fn committed(&self) {
        self.inner().last_commit_at = Some(Timestamp::now());
    }

    /// Each owned partition and its lag.
    pub fn lags(&self) -> Vec<(i32, Option<i64>)> {
        self.inner().partitions.iter().map(|(partition, p)| (*partition, p.lag)).collect()
    }

    pub fn report(&self, now: Instant) -> WorkerReport {
        let inner = self.inner();
        let (reason, message) = match inner.troubles.first_key_value() {
            Some((_, (reason, message))) => ((*reason).to_owned(), message.clone()),
            None if inner.consuming => (String::new(), String::new()),
            None => ("Starting".to_owned(), "the worker has not joined its consumer group yet".to_owned()),
        };
        let recent: i64 = inner
            .stored
            .iter()
            .filter(|(at, _)| now.saturating_duration_since(*at) <= RATE_WINDOW)
            .map(|(_, n)| n)
            .sum();
        #[allow(clippy::cast_precision_loss)] // A rate of 2^52 records a second is not to be expected.
        let stored_per_second = recent as f64 / RATE_WINDOW.as_secs_f64();
        WorkerReport {
            ready: reason.is_empty(),
            reason,
            message,
            topic_partitions: inner.topic_partitions,
            partitions: inner.partitions.iter().map(|(partition, p)| p.report(*partition)).collect(),
            totals: inner.totals.clone(),
            last_commit_at: inner.last_commit_at,
            stored_per_second,
            has_unordered_messages: inner.has_unordered_messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_trouble_is_reported_and_none_is_lost() {
        let status = Status::default();
        let now = Instant::now();
        assert_eq!(status.report(now).reason, "Starting");
        status.consuming(true);
        assert!(status.report(now).ready);
        status.trouble(Trouble::Kafka, &StoreError::transient("KafkaUnreachable", "k"));
        status.trouble(Trouble::Write(0), &StoreError::transient("CassandraUnreachable", "c"));
        assert_eq!(status.report(now).reason, "CassandraUnreachable");
        status.clear(Trouble::Write(0));
        let report = status.report(now);
        assert_eq!(
            (report.ready, report.reason.as_str(), report.message.as_str()),
            (false, "KafkaUnreachable", "k")
        );
        status.clear(Trouble::Kafka);
        assert!(status.report(now).ready);
    }

    #[test]
    fn a_partition_stalls_that_has_messages_and_no_trouble_and_does_not_move() {
        let status = Status::default();
        status.consuming(true);
        status.assigned(0, 10);
        status.dry(0, Some(10));
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let list = |end, seconds| status.ends(&BTreeMap::from([(0, end)]), Timestamp::UNIX_EPOCH, later(seconds));
        list(10, 100);
        assert_eq!(status.stalled(later(150)), None);
        list(20, 150);
        assert_eq!(status.stalled(later(180)), None);
        status.trouble(Trouble::Write(0), &StoreError::transient("CassandraUnreachable", "c"));
        list(20, 300);
        assert_eq!(status.stalled(later(350)), None);
        status.clear(Trouble::Write(0));
        list(20, 350);
        assert_eq!(status.stalled(later(400)), Some(0));
    }

    #[test]
    fn a_partition_that_waits_for_its_turn_or_for_a_store_has_not_stalled() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        // What was found when it was looked at last: something, or nothing beyond this offset; the end is 20.
        for (dry, stalled) in [(None, None), (Some(20), None), (Some(19), Some(0)), (Some(10), Some(0))] {
            let status = Status::default();
            status.consuming(true);
            status.assigned(0, 10);
            status.dry(0, dry);
            for at in (0..200).step_by(3) {
                status.ends(&BTreeMap::from([(0, 20)]), Timestamp::UNIX_EPOCH, later(at));
            }
            assert_eq!(status.stalled(later(200)), stalled, "{dry:?}");
        }
    }

    #[test]
    fn the_rate_is_of_the_last_minute() {
        let status = Status::default();
        let start = Instant::now();
        status.count(600, start);
        assert!((status.report(start).stored_per_second - 10.0).abs() < 1e-9);
        assert!(status.report(start + RATE_WINDOW * 2).stored_per_second.abs() < 1e-9);
    }
}
