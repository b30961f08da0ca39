//! What is known of the worker at this moment, for `/readyz` and `/status`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use userpipeline_api::report::{PartitionReport, StoredTotals, WorkerReport};
use userpipeline_stores::StoreError;

/// A partition that has messages, and delivers none for so long though nothing is wrong, has stalled.
const STALLED: Duration = Duration::from_secs(90);
/// A listing of a partition's end is remembered that is later than the last one by this fraction of the time they cover.
const FRACTION: i64 = 64;
/// Rates are of the last minute.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// What can be wrong, the gravest first: that one is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Work cannot begin, or broke off.
    Session,
    /// A batch cannot be written.
    Write,
    /// A partition's messages are gone.
    Partition(i32),
    /// An assigned partition cannot be taken over.
    Claim,
    /// The brokers do not answer.
    Kafka,
    /// PostgreSQL does not answer, though nothing needs writing.
    Postgres,
    /// Cassandra does not answer, though nothing needs writing.
    Cassandra,
}

/// An owned partition.
#[derive(Clone, Debug)]
struct Partition {
    next_offset: i64,
    /// When it came on, or had nowhere to go.
    moved_at: Instant,
    end_offset: Option<i64>,
    lag: Option<i64>,
    /// All that the topic has was delivered, and this is the offset behind it; unknown again with the next message.
    delivered: Option<i64>,
    /// Nothing more was fetched when it was looked at last, and this offset is the next one; none while there is something, be it that
    /// it waits for its turn, or for a store.
    dry: Option<i64>,
    /// When the end was listed, and where it was, as far as that is not reached; and the last one that is.
    listed: VecDeque<(Timestamp, i64)>,
    stored_through: Option<Timestamp>,
}

impl Partition {
    /// The end was there at that time: all that was written before is stored when that is reached.
    fn list(&mut self, at: Timestamp, end: i64) {
        // The longer it has taken, the less it matters when exactly: so few are kept, however long it takes.
        let seconds = |from: Option<&(Timestamp, i64)>| from.map_or(i64::MAX, |(from, _)| at.as_second() - from.as_second());
        if seconds(self.listed.back()) >= seconds(self.listed.front()) / FRACTION {
            self.listed.push_back((at, end));
        }
        if self.lag == Some(0) {
            self.listed.clear();
            self.stored_through = Some(at);
        }
        self.reach();
    }

    fn reach(&mut self) {
        while let Some(&(at, end)) = self.listed.front()
            && end <= self.next_offset
        {
            self.listed.pop_front();
            self.stored_through = Some(at);
        }
    }
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
}

/// What is known of the worker at this moment.
#[derive(Default)]
pub struct Status {
    inner: Mutex<Inner>,
}

impl Status {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is a single step, so a panic elsewhere leaves nothing half-done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is wrong.
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

    /// It is right again.
    pub fn clear(&self, trouble: Trouble) {
        if let Some((reason, _)) = self.inner().troubles.remove(&trouble) {
            tracing::info!(reason, "mended");
        }
    }

    /// The worker has stores and group, or has let go of them.
    pub fn consuming(&self, consuming: bool) {
        let mut inner = self.inner();
        inner.consuming = consuming;
        if !consuming {
            inner.partitions.clear();
            inner.troubles.retain(|trouble, _| *trouble == Trouble::Session);
        }
    }

    /// How many partitions the topic has.
    pub fn topic_partitions(&self, partitions: i32) {
        self.inner().topic_partitions = partitions;
    }

    /// A partition was taken over.
    pub fn assigned(&self, partition: i32, next_offset: i64) {
        let fresh = Partition {
            next_offset,
            moved_at: Instant::now(),
            end_offset: None,
            lag: None,
            delivered: None,
            dry: None,
            listed: VecDeque::new(),
            stored_through: None,
        };
        self.inner().partitions.insert(partition, fresh);
    }

    /// A partition was given away.
    pub fn revoked(&self, partition: i32) {
        let mut inner = self.inner();
        inner.partitions.remove(&partition);
        inner.troubles.remove(&Trouble::Partition(partition));
    }

    /// Offsets of a partition were stored.
    pub fn stored(&self, partition: i32, next_offset: i64) {
        if let Some(there) = self.inner().partitions.get_mut(&partition) {
            there.next_offset = next_offset;
            there.moved_at = Instant::now();
            there.reach();
        }
    }

    /// So many records were stored.
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

    /// All messages of a partition were delivered, as the broker said, up to this offset; or that is no longer known.
    pub fn delivered(&self, partition: i32, up_to: Option<i64>) {
        if let Some(there) = self.inner().partitions.get_mut(&partition) {
            there.delivered = up_to;
        }
    }

    /// Of a partition nothing more was fetched, and this offset is the next one; or something was.
    pub fn dry(&self, partition: i32, at: Option<i64>) {
        if let Some(there) = self.inner().partitions.get_mut(&partition) {
            there.dry = at;
        }
    }

    /// The owned partitions.
    pub fn partitions(&self) -> Vec<i32> {
        self.inner().partitions.keys().copied().collect()
    }

    /// The ends that the brokers listed when they were asked at that time.
    pub fn ends(&self, ends: &BTreeMap<i32, i64>, asked_at: Timestamp, now: Instant) {
        let mut inner = self.inner();
        // While something is wrong nobody expects progress.
        let waiting = !inner.troubles.is_empty();
        for (partition, end) in ends {
            if let Some(there) = inner.partitions.get_mut(partition) {
                there.lag = Some(lag(there.next_offset, *end, there.end_offset, there.delivered));
                there.end_offset = Some(*end);
                there.list(asked_at, *end);
                let delivers_none = there.dry.is_some_and(|at| at < *end);
                if waiting || there.lag == Some(0) || !delivers_none {
                    there.moved_at = now;
                }
            }
        }
    }

    /// A partition that has stalled: somebody should join the group anew.
    pub fn stalled(&self, now: Instant) -> Option<i32> {
        self.inner()
            .partitions
            .iter()
            .find(|(_, p)| now.saturating_duration_since(p.moved_at) > STALLED)
            .map(|(partition, _)| *partition)
    }

    /// The pipeline's totals.
    pub fn totals(&self, totals: StoredTotals) {
        self.inner().totals = Some(totals);
    }

    /// Offsets were committed.
    pub fn committed(&self) {
        self.inner().last_commit_at = Some(Timestamp::now());
    }

    /// Each owned partition and its lag.
    pub fn lags(&self) -> Vec<(i32, Option<i64>)> {
        self.inner().partitions.iter().map(|(partition, p)| (*partition, p.lag)).collect()
    }

    /// The report for `/status`.
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
        let partition = |(partition, p): (&i32, &Partition)| PartitionReport {
            partition: *partition,
            next_offset: p.next_offset,
            end_offset: p.end_offset,
            lag: p.lag,
            stored_through: p.stored_through,
        };
        WorkerReport {
            ready: reason.is_empty(),
            reason,
            message,
            topic_partitions: inner.topic_partitions,
            partitions: inner.partitions.iter().map(partition).collect(),
            totals: inner.totals.clone(),
            last_commit_at: inner.last_commit_at,
            stored_per_second,
        }
    }
}

/// The distance to the end. Behind the last message there may be offsets that are none: marks of a transaction, or what
/// compaction removed. So it is nothing where the broker said that all was delivered, all of that is stored, and the end
/// has not moved since.
fn lag(next: i64, end: i64, previous_end: Option<i64>, delivered: Option<i64>) -> i64 {
    let nothing_left = delivered.is_some_and(|delivered| next >= delivered) && previous_end == Some(end);
    if nothing_left { 0 } else { (end - next).max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_distance_to_the_end_unless_only_gaps_are_left() {
        for (next, end, previous, delivered, expected) in [
            (10, 15, None, None, 5),
            (15, 15, None, None, 0),
            (16, 15, None, None, 0),
            (14, 15, Some(15), Some(14), 0),
            (14, 15, Some(15), None, 1),
            // Delivered, and not stored yet.
            (10, 15, Some(15), Some(14), 5),
            (14, 20, Some(15), Some(14), 6),
            (14, 15, None, Some(14), 1),
        ] {
            assert_eq!(
                lag(next, end, previous, delivered),
                expected,
                "{next} {end} {previous:?} {delivered:?}"
            );
        }
    }

    #[test]
    fn the_gravest_trouble_is_shown_and_none_is_forgotten() {
        let status = Status::default();
        let now = Instant::now();
        assert_eq!(status.report(now).reason, "Starting");
        status.consuming(true);
        assert!(status.report(now).ready);
        status.trouble(Trouble::Kafka, &StoreError::transient("KafkaUnreachable", "k"));
        status.trouble(Trouble::Write, &StoreError::transient("CassandraUnreachable", "c"));
        assert_eq!(status.report(now).reason, "CassandraUnreachable");
        status.clear(Trouble::Write);
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
        status.trouble(Trouble::Write, &StoreError::transient("CassandraUnreachable", "c"));
        list(20, 300);
        assert_eq!(status.stalled(later(350)), None);
        status.clear(Trouble::Write);
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
    fn what_was_written_before_a_listing_is_stored_when_its_end_is_reached() {
        let status = Status::default();
        status.assigned(0, 10);
        let at = |second| Timestamp::from_second(second).unwrap();
        let list = |second, end| status.ends(&BTreeMap::from([(0, end)]), at(second), Instant::now());
        let through = || status.report(Instant::now()).partitions[0].stored_through;
        list(1, 20);
        assert_eq!(through(), None, "nothing is stored yet");
        list(2, 30);
        status.stored(0, 25);
        assert_eq!(through(), Some(at(1)));
        status.stored(0, 31);
        assert_eq!(through(), Some(at(2)));
        list(3, 31);
        assert_eq!(through(), Some(at(3)), "the end is reached");
        for second in 4..1000 {
            list(second, 31 + second);
        }
        assert!(status.inner().partitions[&0].listed.len() < 400);
        status.stored(0, 31 + 500);
        let later = through().unwrap();
        assert!(later > at(480) && later <= at(500), "it is still known about when: {later}");
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
