//! What is to be done next about a pipeline that is being deleted? Pure.
//!
//! First everything goes that could still write: schedule, runs, workers. Then a Job deletes what the pipeline has made. As
//! with the schema, what a Job has told is recorded before it is deleted, and only then the pipeline is let go.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{DeletionPolicy, DeletionStatus, report::DeletionReport};

use crate::pipeline::schema::back_off;

/// A deletion Job, as seen.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenJob {
    /// How many have failed before it.
    pub attempt: i32,
    /// How its pod was to be.
    pub task: String,
    /// It is being deleted.
    pub deleting: bool,
    /// What holds it up, if anything.
    pub stuck: Option<(String, String)>,
    /// How it has ended, if it has: when, whether well, and what it told.
    pub ended: Option<(Timestamp, bool, DeletionReport)>,
}

/// What is decided about.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// `spec.deletionPolicy`.
    pub policy: DeletionPolicy,
    /// A schema Job was ever started.
    pub began: bool,
    /// What could still write, for people.
    pub left: Vec<String>,
    /// What the status said before.
    pub recorded: Option<&'a DeletionStatus>,
    /// The deletion Job, if there is one.
    pub job: Option<&'a SeenJob>,
    /// How its pod is to be: what holds up one that is otherwise may have been mended since.
    pub task: &'a str,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// What could still write is to go.
    Stop(Vec<String>),
    /// A Job is to be made: how many have failed before it.
    Create(i32),
    /// The Job that has ended is to be deleted: it is recorded.
    Clear,
    /// Nothing but waiting: for the Job (what holds it up, if anything), or for the next one to be due.
    Wait(Option<(String, String)>, Option<Duration>),
    /// All is done: the pipeline may go.
    LetGo,
}

/// What is to be done, and recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What is to be done.
    pub step: Step,
    /// What is to be recorded.
    pub status: DeletionStatus,
}

/// Decides what is to be done next.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let mut status = facts.recorded.cloned().unwrap_or_default();
    let step = if facts.policy == DeletionPolicy::Retain || !facts.began || status.done_at.is_some() {
        Step::LetGo
    } else if !facts.left.is_empty() {
        Step::Stop(facts.left.clone())
    } else {
        next(facts.job, facts.task, &mut status, now)
    };
    Decision { step, status }
}

fn next(job: Option<&SeenJob>, task: &str, status: &mut DeletionStatus, now: Timestamp) -> Step {
    let failure = |status: &DeletionStatus| {
        let reason = status.failure_reason.clone()?;
        Some((reason, status.message.clone().unwrap_or_default()))
    };
    let Some(job) = job else {
        let wait = status.failed_at.as_ref().and_then(|failed| {
            let since = Duration::try_from(now.duration_since(failed.0)).unwrap_or_default();
            back_off(status.failed_attempts).checked_sub(since).filter(|left| !left.is_zero())
        });
        return match wait {
            Some(wait) => Step::Wait(failure(status), Some(wait)),
            None => Step::Create(status.failed_attempts),
        };
    };
    let Some((at, succeeded, report)) = &job.ended else {
        if job.task != task && !job.deleting {
            return Step::Clear;
        }
        return Step::Wait(job.stuck.clone().or_else(|| failure(status)), None);
    };
    if job.attempt < status.failed_attempts {
        return if job.deleting {
            Step::Wait(failure(status), None)
        } else {
            Step::Clear
        };
    }
    status.message = Some(report.message.clone());
    if *succeeded {
        *status = DeletionStatus {
            done_at: Some(Time(*at)),
            message: status.message.clone(),
            ..DeletionStatus::default()
        };
        return Step::Wait(None, None);
    }
    status.failed_attempts = job.attempt.saturating_add(1);
    status.failed_at = Some(Time(*at));
    status.failure_reason = Some(report.reason.clone())
        .filter(|reason| !reason.is_empty())
        .or_else(|| Some("DeletionFailed".to_owned()));
    Step::Wait(failure(status), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn facts<'a>(recorded: Option<&'a DeletionStatus>, job: Option<&'a SeenJob>) -> Facts<'a> {
        Facts {
            policy: DeletionPolicy::Delete,
            began: true,
            left: Vec::new(),
            recorded,
            job,
            task: "t",
        }
    }

    fn job(attempt: i32, ended: Option<bool>) -> SeenJob {
        let report = DeletionReport {
            reason: "Told".into(),
            message: "as told".into(),
        };
        SeenJob {
            attempt,
            task: "t".into(),
            deleting: false,
            stuck: None,
            ended: ended.map(|succeeded| (at(3), succeeded, report)),
        }
    }

    #[test]
    fn nothing_is_deleted_where_it_is_to_be_kept_or_never_was() {
        let retained = Facts {
            policy: DeletionPolicy::Retain,
            left: vec!["workers".into()],
            ..facts(None, None)
        };
        assert_eq!(decide(&retained, at(0)).step, Step::LetGo);
        let never_began = Facts {
            began: false,
            ..facts(None, None)
        };
        assert_eq!(decide(&never_began, at(0)).step, Step::LetGo);
    }

    #[test]
    fn first_what_writes_goes_then_a_job_deletes_then_the_pipeline_is_let_go() {
        let writing = Facts {
            left: vec!["workers".into()],
            ..facts(None, None)
        };
        assert_eq!(decide(&writing, at(0)).step, Step::Stop(vec!["workers".into()]));
        assert_eq!(decide(&facts(None, None), at(1)).step, Step::Create(0));
        assert_eq!(decide(&facts(None, Some(&job(0, None))), at(2)).step, Step::Wait(None, None));

        let decision = decide(&facts(None, Some(&job(0, Some(true)))), at(4));
        assert_eq!(decision.step, Step::Wait(None, None), "recorded first");
        assert_eq!(decision.status.done_at, Some(Time(at(3))));
        let done = facts(Some(&decision.status), None);
        assert_eq!(decide(&done, at(5)).step, Step::LetGo);
    }

    #[test]
    fn a_job_that_is_held_up_is_made_anew_when_its_pod_is_to_be_otherwise() {
        let stuck = job(0, None);
        let mended = Facts {
            task: "other",
            ..facts(None, Some(&stuck))
        };
        assert_eq!(decide(&mended, at(1)).step, Step::Clear);
    }

    #[test]
    fn a_job_that_fails_is_made_again_after_a_while_until_the_policy_is_retain() {
        let why = || Some(("Told".to_owned(), "as told".to_owned()));
        let failed = job(0, Some(false));
        let decision = decide(&facts(None, Some(&failed)), at(4));
        assert_eq!(decision.step, Step::Wait(why(), None), "recorded first");
        let recorded = decision.status;
        assert_eq!(decide(&facts(Some(&recorded), Some(&failed)), at(4)).step, Step::Clear);
        let waiting = decide(&facts(Some(&recorded), None), at(4)).step;
        assert!(matches!(waiting, Step::Wait(reason, Some(_)) if reason == why()));
        assert_eq!(decide(&facts(Some(&recorded), None), at(60)).step, Step::Create(1));

        let retained = Facts {
            policy: DeletionPolicy::Retain,
            ..facts(Some(&recorded), Some(&failed))
        };
        assert_eq!(decide(&retained, at(5)).step, Step::LetGo);
    }
}
