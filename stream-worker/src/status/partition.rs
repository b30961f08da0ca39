//! The state of an owned partition.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use userpipeline_api::report::PartitionReport;

/// A partition that has messages, and delivers none for this long though nothing is wrong, has stalled.
const STALLED: Duration = Duration::from_secs(90);
/// A listed end is kept if it is later than the last one by this fraction of the time that the list covers.
const FRACTION: i64 = 64;

#[derive(Clone, Debug)]
pub(super) struct Partition {
    next_offset: i64,
    /// When it last advanced, or had nothing to deliver.
    moved_at: Instant,
    end_offset: Option<i64>,
    pub lag: Option<i64>,
    /// Everything on the topic was delivered, and this is the next offset; unknown again with the next message.
    pub delivered: Option<i64>,
    /// The queue was empty at the last poll, and this is the next offset; none while it has messages, which may wait for their turn
    /// or for a store.
    pub dry: Option<i64>,
    /// When the end was listed, and where it was; those that are not reached.
    listed: VecDeque<(Timestamp, i64)>,
    stored_through: Option<Timestamp>,
}

impl Partition {
    pub fn new(next_offset: i64, now: Instant) -> Self {
        Self {
            next_offset,
            moved_at: now,
            end_offset: None,
            lag: None,
            delivered: None,
            dry: None,
            listed: VecDeque::new(),
            stored_through: None,
        }
    }

    /// Everything before the offset is stored.
    pub fn stored(&mut self, next_offset: i64, now: Instant) {
        self.next_offset = next_offset;
        self.moved_at = now;
        self.reach();
    }

    /// The end that the brokers listed when they were asked at that time; while something is wrong, no progress is expected.
    pub fn ends_at(&mut self, end: i64, asked_at: Timestamp, something_is_wrong: bool, now: Instant) {
        self.lag = Some(lag(self.next_offset, end, self.end_offset, self.delivered));
        self.end_offset = Some(end);
        self.list(asked_at, end);
        let delivers_none = self.dry.is_some_and(|at| at < end);
        if something_is_wrong || self.lag == Some(0) || !delivers_none {
            self.moved_at = now;
        }
    }

    pub fn is_stalled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.moved_at) > STALLED
    }

    pub fn report(&self, partition: i32) -> PartitionReport {
        PartitionReport {
            partition,
            next_offset: self.next_offset,
            end_offset: self.end_offset,
            lag: self.lag,
            stored_through: self.stored_through,
        }
    }

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

/// The distance to the end. Behind the last message there may be offsets that are none: marks of a transaction, or what
/// compaction removed. So it is zero where the broker reported that all was delivered, all of that is stored, and the end
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
    fn what_was_written_before_a_listing_is_stored_when_its_end_is_reached() {
        let now = Instant::now();
        let mut partition = Partition::new(10, now);
        let at = |second| Timestamp::from_second(second).unwrap();
        let list = |partition: &mut Partition, second, end| partition.ends_at(end, at(second), false, now);
        list(&mut partition, 1, 20);
        assert_eq!(partition.stored_through, None, "nothing is stored yet");
        list(&mut partition, 2, 30);
        partition.stored(25, now);
        assert_eq!(partition.stored_through, Some(at(1)));
        partition.stored(31, now);
        assert_eq!(partition.stored_through, Some(at(2)));
        list(&mut partition, 3, 31);
        assert_eq!(partition.stored_through, Some(at(3)), "the end is reached");
        for second in 4..1000 {
            list(&mut partition, second, 31 + second);
        }
        assert!(partition.listed.len() < 400, "so few are kept");
        partition.stored(31 + 500, now);
        let through = partition.stored_through.unwrap();
        assert!(through > at(480) && through <= at(500), "it is still known about when: {through}");
    }
}
