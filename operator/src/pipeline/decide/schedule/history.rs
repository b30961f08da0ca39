//! The ended runs that the status lists. Pure.

use jiff::Timestamp;
use userpipeline_api::{LastSuccess, Run, RunKind, RunOutcome, UserPipelineStatus};

use crate::pipeline::observe::RunJob;

/// Runs that the status lists.
const LISTED: usize = 10;
/// Reasons of runs that succeeded but have no data of their interval.
const WITHOUT_DATA: [&str; 2] = ["BeforeStart", "AlreadyFailed"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The newest first.
    pub runs: Vec<Run>,
    /// The run that ended last.
    pub last_run: Option<Run>,
    pub last_success: Option<LastSuccess>,
    /// Scheduled runs that failed in a row.
    pub consecutive_failures: i32,
    /// The ConfigMap that those runs used.
    pub failures_of: Option<String>,
}

impl History {
    /// The history in the status, updated with the observed runs. Failures with another ConfigMap than `config_map` do not count;
    /// without it, the ConfigMap is taken as unchanged.
    pub fn of(before: &UserPipelineStatus, runs: &[RunJob], config_map: Option<&str>) -> Self {
        let schedule = before.schedule.clone().unwrap_or_default();
        let mut history = Self {
            runs: before.runs.clone(),
            last_run: before.last_run.clone(),
            last_success: before.last_success.clone(),
            consecutive_failures: schedule.consecutive_failures,
            failures_of: schedule.failures_of,
        };
        if let Some(config_map) = config_map
            && history.failures_of.as_deref() != Some(config_map)
        {
            history.consecutive_failures = 0;
            history.failures_of = Some(config_map.to_owned());
        }
        let mut ended: Vec<&Run> = runs.iter().filter_map(|run| run.ended.as_ref()).collect();
        ended.sort_by_key(|run| (finished(run), run.job.clone()));
        for run in ended {
            history.record(run);
        }
        history.last_run = history.runs.first().cloned().or(history.last_run);
        history
    }

    /// Whether it lists the run, or listed it before newer ones replaced it.
    pub fn has(&self, run: &Run) -> bool {
        self.runs.iter().any(|known| is_same(known, run)) || self.is_too_old(run)
    }

    /// The ended runs beyond the limits of successful and failed ones; the newest are within the limits.
    pub fn beyond<'a>(runs: impl Iterator<Item = &'a RunJob>, (successful, failed): (i32, i32)) -> Vec<&'a RunJob> {
        let mut ended: Vec<(&RunJob, &Run)> = runs.filter_map(|run| Some((run, run.ended.as_ref()?))).collect();
        ended.sort_by_key(|(_, run)| std::cmp::Reverse(finished(run)));
        let mut beyond = Vec::new();
        for (outcome, limit) in [(RunOutcome::Succeeded, successful), (RunOutcome::Failed, failed)] {
            let ended = ended.iter().filter(|(_, run)| run.outcome == outcome);
            beyond.extend(ended.skip(usize::try_from(limit).unwrap_or(1)).map(|(run, _)| *run));
        }
        beyond
    }

    fn is_too_old(&self, run: &Run) -> bool {
        self.runs.len() >= LISTED && self.runs.last().is_some_and(|oldest| finished(run) <= finished(oldest))
    }

    fn record(&mut self, run: &Run) {
        if let Some(known) = self.runs.iter_mut().find(|known| is_same(known, run)) {
            // The pod's report may arrive after the Job's end, and is gone before the Job is.
            if known.run_id.is_none() && run.run_id.is_some() {
                *known = run.clone();
                if run.outcome == RunOutcome::Succeeded {
                    self.consecutive_failures = 0;
                }
                self.succeed(run);
            }
            return;
        }
        if self.is_too_old(run) {
            // Several runs may end in the second of the oldest one.
            self.succeed(run);
            return;
        }
        let at = self.runs.iter().position(|known| finished(known) < finished(run));
        self.runs.insert(at.unwrap_or(self.runs.len()), run.clone());
        self.runs.truncate(LISTED);
        if run.outcome == RunOutcome::Succeeded {
            self.consecutive_failures = 0;
            self.succeed(run);
        } else if matches!(run.kind, RunKind::Scheduled | RunKind::CatchUp) {
            self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        }
    }

    fn succeed(&mut self, run: &Run) {
        if run.outcome != RunOutcome::Succeeded || WITHOUT_DATA.contains(&run.reason.as_str()) {
            return;
        }
        let success = self.last_success.get_or_insert_default();
        if success.finished_at.as_ref().is_none_or(|at| at.0 < finished(run)) {
            success.finished_at.clone_from(&run.finished_at);
        }
        let end = run.interval.as_ref().map(|interval| &interval.end).or(run.scheduled_at.as_ref());
        if let Some(end) = end
            && success.interval_end.as_ref().is_none_or(|known| known.0 < end.0)
        {
            success.interval_end = Some(end.clone());
        }
    }
}

/// A re-created Job of the same name ends at another time.
fn is_same(known: &Run, run: &Run) -> bool {
    known.job == run.job && known.finished_at == run.finished_at
}

fn finished(run: &Run) -> Timestamp {
    run.finished_at.as_ref().map_or(Timestamp::MIN, |at| at.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use userpipeline_api::{Interval, ScheduleStatus};

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn run(job: &str, second: i64, succeeded: bool) -> RunJob {
        let ended = Run {
            job: job.into(),
            run_id: Some(job.into()),
            finished_at: Some(at(second)),
            interval: Some(Interval {
                start: at(second - 100),
                end: at(second - 40),
            }),
            outcome: if succeeded { RunOutcome::Succeeded } else { RunOutcome::Failed },
            ..Run::default()
        };
        RunJob {
            job: Arc::default(),
            kind: RunKind::Scheduled,
            due: None,
            interval: None,
            nonce: None,
            gone: false,
            ended: Some(ended),
        }
    }

    fn status(history: &History) -> UserPipelineStatus {
        UserPipelineStatus {
            runs: history.runs.clone(),
            last_run: history.last_run.clone(),
            last_success: history.last_success.clone(),
            schedule: Some(ScheduleStatus {
                consecutive_failures: history.consecutive_failures,
                failures_of: history.failures_of.clone(),
                ..ScheduleStatus::default()
            }),
            ..UserPipelineStatus::default()
        }
    }

    #[test]
    fn runs_are_listed_newest_first_and_once_each() {
        let mut history = History::default();
        for second in 1..=15 {
            history = History::of(&status(&history), &[run(&format!("r{second}"), second * 100, true)], None);
        }
        let jobs: Vec<&str> = history.runs.iter().map(|run| run.job.as_str()).collect();
        assert_eq!(jobs, ["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "r7", "r6"]);
        let again = History::of(&status(&history), &[run("r3", 300, true), run("r15", 1500, true)], None);
        assert_eq!(again, history, "runs that are or were listed change nothing");
        assert!(history.has(run("r3", 300, true).ended.as_ref().unwrap()));
        assert!(!history.has(run("r16", 1600, true).ended.as_ref().unwrap()));
    }

    #[test]
    fn runs_that_end_in_the_same_second_are_counted_once() {
        let runs: Vec<RunJob> = (0..20).map(|n| run(&format!("r{n}"), 100, false)).collect();
        let history = History::of(&UserPipelineStatus::default(), &runs, Some("f"));
        assert_eq!((history.runs.len(), history.consecutive_failures), (10, 10));
        assert_eq!(History::of(&status(&history), &runs, Some("f")), history);
        assert!(runs.iter().all(|run| history.has(run.ended.as_ref().unwrap())));
    }

    #[test]
    fn failures_in_a_row_are_counted_once_each_until_a_success_or_another_config_map() {
        let mut runs = vec![run("a", 100, false), run("b", 200, false)];
        let history = History::of(&UserPipelineStatus::default(), &runs, Some("f1"));
        assert_eq!(history.consecutive_failures, 2);
        let again = History::of(&status(&history), &runs, Some("f1"));
        assert_eq!(again, history);
        let manual = RunJob {
            kind: RunKind::Manual,
            ..run("m", 250, false)
        };
        let mut manual = manual;
        manual.ended.as_mut().unwrap().kind = RunKind::Manual;
        assert_eq!(
            History::of(&status(&history), &[manual], Some("f1")).consecutive_failures,
            2,
            "a requested run does not count"
        );
        assert_eq!(History::of(&status(&history), &runs, Some("f2")).consecutive_failures, 0);
        runs.push(run("c", 300, true));
        assert_eq!(History::of(&status(&history), &runs, Some("f1")).consecutive_failures, 0);
    }

    #[test]
    fn the_last_success_is_the_latest_interval_whatever_the_order() {
        let mut early = run("early", 500, true);
        early.ended.as_mut().unwrap().interval = Some(Interval { start: at(1), end: at(2) });
        let history = History::of(
            &UserPipelineStatus::default(),
            &[run("late", 400, true), early, run("bad", 600, false)],
            None,
        );
        let success = history.last_success.unwrap();
        assert_eq!((success.finished_at, success.interval_end), (Some(at(500)), Some(at(360))));
        assert_eq!(history.last_run.unwrap().job, "bad");
    }

    #[test]
    fn a_report_that_arrives_after_the_end_of_the_job_is_recorded() {
        let mut silent = run("a", 100, true);
        silent.ended.as_mut().unwrap().run_id = None;
        let history = History::of(&UserPipelineStatus::default(), &[silent], None);
        let updated = History::of(&status(&history), &[run("a", 100, true)], None);
        assert_eq!((updated.runs.len(), updated.runs[0].run_id.as_deref()), (1, Some("a")));
    }
}
