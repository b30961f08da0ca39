//! `DataFresh`: whether the data is as recent as the schedule promises, and stored in every sink. Pure.

use std::time::Duration;

use jiff::Timestamp;
use userpipeline_api::{RunOutcome, Schedule, Ticks, UserPipeline, UserPipelineStatus, condition, first_after_start};

use super::verdict::Verdict;
use crate::pipeline::{model::elapsed, observe::Observed};

/// Workers have this long to store what a run published, and to report their progress again after a rollout, a scaling or a
/// restart.
const STORE_WITHIN: Duration = Duration::from_secs(60);

/// `before` is the previous status, `status` the new one. Messages name times instead of ages: an age would change the message at every reconcile.
pub fn fresh(
    pipeline: &UserPipeline,
    observed: &Observed,
    before: &UserPipelineStatus,
    status: &UserPipelineStatus,
    now: Timestamp,
) -> Verdict {
    if pipeline.spec.suspend {
        return Verdict::unknown("Suspended", "not evaluated while the pipeline is suspended");
    }
    let Some(schedule) = &pipeline.spec.schedule else {
        return external_data(observed, now);
    };
    let Ok(ticks) = Ticks::read(&schedule.cron, &schedule.time_zone) else {
        return Verdict::unknown("InvalidSpec", "spec.schedule cannot be read");
    };
    let created = pipeline.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
    if let Some(late) = late(schedule, &ticks, created, status, now) {
        return late;
    }
    let success = status.last_success.as_ref().and_then(|success| success.finished_at.as_ref());
    if success.is_none() {
        return match first(schedule, &ticks, created) {
            Some(first) => Verdict::unknown("NotDueYet", &format!("the first run is due at {first}")),
            None => Verdict::unknown("NotDueYet", "spec.schedule.cron never matches a time"),
        };
    }
    stored(observed, before, status, now)
}

/// While a partition has no worker that reports its progress. Partitions change hands whenever a worker starts or stops, so for a
/// while nothing is concluded from silence.
fn sinks_unknown(observed: &Observed, before: &UserPipelineStatus, now: Timestamp, message: &str) -> Verdict {
    let is_brief = observed
        .progress_unknown_since
        .is_some_and(|since| elapsed(since, now) < STORE_WITHIN);
    let before = before
        .conditions
        .iter()
        .find(|c| c.type_ == condition::DATA_FRESH && c.status != "False");
    match before.filter(|_| is_brief) {
        Some(before) => Verdict::from(before),
        None => Verdict::no("SinksUnknown", message),
    }
}

/// With external producers: whether what they wrote is stored.
fn external_data(observed: &Observed, now: Timestamp) -> Verdict {
    let Some(through) = observed.stored_through() else {
        return Verdict::unknown(
            "SinksUnknown",
            "unknown: not every partition has a worker that reports its progress",
        );
    };
    if elapsed(through, now) < STORE_WITHIN {
        Verdict::yes("Fresh", "records are stored in every sink within a minute")
    } else {
        Verdict::no(
            "SinksBehind",
            "records that were written to the topic more than a minute ago are not stored in every sink yet; see status.lag and WorkersReady",
        )
    }
}

/// The first tick of the pipeline.
fn first(schedule: &Schedule, ticks: &Ticks, created: Timestamp) -> Option<Timestamp> {
    match &schedule.start_at {
        Some(start) => first_after_start(start.0, ticks).map(|first| if first > created { Some(first) } else { ticks.after(created) })?,
        None => ticks.after(created),
    }
}

/// Whether a run is overdue, or the last one failed.
fn late(schedule: &Schedule, ticks: &Ticks, created: Timestamp, status: &UserPipelineStatus, now: Timestamp) -> Option<Verdict> {
    let reached = status
        .last_success
        .as_ref()
        .and_then(|success| success.interval_end.as_ref())
        .map(|at| at.0);
    let since = || {
        reached.map_or_else(
            || "no interval has been fetched yet".to_owned(),
            |at| format!("the data ends at {at}"),
        )
    };
    let failed = status.runs.iter().find(|run| {
        let end = run.interval.as_ref().map(|interval| interval.end.0);
        run.outcome == RunOutcome::Failed && run.scheduled_at.is_some() && end > reached
    });
    if let Some(run) = failed {
        return Some(Verdict::no(
            "RunFailed",
            &format!("{}: run {} failed: {}", since(), run.job, run.message),
        ));
    }
    let allowed = schedule.starting_deadline_seconds + schedule.active_deadline_seconds;
    let promised = now.checked_sub(jiff::SignedDuration::from_secs(allowed)).ok()?;
    let due = ticks.before(promised)?;
    if due < first(schedule, ticks, created)? || reached >= Some(due) {
        return None;
    }
    Some(Verdict::no(
        "RunOverdue",
        &format!(
            "{}; the run due at {due} did not end within {allowed} s (spec.schedule.startingDeadlineSeconds and activeDeadlineSeconds)",
            since()
        ),
    ))
}

/// Whether the records of successful runs are in every sink.
fn stored(observed: &Observed, before: &UserPipelineStatus, status: &UserPipelineStatus, now: Timestamp) -> Verdict {
    let success = status.last_success.clone().unwrap_or_default();
    let (Some(last), end) = (success.finished_at.map(|at| at.0), success.interval_end.map(|at| at.0)) else {
        return Verdict::unknown("NotDueYet", "no run has ended yet");
    };
    let fetched = end.map_or_else(String::new, |end| format!("data up to {end} is fetched"));
    let through = observed.stored_through();
    // Records of the newest run may still be on their way; then the run before it counts.
    let is_due = |at: &Timestamp| elapsed(*at, now) >= STORE_WITHIN;
    let succeeded = status.runs.iter().filter(|run| run.outcome == RunOutcome::Succeeded);
    let settled = succeeded
        .filter_map(|run| run.finished_at.as_ref())
        .map(|at| at.0)
        .chain([last])
        .filter(is_due)
        .max();
    match (through, settled) {
        (Some(through), _) if through >= last => Verdict::yes("Fresh", &format!("{fetched} and stored in every sink")),
        (Some(through), Some(settled)) if through >= settled => Verdict::yes("Fresh", &format!("{fetched} and stored in every sink")),
        (_, None) => Verdict::unknown("Storing", &format!("{fetched}; the workers are storing it")),
        (None, Some(settled)) => sinks_unknown(
            observed,
            before,
            now,
            &format!(
                "{fetched}, but it is unknown whether records published until {settled} are stored: not every partition has a worker that reports its progress"
            ),
        ),
        (Some(_), Some(settled)) => Verdict::no(
            "SinksBehind",
            &format!("{fetched}, but records published until {settled} are not stored in every sink yet; see status.lag and WorkersReady"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use serde_json::json;
    use userpipeline_api::{
        Interval, LastSuccess, Run,
        report::{PartitionReport, WorkerReport},
    };

    use super::*;
    use crate::pipeline::example;

    fn at(text: &str) -> Timestamp {
        format!("2025-01-01T{text}Z").parse().unwrap()
    }

    /// Due each hour; a run may start 200 s late and take 600 s.
    fn pipeline() -> UserPipeline {
        let mut pipeline = example::pipeline();
        pipeline.spec.schedule = serde_json::from_value(json!({"cron": "@hourly"})).unwrap();
        pipeline
    }

    fn run(tick: &str, finished: &str, outcome: RunOutcome) -> Run {
        let end = at(tick);
        Run {
            job: format!("run-{tick}"),
            interval: Some(Interval {
                start: Time(end - jiff::SignedDuration::from_hours(1)),
                end: Time(end),
            }),
            scheduled_at: Some(Time(end)),
            finished_at: Some(Time(at(finished))),
            outcome,
            ..Run::default()
        }
    }

    fn status(runs: Vec<Run>) -> UserPipelineStatus {
        let success = runs.iter().find(|run| run.outcome == RunOutcome::Succeeded).map(|run| LastSuccess {
            finished_at: run.finished_at.clone(),
            interval_end: run.interval.as_ref().map(|interval| interval.end.clone()),
        });
        UserPipelineStatus {
            runs,
            last_success: success,
            ..UserPipelineStatus::default()
        }
    }

    /// Two partitions, stored through these moments.
    fn workers(through: &[Option<&str>]) -> Observed {
        let partitions = through.iter().zip(0..).map(|(through, partition)| PartitionReport {
            partition,
            stored_through: through.map(at),
            ..PartitionReport::default()
        });
        let report = WorkerReport {
            ready: true,
            topic_partitions: 2,
            partitions: partitions.collect(),
            ..WorkerReport::default()
        };
        Observed {
            reports: [("w".to_owned(), report)].into(),
            ..Observed::default()
        }
    }

    /// The run of this hour's tick ended after a minute.
    fn good(hour: u8) -> Run {
        run(&format!("0{hour}:00:00"), &format!("0{hour}:01:00"), RunOutcome::Succeeded)
    }

    fn bad(hour: u8) -> Run {
        run(&format!("0{hour}:00:00"), &format!("0{hour}:01:00"), RunOutcome::Failed)
    }

    fn check(case: &str, runs: Vec<Run>, observed: &Observed, now: &str, (status_is, reason): (&str, &str)) {
        let verdict = fresh(&pipeline(), observed, &UserPipelineStatus::default(), &status(runs), at(now));
        let condition = verdict.condition("DataFresh", None, &[], at(now));
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            (status_is, reason),
            "{case}: {}",
            condition.message
        );
    }

    #[test]
    fn data_is_fresh_while_the_last_promised_interval_is_fetched() {
        let all = workers(&[Some("03:30:00"), Some("03:30:00")]);
        let table = [
            ("nothing is due yet", vec![], "00:59:00", ("Unknown", "NotDueYet")),
            ("the first may still run", vec![], "01:10:00", ("Unknown", "NotDueYet")),
            ("the first is missing", vec![], "01:13:21", ("False", "RunOverdue")),
            ("everything is stored", vec![good(1)], "01:30:00", ("True", "Fresh")),
            ("the next may still run", vec![good(1)], "02:10:00", ("True", "Fresh")),
            ("the next is missing", vec![good(1)], "02:13:21", ("False", "RunOverdue")),
            ("the next failed", vec![bad(2), good(1)], "02:02:00", ("False", "RunFailed")),
            ("an older one failed", vec![good(2), bad(1)], "02:02:00", ("True", "Fresh")),
            ("the first failed", vec![bad(1)], "01:02:00", ("False", "RunFailed")),
        ];
        for (case, runs, now, expected) in table {
            check(case, runs, &all, now, expected);
        }
    }

    #[test]
    fn data_is_fresh_while_the_last_fetched_interval_is_in_every_sink() {
        let behind = workers(&[Some("03:30:00"), Some("03:00:30")]);
        check(
            "a partition is behind",
            vec![good(3)],
            &behind,
            "03:05:00",
            ("False", "SinksBehind"),
        );
        check(
            "the newest run may still be stored",
            vec![good(3), good(2)],
            &behind,
            "03:01:30",
            ("True", "Fresh"),
        );
        let none = workers(&[None, None]);
        check(
            "the first run may still be stored",
            vec![good(1)],
            &none,
            "01:01:30",
            ("Unknown", "Storing"),
        );
        let unknown = [
            ("a partition reports nothing", workers(&[Some("03:30:00"), None])),
            ("a partition has no worker", workers(&[Some("03:30:00")])),
            ("there is no worker", Observed::default()),
        ];
        for (case, observed) in unknown {
            check(case, vec![good(3)], &observed, "03:05:00", ("False", "SinksUnknown"));
        }
    }

    #[test]
    fn data_stays_fresh_for_a_minute_while_partitions_change_hands() {
        let before = |status: &str| UserPipelineStatus {
            conditions: vec![Verdict::yes("Fresh", "fetched and stored").condition("DataFresh", None, &[], at("03:00:00"))]
                .into_iter()
                .map(|condition| Condition {
                    status: status.to_owned(),
                    ..condition
                })
                .collect(),
            ..UserPipelineStatus::default()
        };
        for (was, unknown_since, now, expected) in [
            ("True", Some("03:04:30"), "03:05:00", "True"),
            ("Unknown", Some("03:04:30"), "03:05:00", "Unknown"),
            ("True", Some("03:04:00"), "03:05:00", "False"),
            ("True", None, "03:05:00", "False"),
            ("False", Some("03:04:30"), "03:05:00", "False"),
        ] {
            let observed = Observed {
                progress_unknown_since: unknown_since.map(at),
                ..workers(&[Some("03:30:00")])
            };
            let verdict = fresh(&pipeline(), &observed, &before(was), &status(vec![good(3)]), at(now));
            let condition = verdict.condition("DataFresh", None, &[], at(now));
            assert_eq!(condition.status, expected, "{was}, {unknown_since:?}");
        }
    }

    #[test]
    fn freshness_is_unknown_before_the_start_and_while_suspended() {
        let mut later = pipeline();
        later.spec.schedule.as_mut().unwrap().start_at = Some(Time(at("05:00:00")));
        let mut suspended = pipeline();
        suspended.spec.suspend = true;
        for (pipeline, reason) in [(later, "NotDueYet"), (suspended, "Suspended")] {
            let verdict = fresh(
                &pipeline,
                &Observed::default(),
                &UserPipelineStatus::default(),
                &UserPipelineStatus::default(),
                at("05:30:00"),
            );
            assert_eq!(
                (verdict.is_true(), verdict.is_false(), verdict.reason.as_str()),
                (false, false, reason)
            );
        }
    }
}
