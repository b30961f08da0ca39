//! Is a suspended pipeline drained? Pure: what was recorded, what is left, the drain Jobs there are, and the time.
//!
//! First the runs end (or are stopped), then the workers, and then a Job looks whether the consumer group is empty and has
//! committed what is stored. As with the schema, what a Job has found is recorded before it is deleted.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{DrainStatus, report::DrainReport};

use super::schema::back_off;

/// A drain Job, as seen.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenJob {
    /// Its name.
    pub name: String,
    /// How many have failed before it.
    pub attempt: i32,
    /// The suspension that it was made for: when that began, in seconds since 1970.
    pub since: i64,
    /// How its pod was to be.
    pub task: String,
    /// It is being deleted.
    pub deleting: bool,
    /// What holds it up, if anything.
    pub stuck: Option<(String, String)>,
    /// How it has ended, if it has: when, whether well, and what it told.
    pub ended: Option<(Timestamp, bool, DrainReport)>,
}

/// What is decided about.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The pipeline is to be suspended.
    pub suspended: bool,
    /// Runs that are under way, and not stopped.
    pub runs: Vec<String>,
    /// Workers that are left; none where there never was a Deployment.
    pub workers: Option<usize>,
    /// What the status said before.
    pub recorded: Option<&'a DrainStatus>,
    /// The drain Jobs.
    pub jobs: &'a [SeenJob],
    /// How their pods are to be: what holds up one that is otherwise may have been mended since.
    pub task: &'a str,
}

/// What there is to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Finding {
    /// Nothing is to be drained.
    #[default]
    Active,
    /// There never were workers.
    NothingToDrain,
    /// Runs are under way.
    Runs(Vec<String>),
    /// Workers are finishing what they have in hand.
    Workers(usize),
    /// A Job looks whether all is in order; what holds it up, if anything.
    Verifying(Option<(String, String)>),
    /// It has found that it is not, or could not look.
    Failed {
        /// A word.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// All is in order: what the Job has told.
    Drained(String),
}

/// A drain Job that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// When the suspension began, in seconds since 1970: Jobs of an earlier one count for nothing.
    pub since: i64,
    /// How many have failed before it.
    pub attempt: i32,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What is to be recorded.
    pub status: Option<DrainStatus>,
    /// The workers are to stop.
    pub stop_workers: bool,
    /// The Job that is to be made.
    pub create: Option<NewJob>,
    /// Jobs that are to be deleted.
    pub delete: Vec<String>,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Duration>,
    /// What there is to say.
    pub finding: Finding,
}

/// Decides what is to be done so that a suspended pipeline gets drained.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    if !facts.suspended {
        // What an earlier suspension has left.
        decision.delete = facts.jobs.iter().filter(|job| !job.deleting).map(|job| job.name.clone()).collect();
        return decision;
    }
    // The apiserver keeps seconds.
    let since = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut status = facts.recorded.cloned().unwrap_or_default();
    let since = status.since.get_or_insert(Time(since)).0.as_second();
    let (fresh, outdated): (Vec<&SeenJob>, Vec<&SeenJob>) = facts.jobs.iter().partition(|job| job.since == since && job.task == facts.task);
    decision.delete = outdated.iter().filter(|job| !job.deleting).map(|job| job.name.clone()).collect();
    for job in &fresh {
        if let Some((at, succeeded, report)) = &job.ended {
            if is_recorded(job, facts.recorded) {
                decision.delete.extend((!job.deleting).then(|| job.name.clone()));
            }
            record(&mut status, job.attempt, *at, *succeeded, report);
        }
    }

    // Those that have stopped are not started again for a run that somebody makes by hand.
    decision.stop_workers = facts.runs.is_empty() || status.verified_at.is_some() || matches!(facts.workers, None | Some(0));
    decision.finding = if status.verified_at.is_some() {
        Finding::Drained(status.message.clone().unwrap_or_default())
    } else if !facts.runs.is_empty() {
        Finding::Runs(facts.runs.clone())
    } else {
        match facts.workers {
            None => Finding::NothingToDrain,
            Some(0) => verify(&status, &fresh, !outdated.is_empty(), now, &mut decision),
            Some(left) => Finding::Workers(left),
        }
    };
    decision.status = Some(status);
    decision
}

/// Nothing is left but to look.
fn verify(status: &DrainStatus, jobs: &[&SeenJob], in_the_way: bool, now: Timestamp, decision: &mut Decision) -> Finding {
    if let Some(running) = jobs.iter().find(|job| job.ended.is_none()) {
        return Finding::Verifying(running.stuck.clone());
    }
    let wait = status.failed_at.as_ref().and_then(|failed| {
        let since = Duration::try_from(now.duration_since(failed.0)).unwrap_or_default();
        back_off(status.failed_attempts).checked_sub(since).filter(|left| !left.is_zero())
    });
    if wait.is_some() {
        decision.look_again = wait;
    } else if jobs.is_empty() && !in_the_way {
        decision.create = status.since.as_ref().map(|since| NewJob {
            since: since.0.as_second(),
            attempt: status.failed_attempts,
        });
    } else {
        decision.look_again = Some(Duration::from_secs(1));
    }
    match &status.failure_reason {
        Some(reason) => Finding::Failed {
            reason: reason.clone(),
            message: status.message.clone().unwrap_or_default(),
        },
        None => Finding::Verifying(None),
    }
}

fn is_recorded(job: &SeenJob, recorded: Option<&DrainStatus>) -> bool {
    recorded.is_some_and(|status| status.verified_at.is_some() || status.failed_attempts > job.attempt)
}

fn record(status: &mut DrainStatus, attempt: i32, at: Timestamp, succeeded: bool, report: &DrainReport) {
    if status.verified_at.is_some() || status.failed_attempts > attempt {
        return;
    }
    status.message = Some(report.message.clone());
    if succeeded {
        *status = DrainStatus {
            since: status.since.clone(),
            verified_at: Some(Time(at)),
            message: status.message.clone(),
            offsets: report
                .offsets
                .iter()
                .map(|(partition, offset)| (partition.to_string(), *offset))
                .collect(),
            lag: report.lag,
            ..DrainStatus::default()
        };
    } else {
        status.failed_attempts = attempt.saturating_add(1);
        status.failed_at = Some(Time(at));
        status.failure_reason = Some(report.reason.clone())
            .filter(|reason| !reason.is_empty())
            .or_else(|| Some("DrainFailed".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn facts<'a>(recorded: Option<&'a DrainStatus>, jobs: &'a [SeenJob]) -> Facts<'a> {
        Facts {
            suspended: true,
            runs: Vec::new(),
            workers: Some(0),
            recorded,
            jobs,
            task: "t",
        }
    }

    /// What the first suspension, at 0, wants.
    fn new(attempt: i32) -> NewJob {
        let since = at(0).as_second();
        NewJob { since, attempt }
    }

    fn job(since: i64, ended: Option<bool>) -> SeenJob {
        let report = DrainReport {
            reason: "Told".into(),
            message: "as told".into(),
            offsets: vec![(0, 5)],
            ..DrainReport::default()
        };
        SeenJob {
            name: "users-drain-0".into(),
            attempt: 0,
            since: at(since).as_second(),
            task: "t".into(),
            deleting: false,
            stuck: None,
            ended: ended.map(|succeeded| (at(since + 3), succeeded, report)),
        }
    }

    #[test]
    fn first_the_runs_end_then_the_workers_then_a_job_looks() {
        let run = Facts {
            runs: vec!["run".into()],
            workers: Some(2),
            ..facts(None, &[])
        };
        let decision = decide(&run, at(0));
        assert_eq!(
            (decision.finding, decision.stop_workers, decision.create),
            (Finding::Runs(vec!["run".into()]), false, None)
        );
        let since = decision.status.unwrap();

        let workers = Facts {
            workers: Some(2),
            ..facts(Some(&since), &[])
        };
        let decision = decide(&workers, at(1));
        assert_eq!(
            (decision.finding, decision.stop_workers, decision.create),
            (Finding::Workers(2), true, None)
        );

        let decision = decide(&facts(Some(&since), &[]), at(2));
        assert_eq!(
            (decision.finding, decision.stop_workers, decision.create),
            (Finding::Verifying(None), true, Some(new(0)))
        );

        let running = [job(0, None)];
        let decision = decide(&facts(Some(&since), &running), at(3));
        assert_eq!((decision.finding, decision.create), (Finding::Verifying(None), None));

        let ended = [job(0, Some(true))];
        let decision = decide(&facts(Some(&since), &ended), at(6));
        assert_eq!(
            (&decision.finding, decision.delete.len()),
            (&Finding::Drained("as told".into()), 0),
            "recorded first"
        );
        let recorded = decision.status.unwrap();
        assert_eq!(recorded.offsets.get("0"), Some(&5));
        let decision = decide(&facts(Some(&recorded), &ended), at(7));
        assert_eq!(decision.delete, ["users-drain-0"]);
        let decision = decide(&facts(Some(&recorded), &[]), at(8));
        assert_eq!(
            (decision.create, decision.delete.len(), decision.status.as_ref()),
            (None, 0, Some(&recorded))
        );
    }

    #[test]
    fn a_job_that_fails_is_made_again_after_a_while_and_its_reason_is_told() {
        let since = DrainStatus {
            since: Some(Time(at(0))),
            ..DrainStatus::default()
        };
        let failed = [job(0, Some(false))];
        let decision = decide(&facts(Some(&since), &failed), at(5));
        assert_eq!(
            decision.finding,
            Finding::Failed {
                reason: "Told".into(),
                message: "as told".into()
            }
        );
        let recorded = decision.status.unwrap();
        assert_eq!(recorded.failed_attempts, 1);
        let decision = decide(&facts(Some(&recorded), &failed), at(5));
        assert_eq!((decision.create, decision.delete.len()), (None, 1));
        assert_eq!(decide(&facts(Some(&recorded), &[]), at(60)).create, Some(new(1)));
    }

    #[test]
    fn what_an_earlier_suspension_has_left_counts_for_nothing() {
        let old = [job(0, Some(true))];
        let decision = decide(&facts(None, &old), at(100));
        assert_eq!(
            (decision.finding, decision.create, decision.delete.len()),
            (Finding::Verifying(None), None, 1)
        );
        let resumed = Facts {
            suspended: false,
            ..facts(None, &old)
        };
        let decision = decide(&resumed, at(100));
        assert_eq!(
            (decision.finding, decision.status, decision.delete.len()),
            (Finding::Active, None, 1)
        );
        assert!(!decision.stop_workers);
    }

    #[test]
    fn where_there_never_was_a_worker_there_is_nothing_to_look_at() {
        let nobody = Facts {
            workers: None,
            ..facts(None, &[])
        };
        let decision = decide(&nobody, at(0));
        assert_eq!((decision.finding, decision.create), (Finding::NothingToDrain, None));
    }
}
