//! The conditions of workers: ready, or suspended and drained.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::ResourceExt;
use userpipeline_api::{UserPipeline, WorkersStatus, names::PipelineId};

use super::verdict::Verdict;
use crate::pipeline::{
    apply::Applied,
    decide::{drain::Finding, upgrade::Turn},
    model::Problem,
    observe::{Observed, is_behind_spec, is_rolled_out, pods, workers_left},
    validate::ValidateError,
};

const UNORDERED: &str = "messages of one record with equal values of orderBy are on several partitions, so none of them is later: \
     use the record's key as the message's key, or give every change a value of its own";

/// The numbers of workers. The applied Deployment is newer than the observed one.
pub fn counts(outcome: Result<&Applied, &ValidateError>, observed: &Observed, id: &PipelineId) -> Option<WorkersStatus> {
    let applied = outcome.ok().and_then(|applied| applied.workers.as_ref().ok()?.as_deref());
    let deployment = applied.or_else(|| observed.worker_deployment(id))?;
    let desired = deployment.spec.as_ref()?.replicas.unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or(0);
    Some(WorkersStatus {
        replicas: status.replicas.unwrap_or(0),
        ready,
        summary: format!("{ready}/{desired}"),
    })
}

/// Whether the desired number of workers runs the current spec and is ready.
pub fn ready(applied: &Applied, observed: &Observed) -> Verdict {
    let verdict = login_failure(applied).unwrap_or_else(|| of_workers(applied, observed));
    if verdict.is_false() && applied.decisions.connections.turn == Turn::Waiting {
        let message = format!(
            "{}. A connection has changed: this pipeline gets it once fewer pipelines roll out",
            verdict.message
        );
        return Verdict::no(&verdict.reason, &message);
    }
    if verdict.is_true() && observed.reports.values().any(|report| report.has_unordered_messages) {
        let message = format!("{}; {UNORDERED}", verdict.message);
        return Verdict::yes(&verdict.reason, &message);
    }
    verdict
}

/// Why workers cannot log in to Kafka. A user that is not ready yet matters only where there are none.
fn login_failure(applied: &Applied) -> Option<Verdict> {
    let user = &applied.decisions.kafka_user;
    let problem = match &applied.workers {
        Err(_) => None,
        Ok(None) => user.problem(),
        Ok(Some(_)) => user.failure(),
    };
    problem.map(|(reason, message)| Verdict::no(reason, message))
}

fn of_workers(applied: &Applied, observed: &Observed) -> Verdict {
    let deployment = match &applied.workers {
        Err(error) => return Verdict::failed(error),
        Ok(None) => return Verdict::no("WaitingForSchema", "workers start once the schema is applied"),
        Ok(Some(deployment)) => deployment,
    };
    if is_behind_spec(deployment) {
        return Verdict::no(
            "RollingOut",
            "the Deployment controller has not observed the latest change of the workers yet",
        );
    }
    if applied.decisions.drain.stop_workers {
        return match workers_left(observed, Some(deployment)) {
            None | Some(0) => Verdict::yes("Suspended", "no worker runs while the pipeline is suspended"),
            Some(left) => draining(left),
        };
    }
    if let Some(paused) = paused(deployment) {
        return paused;
    }
    if let Some((reason, message)) = fault(observed) {
        return Verdict::no(&reason, &message);
    }
    if let Some(incomplete) = incomplete(deployment) {
        return incomplete;
    }
    if !applied.decisions.schema.is_applied() {
        return Verdict::no("WaitingForSchema", "workers use the previous spec until the schema is applied");
    }
    let desired = desired_replicas(deployment);
    if desired == 0 {
        return Verdict::yes("ScaledToZero", "spec.workers.replicas is 0");
    }
    if applied.decisions.connections.turn == Turn::Waiting {
        return Verdict::yes(
            "ConnectionPending",
            &format!(
                "{desired} of {desired} workers are ready, with the previous version of a connection: schema and workers change once fewer pipelines roll out"
            ),
        );
    }
    if applied.decisions.turn == Turn::Waiting {
        return Verdict::yes(
            "UpgradePending",
            &format!(
                "{desired} of {desired} workers are ready, as they were before the operator's upgrade: they are replaced once fewer pipelines roll out"
            ),
        );
    }
    match applied.decisions.schema.status.partitions {
        Some(partitions) if partitions < desired => Verdict::yes(
            "IdleWorkers",
            &format!(
                "{desired} of {desired} workers are ready, but the topic has only {partitions} partitions: the other workers are idle"
            ),
        ),
        _ => Verdict::yes("WorkersReady", &format!("{desired} of {desired} workers are ready")),
    }
}

/// A user paused the Deployment before the workers had the current spec, so they do not get it.
fn paused(deployment: &Deployment) -> Option<Verdict> {
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    if !is_paused || is_rolled_out(deployment) {
        return None;
    }
    let (name, namespace) = (deployment.name_any(), deployment.namespace().unwrap_or_default());
    Some(Verdict::no(
        "DeploymentPaused",
        &format!(
            "Deployment {name} is paused, so the workers keep the previous spec; resume it: kubectl rollout resume deployment/{name} -n {namespace}"
        ),
    ))
}

/// What a pod or its worker reports.
fn fault(observed: &Observed) -> Option<Problem> {
    if let Some(problem) = observed.workers().find_map(|pod| pods::problem(pod)) {
        return Some(problem);
    }
    let is_terminating = |name: &str| {
        let mut workers = observed.workers();
        workers.any(|pod| pods::is_terminating(pod) && pod.name_any() == name)
    };
    let mut reports = observed.reports.iter();
    let (_, report) = reports.find(|(name, report)| !report.ready && !report.reason.is_empty() && !is_terminating(name))?;
    Some((report.reason.clone(), report.message.clone()))
}

fn desired_replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// What of a rollout is missing; `None` where all desired replicas are current and ready.
fn incomplete(deployment: &Deployment) -> Option<Verdict> {
    let desired = desired_replicas(deployment);
    let status = deployment.status.clone().unwrap_or_default();
    let count = |n: Option<i32>| n.unwrap_or(0);
    let (all, updated, available, ready) = (
        count(status.replicas),
        count(status.updated_replicas),
        count(status.available_replicas),
        count(status.ready_replicas),
    );
    if [all, updated, available, ready] == [desired; 4] {
        return None;
    }
    if let Some((reason, message)) = deployment_problem(&status) {
        return Some(Verdict::no(&reason, &message));
    }
    if updated < desired || all != updated {
        return Some(Verdict::no(
            "RollingOut",
            &format!("{updated} of {desired} workers run the current spec"),
        ));
    }
    Some(Verdict::no(
        "Unavailable",
        &format!("{} of {desired} workers are ready", ready.min(available)),
    ))
}

/// Whether schedule and workers are stopped by `spec.suspend`, and the pipeline is drained.
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
        return Verdict::failed(error);
    }
    match &applied.decisions.drain.finding {
        Finding::Active | Finding::Workers(0) => Verdict::no("Draining", "the workers are being stopped"),
        Finding::NothingToDrain => Verdict::yes("Suspended", "schedule and workers are stopped; there never were workers"),
        Finding::Runs(runs) => Verdict::no(
            "Draining",
            &format!(
                "waiting for unfinished runs: {}; set spec.suspendPolicy to Stop to stop them",
                runs.join(", ")
            ),
        ),
        Finding::Workers(left) => draining(*left),
        Finding::Verifying(None) => Verdict::no("Draining", "a Job verifies that the offsets of all stored records are committed"),
        Finding::Verifying(Some((reason, message))) | Finding::Failed { reason, message } => Verdict::no(reason, message),
        Finding::Drained(message) => Verdict::yes("Drained", &format!("schedule and workers are stopped; {message}")),
    }
}

fn draining(left: usize) -> Verdict {
    Verdict::no("Draining", &format!("{left} workers are finishing their current batches"))
}

/// The failure that the Deployment's conditions report.
fn deployment_problem(status: &DeploymentStatus) -> Option<Problem> {
    let conditions = status.conditions.iter().flatten();
    let failed = conditions
        .into_iter()
        .find(|c| (c.type_ == "ReplicaFailure" && c.status == "True") || (c.type_ == "Progressing" && c.status == "False"))?;
    Some((
        failed.reason.clone().unwrap_or_else(|| failed.type_.clone()),
        failed.message.clone().unwrap_or_default(),
    ))
}
