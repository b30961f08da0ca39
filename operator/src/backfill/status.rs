//! The conditions of a back-fill. Pure.

use jiff::Timestamp;
use kube::runtime::events::{Event, EventType};
use userpipeline_api::{UserPipelineBackfill, UserPipelineBackfillStatus, condition};

use super::{
    decide::{Decision, MAX_INTERVALS},
    obstacle::Obstacle,
};
use crate::pipeline::{ApplyError, Problem, Verdict};

/// The new status, where `problem` keeps a run from starting; `backfill.status` is the previous one.
pub fn backfill_status(
    backfill: &UserPipelineBackfill,
    decision: &Decision,
    obstacle: Option<&Obstacle>,
    refused: Option<&ApplyError>,
    problem: Option<&Problem>,
    now: Timestamp,
) -> UserPipelineBackfillStatus {
    let before = backfill.status.clone().unwrap_or_default();
    let (complete, stalled) = complete(backfill, decision, obstacle, refused, problem);
    let working = !complete.is_true() && !stalled && obstacle.is_none();
    let reconciling = if working {
        Verdict::yes(&complete.reason, &complete.message)
    } else {
        Verdict::no(&complete.reason, "no runs are being started")
    };
    let stalled = if stalled {
        Verdict::yes(&complete.reason, &complete.message)
    } else {
        Verdict::no("NotStalled", "no change of the spec is needed")
    };
    let verdicts = [
        (condition::COMPLETE, complete),
        (condition::RECONCILING, reconciling),
        (condition::STALLED, stalled),
    ];
    UserPipelineBackfillStatus {
        observed_generation: backfill.metadata.generation,
        conditions: verdicts
            .into_iter()
            .map(|(type_, verdict)| verdict.condition(type_, backfill.metadata.generation, &before.conditions, now))
            .collect(),
        ..decision.status.clone()
    }
}

/// `Complete`, and whether the back-fill is stalled until a spec changes.
fn complete(
    backfill: &UserPipelineBackfill,
    decision: &Decision,
    obstacle: Option<&Obstacle>,
    refused: Option<&ApplyError>,
    problem: Option<&Problem>,
) -> (Verdict, bool) {
    let status = &decision.status;
    let name = &backfill.spec.pipeline_ref.name;
    if decision.too_many {
        let message = format!("there are more than {MAX_INTERVALS} intervals between spec.from and spec.to: create several back-fills");
        return (Verdict::no("TooManyIntervals", &message), true);
    }
    if decision.complete && backfill.spec.dry_run {
        let message = format!("{} intervals would be run; set spec.dryRun to false to run them", status.total);
        return (Verdict::yes("DryRun", &message), false);
    }
    if decision.complete {
        let counts = format!(
            "{} succeeded, {} failed, {} skipped because they had been run before",
            status.succeeded, status.failed, status.skipped
        );
        let reason = if status.failed > 0 { "CompletedWithFailures" } else { "Completed" };
        return (Verdict::yes(reason, &counts), false);
    }
    if let Some(error) = refused {
        return (Verdict::no("ApplyFailed", &format!("cannot start a run: {error}")), false);
    }
    match obstacle {
        Some(Obstacle::Suspended) => (Verdict::no("Suspended", "spec.suspend is true: no more runs are started"), false),
        Some(Obstacle::PipelineMissing) => {
            let message = format!("this namespace has no readable UserPipeline {name}: create it, or correct spec.pipelineRef.name");
            (Verdict::no("PipelineMissing", &message), false)
        }
        Some(Obstacle::PipelineSuspended) => (
            Verdict::no(
                "PipelineSuspended",
                &format!("UserPipeline {name} is suspended: runs are started once it resumes"),
            ),
            false,
        ),
        Some(Obstacle::PipelineNotReady(why)) => (
            Verdict::no("PipelineNotReady", &format!("UserPipeline {name} cannot run yet: {why}")),
            false,
        ),
        Some(Obstacle::InvalidArguments(argument)) => (
            Verdict::no(
                "InvalidArguments",
                &format!("spec.arguments.{argument} is not among spec.schedule.arguments of UserPipeline {name}, so it would be unused"),
            ),
            true,
        ),
        None => match problem {
            Some((reason, message)) => (Verdict::no(reason, message), false),
            None => (Verdict::no("Running", "runs are in progress"), false),
        },
    }
}

/// The Event of the change from one status to the next.
pub fn event(before: &UserPipelineBackfillStatus, after: &UserPipelineBackfillStatus) -> Option<Event> {
    let find = |status: &UserPipelineBackfillStatus| status.conditions.iter().find(|c| c.type_ == condition::COMPLETE).cloned();
    let now = find(after)?;
    if find(before).is_some_and(|before| (before.status, before.reason) == (now.status.clone(), now.reason.clone())) {
        return None;
    }
    // The other reasons are problems, and those of pods are Kubernetes' own.
    let normal = matches!(
        now.reason.as_str(),
        "Completed" | "DryRun" | "Running" | "Suspended" | "PipelineSuspended" | "PipelineNotReady"
    );
    Some(Event {
        type_: if normal { EventType::Normal } else { EventType::Warning },
        reason: now.reason,
        note: Some(now.message),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}
