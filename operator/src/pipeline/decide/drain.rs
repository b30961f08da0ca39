//! Is a suspended pipeline drained? Pure.
//!
//! Runs end (or are stopped) first, then workers; then a Job verifies that the consumer group is empty and that the offsets of
//! all stored records are committed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{DrainStatus, report::DrainReport};

use crate::pipeline::{
    model::{Problem, whole_seconds},
    observe::TaskJob,
    task::{State, Step, TaskRecord, advance},
};

#[derive(Clone, Debug)]
pub struct DrainInput<'a> {
    /// `spec.suspend`.
    pub suspended: bool,
    /// Runs that have not ended and are not stopped.
    pub runs: Vec<String>,
    /// Workers that are left; `None` where there is no Deployment.
    pub workers: Option<usize>,
    pub recorded: Option<&'a DrainStatus>,
    pub jobs: &'a [TaskJob<DrainReport>],
    /// The hash of image and pod settings of the next Job.
    pub task_hash: &'a str,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Finding {
    /// The pipeline is not suspended.
    #[default]
    Active,
    /// There never were workers.
    NothingToDrain,
    /// Runs have not ended.
    Runs(Vec<String>),
    /// So many workers are finishing their batches.
    Workers(usize),
    /// A Job verifies the drain; what keeps its pod from running, if anything.
    Verifying(Option<Problem>),
    /// The last Job failed, or found that the pipeline is not drained.
    Failed { reason: String, message: String },
    /// Verified, with the Job's message.
    Drained(String),
}

/// A drain Job to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDrainJob {
    /// The start of the suspension, in seconds since 1970: Jobs of an earlier suspension do not count.
    pub since: i64,
    pub attempt: i32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To be written to the status.
    pub status: Option<DrainStatus>,
    pub stop_workers: bool,
    pub create: Option<NewDrainJob>,
    /// Names of Jobs to delete.
    pub delete: Vec<String>,
    /// When to reconcile again, if no event comes first.
    pub requeue: Option<Duration>,
    pub finding: Finding,
}

/// Decides what is due so that a suspended pipeline gets drained.
pub fn decide(input: &DrainInput<'_>, now: Timestamp) -> Decision {
    if !input.suspended {
        // Left over from an earlier suspension.
        let jobs = input.jobs.iter().filter(|job| !job.deleting);
        return Decision {
            delete: jobs.map(|job| job.name.clone()).collect(),
            ..Decision::default()
        };
    }
    let mut status = input.recorded.cloned().unwrap_or_default();
    let since = status.since.get_or_insert_with(|| whole_seconds(now)).0.as_second();
    let step = advance(&since.to_string(), input.task_hash, &status, input.jobs, now);
    let is_verified = step.record.verified_at.is_some();
    let mut decision = Decision {
        delete: step.delete.iter().map(|delete| delete.name.clone()).collect(),
        // Workers that have stopped are not started again for a run that a user creates.
        stop_workers: input.runs.is_empty() || is_verified || matches!(input.workers, None | Some(0)),
        ..Decision::default()
    };
    decision.finding = if is_verified {
        Finding::Drained(step.record.message.clone().unwrap_or_default())
    } else if !input.runs.is_empty() {
        Finding::Runs(input.runs.clone())
    } else {
        match input.workers {
            None => Finding::NothingToDrain,
            Some(0) => verify(&step, since, &mut decision),
            Some(left) => Finding::Workers(left),
        }
    };
    decision.status = Some(step.record);
    decision
}

fn verify(step: &Step<DrainStatus, DrainReport>, since: i64, decision: &mut Decision) -> Finding {
    decision.requeue = step.requeue;
    match &step.state {
        State::Running(problem) => return Finding::Verifying(problem.clone()),
        State::Due(attempt) => {
            decision.create = Some(NewDrainJob { since, attempt: *attempt });
        }
        State::Done | State::BackingOff(_) | State::Blocked => {}
    }
    match last_failure(&step.record) {
        Some((reason, message)) => Finding::Failed { reason, message },
        None => Finding::Verifying(None),
    }
}

fn last_failure(status: &DrainStatus) -> Option<Problem> {
    Some((status.failure_reason.clone()?, status.message.clone().unwrap_or_default()))
}

impl TaskRecord for DrainStatus {
    type Report = DrainReport;

    const KEEPS_FAILED_JOB: bool = false;

    fn is_done(&self, _: &str) -> bool {
        self.verified_at.is_some()
    }

    fn failures(&self, _: &str) -> (i32, Option<Timestamp>) {
        (self.failed_attempts, self.failed_at.as_ref().map(|at| at.0))
    }

    fn has(&self, job: &TaskJob<DrainReport>) -> bool {
        self.verified_at.is_some() || self.failed_attempts > job.attempt
    }

    /// A Job of an earlier suspension, or one with other settings, does not count, ended or not.
    fn is_obsolete(&self, job: &TaskJob<DrainReport>, subject: &str, task_hash: &str) -> bool {
        job.subject != subject || job.task_hash != task_hash
    }

    fn succeed(&mut self, _: &TaskJob<DrainReport>, at: Timestamp, report: &DrainReport) {
        *self = Self {
            since: self.since.clone(),
            verified_at: Some(Time(at)),
            message: Some(report.message.clone()),
            offsets: report
                .offsets
                .iter()
                .map(|(partition, offset)| (partition.to_string(), *offset))
                .collect(),
            lag: report.lag,
            ..Self::default()
        };
    }

    fn fail(&mut self, job: &TaskJob<DrainReport>, at: Timestamp, report: &DrainReport) {
        self.message = Some(report.message.clone());
        self.failed_attempts = job.attempt.saturating_add(1);
        self.failed_at = Some(Time(at));
        self.failure_reason = Some(report.reason.clone())
            .filter(|reason| !reason.is_empty())
            .or_else(|| Some("DrainFailed".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::observe::Progress;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn input<'a>(recorded: Option<&'a DrainStatus>, jobs: &'a [TaskJob<DrainReport>]) -> DrainInput<'a> {
        DrainInput {
            suspended: true,
            runs: Vec::new(),
            workers: Some(0),
            recorded,
            jobs,
            task_hash: "t",
        }
    }

    /// A Job of the first suspension, at 0.
    fn new(attempt: i32) -> NewDrainJob {
        let since = at(0).as_second();
        NewDrainJob { since, attempt }
    }

    fn job(since: i64, ended: Option<bool>) -> TaskJob<DrainReport> {
        let report = DrainReport {
            reason: "Reported".into(),
            message: "as reported".into(),
            offsets: vec![(0, 5)],
            ..DrainReport::default()
        };
        TaskJob {
            name: "users-drain-0".into(),
            attempt: 0,
            subject: at(since).as_second().to_string(),
            task_hash: "t".into(),
            created_at: at(since),
            deleting: false,
            gone: false,
            progress: match ended {
                None => Progress::Running { problem: None },
                Some(true) => Progress::Succeeded { at: at(since + 3), report },
                Some(false) => Progress::Failed { at: at(since + 3), report },
            },
        }
    }

    #[test]
    fn runs_end_first_then_workers_then_a_job_verifies() {
        let run = DrainInput {
            runs: vec!["run".into()],
            workers: Some(2),
            ..input(None, &[])
        };
        let decision = decide(&run, at(0));
        assert_eq!(
            (decision.finding, decision.stop_workers, decision.create),
            (Finding::Runs(vec!["run".into()]), false, None)
        );
        let since = decision.status.unwrap();

        let workers = DrainInput {
            workers: Some(2),
            ..input(Some(&since), &[])
        };
        let decision = decide(&workers, at(1));
        assert_eq!(
            (decision.finding, decision.stop_workers, decision.create),
            (Finding::Workers(2), true, None)
        );

        let decision = decide(&input(Some(&since), &[]), at(2));
        assert_eq!(
            (decision.finding, decision.stop_workers, decision.create),
            (Finding::Verifying(None), true, Some(new(0)))
        );

        let running = [job(0, None)];
        let decision = decide(&input(Some(&since), &running), at(3));
        assert_eq!((decision.finding, decision.create), (Finding::Verifying(None), None));

        let ended = [job(0, Some(true))];
        let decision = decide(&input(Some(&since), &ended), at(6));
        assert_eq!(
            (&decision.finding, decision.delete.len()),
            (&Finding::Drained("as reported".into()), 0),
            "recorded first"
        );
        let recorded = decision.status.unwrap();
        assert_eq!(recorded.offsets.get("0"), Some(&5));
        let decision = decide(&input(Some(&recorded), &ended), at(7));
        assert_eq!(decision.delete, ["users-drain-0"]);
        let decision = decide(&input(Some(&recorded), &[]), at(8));
        assert_eq!(
            (decision.create, decision.delete.len(), decision.status.as_ref()),
            (None, 0, Some(&recorded))
        );
    }

    #[test]
    fn a_failed_job_is_repeated_after_the_back_off_and_its_reason_is_reported() {
        let since = DrainStatus {
            since: Some(Time(at(0))),
            ..DrainStatus::default()
        };
        let failed = [job(0, Some(false))];
        let decision = decide(&input(Some(&since), &failed), at(5));
        assert_eq!(
            decision.finding,
            Finding::Failed {
                reason: "Reported".into(),
                message: "as reported".into()
            }
        );
        let recorded = decision.status.unwrap();
        assert_eq!(recorded.failed_attempts, 1);
        let decision = decide(&input(Some(&recorded), &failed), at(5));
        assert_eq!((decision.create, decision.delete.len()), (None, 1));
        assert_eq!(decide(&input(Some(&recorded), &[]), at(60)).create, Some(new(1)));
    }

    #[test]
    fn jobs_of_an_earlier_suspension_do_not_count() {
        let old = [job(0, Some(true))];
        let decision = decide(&input(None, &old), at(100));
        assert_eq!(
            (decision.finding, decision.create, decision.delete.len()),
            (Finding::Verifying(None), None, 1)
        );
        let resumed = DrainInput {
            suspended: false,
            ..input(None, &old)
        };
        let decision = decide(&resumed, at(100));
        assert_eq!(
            (decision.finding, decision.status, decision.delete.len()),
            (Finding::Active, None, 1)
        );
        assert!(!decision.stop_workers);
    }

    #[test]
    fn without_a_deployment_there_is_nothing_to_drain() {
        let without = DrainInput {
            workers: None,
            ..input(None, &[])
        };
        let decision = decide(&without, at(0));
        assert_eq!((decision.finding, decision.create), (Finding::NothingToDrain, None));
    }
}
