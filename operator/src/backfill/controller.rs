//! A reconcile of a back-fill: observe its runs, decide which are due, start them, write the status.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PropagationPolicy,
    core::DeserializeGuard,
    runtime::{Controller, controller::Action, watcher},
};
use tokio_util::sync::CancellationToken;
use userpipeline_api::{Ticks, UserPipeline, UserPipelineBackfill, UserPipelineBackfillStatus, names, names::PipelineId};

use super::{
    decide::{BackfillInput, Decision, decide},
    obstacle::{Obstacle, find_obstacle},
    status::{backfill_status, event},
};
use crate::{
    metrics::Metrics,
    pipeline::{
        Applier, ApplyError, CachedPipeline, Caches, EventPublisher, History, NewRun, Observed, Overrides, RefusedPods, RunJob,
        backfill_job, backfill_runs, controller, has_name, labels, run_problem,
    },
    replace_status::replace_status,
};

/// An active back-fill is reconciled at least this often: events of its Jobs come first, but the caches may be behind.
const REQUEUE: Duration = Duration::from_secs(5);
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Objects of one response, as each may have 1.5 MiB.
const PAGE: u32 = 20;

type Guarded = DeserializeGuard<UserPipelineBackfill>;

pub struct Context {
    client: Client,
    caches: Caches,
    metrics: Metrics,
    events: EventPublisher,
    refused_pods: RefusedPods,
}

impl Context {
    /// `instance` is the name of the operator's pod, for Events.
    pub fn new(client: Client, caches: Caches, metrics: Metrics, refused_pods: RefusedPods, instance: String) -> Self {
        Self {
            events: EventPublisher::new(client.clone(), metrics.clone(), instance),
            client,
            caches,
            metrics,
            refused_pods,
        }
    }
}

/// Why a reconcile is repeated.
#[derive(Debug, thiserror::Error)]
enum BackfillError {
    #[error("{0}")]
    Request(#[from] kube::Error),
    #[error("{0}")]
    Apply(#[from] ApplyError),
}

/// Reconciles the back-fills of one namespace, or all, until `stop` is cancelled.
pub async fn run(context: Arc<Context>, namespace: Option<String>, stop: CancellationToken) {
    let client = context.client.clone();
    let (backfills, jobs): (Api<Guarded>, Api<Job>) = match &namespace {
        Some(namespace) => (Api::namespaced(client.clone(), namespace), Api::namespaced(client, namespace)),
        None => (Api::all(client.clone()), Api::all(client)),
    };
    tokio::select! {
        () = stop.cancelled() => return,
        usable = context.caches.are_usable() => if !usable { return },
    }
    let listed = watcher::Config::default().page_size(PAGE);
    Controller::new(backfills, listed.clone())
        .owns(jobs, listed.labels(labels::BACKFILL))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(
            |resource, context| Box::pin(reconcile(resource, context)),
            |_, error, _| {
                tracing::warn!(%error, "reconcile of a back-fill failed; it is retried");
                Action::requeue(AFTER_FAILURE)
            },
            context,
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

/// Whether the ServiceAccount of the pipeline's pods is its own.
fn has_account(id: &PipelineId, pipeline: Option<&UserPipeline>, context: &Context) -> bool {
    let owner = pipeline.and_then(ResourceExt::uid);
    let accounts = context.caches.children.accounts.of_pipeline(id);
    let mut owners = accounts.iter().filter_map(|account| controller(account.as_ref()));
    owners.any(|by| Some(&by.uid) == owner.as_ref())
}

async fn reconcile(resource: Arc<Guarded>, context: Arc<Context>) -> Result<Action, BackfillError> {
    let Ok(backfill) = &resource.0 else {
        tracing::warn!(
            name = resource.name_any(),
            "cannot read the back-fill: apply it again with the installed CRD"
        );
        return Ok(Action::await_change());
    };
    if backfill.metadata.deletion_timestamp.is_some() {
        // Kubernetes garbage-collects its Jobs; the ledger keeps its runs.
        return Ok(Action::await_change());
    }
    let id = PipelineId {
        namespace: backfill.namespace().unwrap_or_default(),
        name: backfill.spec.pipeline_ref.name.clone(),
    };
    let now = Timestamp::now();
    let pipeline = pipeline(&id, &context).await?;
    let observed = observe_runs(backfill, &id, &context, now).await;
    let runs = backfill_runs(&names::cron_job(&id.name), &observed);
    let cron_jobs = context.caches.children.cron_jobs.of_pipeline(&id);
    let cron_job = cron_jobs
        .iter()
        .find(|cron_job| has_name(cron_job.as_ref(), &names::cron_job(&id.name)));
    let cron_job = cron_job.map(AsRef::as_ref);
    let (ticks, obstacle) = find_obstacle(backfill, pipeline.as_ref(), cron_job, has_account(&id, pipeline.as_ref(), &context));
    let decision = decide_runs(backfill, pipeline.as_ref(), ticks.as_ref(), obstacle.is_some(), &runs, now);

    let uid = backfill.uid().unwrap_or_default();
    // It applies nothing, so nothing can be overridden.
    let overrides = Overrides::default();
    let (metrics, children, strimzi) = (&context.metrics, &context.caches.children, &context.caches.strimzi);
    let applier = Applier::new(&context.client, metrics, children, strimzi, &overrides, &id, &uid);
    let started = start(backfill, cron_job, &decision.create, &applier).await;
    let outdated = outdated(&decision, pipeline.as_ref(), &runs);
    let mut all_deleted = outdated.len() == decision.delete.len();
    let orphaned = runs
        .iter()
        .filter(|run| obstacle == Some(Obstacle::PipelineMissing) && run.ended.is_none());
    for run in outdated.into_iter().chain(orphaned) {
        match applier.delete_one(run.job.as_ref(), PropagationPolicy::Background).await {
            Ok(()) => {}
            // Another version than the cached one: the next reconcile decides again.
            Err(ApplyError::Changed { .. }) => all_deleted = false,
            Err(error) => return Err(error.into()),
        }
    }
    let status = backfill_status(
        backfill,
        &decision,
        obstacle.as_ref(),
        started.as_ref().err(),
        run_problem(&observed, true, now).as_ref(),
        now,
    );
    write(backfill, &status, &context).await?;
    started?;
    Ok(if (decision.complete && all_deleted) || decision.too_many {
        Action::await_change()
    } else {
        Action::requeue(REQUEUE)
    })
}

/// The pipeline, if it exists, can be read, and is not being deleted.
async fn pipeline(id: &PipelineId, context: &Context) -> Result<Option<UserPipeline>, kube::Error> {
    let pipelines: Api<CachedPipeline> = Api::namespaced(context.client.clone(), &id.namespace);
    let pipeline = pipelines.get_opt(&id.name).await?;
    Ok(pipeline
        .and_then(|pipeline| pipeline.read().ok())
        .filter(|pipeline| pipeline.metadata.deletion_timestamp.is_none()))
}

/// The runs of this back-fill, with their pods.
async fn observe_runs(backfill: &UserPipelineBackfill, id: &PipelineId, context: &Context, now: Timestamp) -> Observed {
    let is_owned = |job: &Job| {
        let owners = job.owner_references();
        owners.iter().any(|owner| Some(&owner.uid) == backfill.metadata.uid.as_ref())
    };
    let mut observed = Observed::of(id, None, &context.caches.children, now);
    observed.children.jobs.retain(|job| is_owned(job));
    observed.deleted.jobs.retain(|(_, job)| is_owned(job));
    observed.refusals = context.refused_pods.of(id, &observed, now).await;
    observed
}

fn decide_runs(
    backfill: &UserPipelineBackfill,
    pipeline: Option<&UserPipeline>,
    ticks: Option<&Ticks>,
    held: bool,
    runs: &[RunJob],
    now: Timestamp,
) -> Decision {
    let recorded = backfill.status.clone().unwrap_or_default();
    let Some(ticks) = ticks else {
        return Decision {
            status: recorded,
            ..Decision::default()
        };
    };
    let schedule = pipeline.and_then(|pipeline| pipeline.spec.schedule.as_ref());
    let input = BackfillInput {
        spec: &backfill.spec,
        uid: backfill.metadata.uid.as_deref().unwrap_or_default(),
        created_at: backfill.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
        ticks,
        held,
        history_limits: schedule.map_or((1, 1), |schedule| {
            (schedule.successful_jobs_history_limit, schedule.failed_jobs_history_limit)
        }),
        recorded: &recorded,
        runs,
    };
    decide(&input, now)
}

/// The runs whose Jobs to delete. The pipeline's history is read from Jobs, so it must list a run first.
fn outdated<'a>(decision: &Decision, pipeline: Option<&UserPipeline>, runs: &'a [RunJob]) -> Vec<&'a RunJob> {
    let status = pipeline.and_then(|pipeline| pipeline.status.as_ref());
    let history = status.map(|status| History::of(status, &[], None));
    let is_listed = |run: &RunJob| {
        history
            .as_ref()
            .is_none_or(|history| run.ended.as_ref().is_some_and(|ended| history.has(ended)))
    };
    runs.iter()
        .filter(|run| decision.delete.contains(&run.name()) && is_listed(run))
        .collect()
}

/// Starts runs in order. After a run that cannot be started, no later one is.
async fn start(
    backfill: &UserPipelineBackfill,
    cron_job: Option<&CronJob>,
    runs: &[NewRun],
    applier: &Applier<'_>,
) -> Result<(), ApplyError> {
    let Some(template) = cron_job.and_then(|cron_job| Some(&cron_job.spec.as_ref()?.job_template)) else {
        return Ok(());
    };
    for run in runs {
        applier.start_run(&backfill_job(backfill, template, run)).await?;
    }
    Ok(())
}

/// Writes the status, if it changed, and publishes an Event about the change.
async fn write(backfill: &UserPipelineBackfill, status: &UserPipelineBackfillStatus, context: &Context) -> Result<(), kube::Error> {
    let before = backfill.status.clone().unwrap_or_default();
    if before == *status {
        return Ok(());
    }
    let (namespace, name) = (backfill.namespace().unwrap_or_default(), backfill.name_any());
    let value = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    let written = replace_status::<Guarded>(&context.client, &namespace, &name, backfill.uid().as_deref(), &value).await?;
    if written.is_none() {
        return Ok(());
    }
    context.metrics.wrote("UserPipelineBackfill", "patch");
    if let Some(event) = event(&before, status) {
        context.events.publish(&event, &backfill.object_ref(&())).await;
    }
    Ok(())
}
