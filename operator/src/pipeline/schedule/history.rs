//! The runs that have ended, as the status keeps them. Pure.

use jiff::Timestamp;
use userpipeline_api::{LastSuccess, Run, RunKind, UserPipelineStatus};

use crate::pipeline::runs::SeenRun;

/// So many runs are kept in the status.
const KEPT: usize = 10;
/// Reasons of runs that ended well and fetched nothing, now or before.
const WITHOUT_DATA: [&str; 2] = ["BeforeStart", "AlreadyFailed"];

/// What the status says of runs that have ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The last ones, the newest first.
    pub runs: Vec<Run>,
    /// The one that ended last.
    pub last_run: Option<Run>,
    /// The last success.
    pub last_success: Option<LastSuccess>,
    /// How many of the schedule's runs in a row have failed.
    pub consecutive_failures: i32,
    /// What they ran by.
    pub failures_of: Option<String>,
}

impl History {
    /// What the status has now, brought up to date with what is seen. `file` names what runs work by: failures of an older
    /// one do not count; without it, nothing is known of that.
    pub fn of(before: &UserPipelineStatus, seen: &[SeenRun], file: Option<&str>) -> Self {
        let schedule = before.schedule.clone().unwrap_or_default();
        let mut history = Self {
            runs: before.runs.clone(),
            last_run: before.last_run.clone(),
            last_success: before.last_success.clone(),
            consecutive_failures: schedule.consecutive_failures,
            failures_of: schedule.failures_of,
        };
        if let Some(file) = file
            && history.failures_of.as_deref() != Some(file)
        {
            history.consecutive_failures = 0;
            history.failures_of = Some(file.to_owned());
        }
        let mut ended: Vec<&Run> = seen.iter().filter_map(|run| run.ended.as_ref()).collect();
        ended.sort_by_key(|run| (finished(run), run.job.clone()));
        for run in ended {
            history.record(run);
        }
        history.last_run = history.runs.first().cloned().or(history.last_run);
        history
    }

    /// Whether it has the run, or had it before others took its place.
    pub fn has(&self, run: &Run) -> bool {
        self.runs.iter().any(|known| is_same(known, run)) || self.is_too_old(run)
    }

    /// Ended runs beyond the number of successful and of failed ones that are kept, by when they ended.
    pub fn beyond<'a>(seen: impl Iterator<Item = &'a SeenRun>, (successful, failed): (i32, i32)) -> Vec<&'a SeenRun> {
        let mut ended: Vec<(&SeenRun, &Run)> = seen.filter_map(|run| Some((run, run.ended.as_ref()?))).collect();
        ended.sort_by_key(|(_, run)| std::cmp::Reverse(finished(run)));
        let mut beyond = Vec::new();
        for (outcome, kept) in [("Succeeded", successful), ("Failed", failed)] {
            let ended = ended.iter().filter(|(_, run)| run.outcome == outcome);
            beyond.extend(ended.skip(usize::try_from(kept).unwrap_or(1)).map(|(seen, _)| *seen));
        }
        beyond
    }

    fn is_too_old(&self, run: &Run) -> bool {
        self.runs.len() >= KEPT && self.runs.last().is_some_and(|oldest| finished(run) < finished(oldest))
    }

    fn record(&mut self, run: &Run) {
        if let Some(known) = self.runs.iter_mut().find(|known| is_same(known, run)) {
            // The pod may tell later than the Job, and is forgotten earlier.
            if known.run_id.is_none() && run.run_id.is_some() {
                *known = run.clone();
                self.succeed(run);
            }
            return;
        }
        if self.is_too_old(run) {
            return;
        }
        let at = self.runs.iter().position(|known| finished(known) < finished(run));
        self.runs.insert(at.unwrap_or(self.runs.len()), run.clone());
        self.runs.truncate(KEPT);
        if run.outcome == "Succeeded" {
            self.consecutive_failures = 0;
            self.succeed(run);
        } else if matches!(run.kind, RunKind::Scheduled | RunKind::CatchUp) {
            self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        }
    }

    fn succeed(&mut self, run: &Run) {
        if run.outcome != "Succeeded" || WITHOUT_DATA.contains(&run.reason.as_str()) {
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

/// A Job of the same name that was made anew ends at another time.
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

    fn run(job: &str, second: i64, succeeded: bool) -> SeenRun {
        let ended = Run {
            job: job.into(),
            run_id: Some(job.into()),
            finished_at: Some(at(second)),
            interval: Some(Interval {
                start: at(second - 100),
                end: at(second - 40),
            }),
            outcome: if succeeded { "Succeeded" } else { "Failed" }.into(),
            ..Run::default()
        };
        SeenRun {
            job: Arc::default(),
            kind: RunKind::Scheduled,
            due: None,
            interval: None,
            nonce: None,
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
    fn runs_are_kept_the_newest_first_and_each_once() {
        let mut history = History::default();
        for second in 1..=15 {
            history = History::of(&status(&history), &[run(&format!("r{second}"), second * 100, true)], None);
        }
        let jobs: Vec<&str> = history.runs.iter().map(|run| run.job.as_str()).collect();
        assert_eq!(jobs, ["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "r7", "r6"]);
        let again = History::of(&status(&history), &[run("r3", 300, true), run("r15", 1500, true)], None);
        assert_eq!(again, history, "what is known, and what has been forgotten, changes nothing");
        assert!(history.has(run("r3", 300, true).ended.as_ref().unwrap()));
        assert!(!history.has(run("r16", 1600, true).ended.as_ref().unwrap()));
    }

    #[test]
    fn failures_in_a_row_are_counted_once_each_until_a_success_or_another_file() {
        let mut seen = vec![run("a", 100, false), run("b", 200, false)];
        let history = History::of(&UserPipelineStatus::default(), &seen, Some("f1"));
        assert_eq!(history.consecutive_failures, 2);
        let again = History::of(&status(&history), &seen, Some("f1"));
        assert_eq!(again, history);
        let manual = SeenRun {
            kind: RunKind::Manual,
            ..run("m", 250, false)
        };
        let mut manual = manual;
        manual.ended.as_mut().unwrap().kind = RunKind::Manual;
        assert_eq!(
            History::of(&status(&history), &[manual], Some("f1")).consecutive_failures,
            2,
            "one that was asked for does not count"
        );
        assert_eq!(History::of(&status(&history), &seen, Some("f2")).consecutive_failures, 0);
        seen.push(run("c", 300, true));
        assert_eq!(History::of(&status(&history), &seen, Some("f1")).consecutive_failures, 0);
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
    fn what_a_pod_tells_after_its_job_has_ended_is_taken_up() {
        let mut silent = run("a", 100, true);
        silent.ended.as_mut().unwrap().run_id = None;
        let history = History::of(&UserPipelineStatus::default(), &[silent], None);
        let told = History::of(&status(&history), &[run("a", 100, true)], None);
        assert_eq!((told.runs.len(), told.runs[0].run_id.as_deref()), (1, Some("a")));
    }
}
