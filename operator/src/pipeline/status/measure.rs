//! Totals and lag as pods report them. Totals never decrease, and both change at most every ten seconds.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use userpipeline_api::{Totals, UserPipelineStatus, report::WorkerReport};

use crate::pipeline::{
    model::{elapsed, whole_seconds},
    observe::{Observed, run_report},
};

/// The least time between two measurements.
pub const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// Whether it is too early to measure again.
pub fn is_early(status: Option<&UserPipelineStatus>, now: Timestamp) -> bool {
    let measured = status.and_then(|status| status.measured_at.as_ref());
    measured.is_some_and(|at| elapsed(at.0, now) < MEASURE_EVERY)
}

/// Updates totals and lag, if it is time.
pub fn measure(status: &mut UserPipelineStatus, observed: &Observed, now: Timestamp) {
    if is_early(Some(status), now) {
        return;
    }
    let totals = totals(status.totals.as_ref(), observed);
    let lag = lag(observed.reports.values());
    if (totals.as_ref(), lag) != (status.totals.as_ref(), status.lag) {
        status.totals = totals;
        status.lag = lag;
        status.measured_at = Some(whole_seconds(now));
    }
}

fn totals(before: Option<&Totals>, observed: &Observed) -> Option<Totals> {
    let fetched: Vec<i64> = {
        let deleted = observed.deleted_runs().map(|(_, job)| job);
        let runs = observed.runs().chain(deleted);
        runs.filter_map(|job| run_report(observed, job)?.total_fetched).collect()
    };
    let stored: Vec<_> = observed.reports.values().filter_map(|report| report.totals.as_ref()).collect();
    if before.is_none() && fetched.is_empty() && stored.is_empty() {
        return None;
    }
    let mut totals = before.cloned().unwrap_or_default();
    for n in fetched {
        totals.fetched = totals.fetched.max(n);
    }
    for report in stored {
        totals.stored = totals.stored.max(report.stored);
        totals.dead_lettered = totals.dead_lettered.max(report.dead_lettered);
        totals.late = totals.late.max(report.late);
        totals.filtered = totals.filtered.max(report.filtered);
    }
    Some(totals)
}

/// The lag is known only while every partition has exactly one ready worker that knows the partition's end.
pub fn lag<'a>(reports: impl Iterator<Item = &'a WorkerReport>) -> Option<i64> {
    let mut partitions = 0;
    let mut distances = BTreeMap::new();
    for report in reports.filter(|report| report.ready) {
        partitions = partitions.max(report.topic_partitions);
        for owned in &report.partitions {
            let distance = owned.end_offset?.saturating_sub(owned.next_offset).max(0);
            if distances.insert(owned.partition, owned.lag.unwrap_or(distance).max(0)).is_some() {
                return None;
            }
        }
    }
    let complete = partitions > 0 && (0..partitions).all(|partition| distances.contains_key(&partition));
    complete.then(|| distances.values().sum())
}

#[cfg(test)]
mod tests {
    use userpipeline_api::report::{PartitionReport, StoredTotals};

    use super::*;

    fn worker(owned: &[(i32, i64, Option<i64>)]) -> WorkerReport {
        let partitions = owned.iter().map(|&(partition, next_offset, end_offset)| PartitionReport {
            partition,
            next_offset,
            end_offset,
            ..PartitionReport::default()
        });
        WorkerReport {
            ready: true,
            topic_partitions: 2,
            partitions: partitions.collect(),
            ..WorkerReport::default()
        }
    }

    #[test]
    fn lag_is_known_only_when_every_partition_is_owned_once_and_its_end_known() {
        let table = [
            (vec![worker(&[(0, 5, Some(7)), (1, 1, Some(4))])], Some(5)),
            (vec![worker(&[(0, 5, Some(7))]), worker(&[(1, 4, Some(4))])], Some(2)),
            (vec![worker(&[(0, 5, Some(7)), (1, 4, Some(4))]), worker(&[])], Some(2)),
            (vec![worker(&[(0, 5, Some(7))])], None),
            (vec![worker(&[(0, 5, Some(7)), (1, 1, None)])], None),
            (vec![worker(&[(0, 5, Some(7)), (1, 4, Some(4))]), worker(&[(1, 4, Some(4))])], None),
            (
                vec![
                    worker(&[(0, 5, Some(7))]),
                    WorkerReport {
                        ready: false,
                        ..worker(&[(1, 4, Some(4))])
                    },
                ],
                None,
            ),
            (
                vec![WorkerReport {
                    ready: true,
                    ..WorkerReport::default()
                }],
                None,
            ),
            (vec![], None),
        ];
        for (reports, expected) in table {
            assert_eq!(lag(reports.iter()), expected, "{reports:?}");
        }
    }

    fn observed(stored: i64) -> Observed {
        let report = WorkerReport {
            totals: Some(StoredTotals {
                stored,
                dead_lettered: 1,
                ..StoredTotals::default()
            }),
            ..worker(&[(0, 5, Some(7)), (1, 4, Some(4))])
        };
        Observed {
            reports: [("w".to_owned(), report)].into(),
            ..Observed::default()
        }
    }

    #[test]
    fn measurements_change_at_most_every_ten_seconds_and_totals_never_decrease() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let mut status = UserPipelineStatus::default();
        measure(&mut status, &observed(10), at(0));
        let first = status.clone();
        assert_eq!((first.totals.as_ref().unwrap().stored, first.lag), (10, Some(2)));
        measure(&mut status, &observed(20), at(5));
        assert_eq!(status, first, "too soon");
        measure(&mut status, &observed(10), at(60));
        assert_eq!(status, first, "nothing has moved");
        measure(&mut status, &observed(20), at(61));
        assert_eq!(status.totals.as_ref().unwrap().stored, 20);
        measure(&mut status, &Observed::default(), at(80));
        assert_eq!(
            (status.totals.as_ref().unwrap().stored, status.lag),
            (20, None),
            "no worker: the lag is unknown"
        );
        measure(&mut status, &observed(3), at(100));
        assert_eq!(status.totals.unwrap().stored, 20);
    }
}
