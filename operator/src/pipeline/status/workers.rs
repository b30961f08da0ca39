//! Whether the workers do their work, or rest as they should.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::ResourceExt;
use userpipeline_api::{UserPipeline, WorkersStatus, names};

use super::{failed, verdict::Verdict};
use crate::pipeline::{apply::Applied, dereference::Observed, drain::Finding, pods, validate::ValidateError};

/// How many there are. What is applied is newer than what was seen.
pub fn counts(pipeline: &UserPipeline, outcome: Result<&Applied, &ValidateError>, observed: &Observed) -> Option<WorkersStatus> {
    let name = names::workers(&pipeline.name_any());
    let applied = outcome.ok().and_then(|applied| applied.workers.as_ref().ok()?.as_deref());
    let deployment = applied.or_else(|| observed.deployments.iter().map(AsRef::as_ref).find(|d| d.name_any() == name))?;
    let wanted = deployment.spec.as_ref()?.replicas.unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or(0);
    Some(WorkersStatus {
        replicas: status.replicas.unwrap_or(0),
        ready,
        summary: format!("{ready}/{wanted}"),
    })
}

/// Whether the wanted workers run the wanted spec and are ready.
pub fn ready(applied: &Applied, observed: &Observed) -> Verdict {
    let deployment = match &applied.workers {
        Err(error) => return failed(error),
        Ok(None) => return Verdict::no("WaitingForSchema", "workers start when the schema has been applied"),
        Ok(Some(deployment)) => deployment,
    };
    let status = deployment.status.clone().unwrap_or_default();
    if is_behind(deployment) {
        return Verdict::no("RollingOut", "the change of the workers' Deployment has not been taken up yet");
    }
    if applied.drain.stop_workers {
        let left = left(deployment, observed);
        return if left == 0 {
            Verdict::yes("Suspended", "no worker runs while the pipeline is suspended")
        } else {
            draining(left)
        };
    }
    if let Some((reason, message)) = observed.workers().find_map(|pod| pods::problem(pod)) {
        return Verdict::no(&reason, &message);
    }
    let going = |name: &str| observed.workers().any(|pod| pods::is_going(pod) && pod.name_any() == name);
    if let Some((_, report)) = observed
        .reports
        .iter()
        .find(|(name, report)| !report.ready && !report.reason.is_empty() && !going(name))
    {
        return Verdict::no(&report.reason, &report.message);
    }
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let count = |n: Option<i32>| n.unwrap_or(0);
    let (all, updated, available, ready) = (
        count(status.replicas),
        count(status.updated_replicas),
        count(status.available_replicas),
        count(status.ready_replicas),
    );
    if all != wanted || updated != wanted || available != wanted || ready != wanted {
        if let Some((reason, message)) = trouble(&status) {
            return Verdict::no(&reason, &message);
        }
        if updated < wanted || all != updated {
            return Verdict::no("RollingOut", &format!("{updated} of {wanted} workers run the wanted spec"));
        }
        return Verdict::no("Unavailable", &format!("{} of {wanted} workers are ready", ready.min(available)));
    }
    if !applied.decision.is_applied() {
        return Verdict::no(
            "WaitingForSchema",
            "workers keep to the spec that was applied last until the schema has been applied",
        );
    }
    if wanted == 0 {
        return Verdict::yes("ScaledToZero", "no workers are wanted");
    }
    match applied.decision.status.partitions {
        Some(partitions) if partitions < wanted => Verdict::yes(
            "IdleWorkers",
            &format!("{ready} of {wanted} workers are ready, and the topic has {partitions} partitions: the other workers are idle"),
        ),
        _ => Verdict::yes("WorkersReady", &format!("{ready} of {wanted} workers are ready")),
    }
}

/// Whether schedule and workers are stopped because the spec says so, and have left everything in order.
pub fn suspended(pipeline: &UserPipeline, applied: &Applied) -> Verdict {
    if !pipeline.spec.suspend {
        return Verdict::no("NotSuspended", "schedule and workers are active");
    }
    let failures = [
        applied.schedule.as_ref().err(),
        applied.workers.as_ref().err(),
        applied.drained.as_ref().err(),
    ];
    if let Some(error) = failures.into_iter().flatten().next() {
        return failed(error);
    }
    match &applied.drain.finding {
        Finding::Active | Finding::Workers(0) => Verdict::no("Draining", "the workers are being told to stop"),
        Finding::NothingToDrain => Verdict::yes("Suspended", "schedule and workers are stopped; there never were any"),
        Finding::Runs(runs) => Verdict::no(
            "Draining",
            &format!(
                "the run {} is left to finish; spec.suspendPolicy: Stop would stop it",
                runs.join(", ")
            ),
        ),
        Finding::Workers(left) => draining(*left),
        Finding::Verifying(None) => Verdict::no("Draining", "a Job verifies that all that is stored is committed"),
        Finding::Verifying(Some((reason, message))) | Finding::Failed { reason, message } => Verdict::no(reason, message),
        Finding::Drained(message) => Verdict::yes("Drained", &format!("schedule and workers are stopped; {message}")),
    }
}

fn draining(left: usize) -> Verdict {
    Verdict::no("Draining", &format!("{left} workers are finishing what they have in hand"))
}

fn is_behind(deployment: &Deployment) -> bool {
    let seen = deployment
        .status
        .as_ref()
        .and_then(|status| status.observed_generation)
        .unwrap_or(0);
    seen < deployment.metadata.generation.unwrap_or(0)
}

/// How many workers there still are: pods are the truth, but their cache may be behind.
fn left(deployment: &Deployment, observed: &Observed) -> usize {
    let counted = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    observed.workers().count().max(usize::try_from(counted).unwrap_or(0))
}

/// What the Deployment itself says is wrong.
fn trouble(status: &DeploymentStatus) -> Option<(String, String)> {
    let conditions = status.conditions.iter().flatten();
    let trouble = conditions
        .into_iter()
        .find(|c| (c.type_ == "ReplicaFailure" && c.status == "True") || (c.type_ == "Progressing" && c.status == "False"))?;
    Some((
        trouble.reason.clone().unwrap_or_else(|| trouble.type_.clone()),
        trouble.message.clone().unwrap_or_default(),
    ))
}
