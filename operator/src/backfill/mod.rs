//! A back-fill is reconciled: what is there is read, it is decided which runs are due, they are started, and what came of it is told.

mod decide;
mod status;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job, JobTemplateSpec};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{DeserializeGuard, ObjectMeta},
    runtime::{
        Controller,
        controller::Action,
        events::{Recorder, Reporter},
        watcher,
    },
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use userpipeline_api::{GROUP, Reprocess, Ticks, UserPipeline, UserPipelineBackfill, UserPipelineBackfillStatus, names, names::PipelineId};

use self::decide::{Decision, Facts};
use crate::{
    MANAGER,
    metrics::Metrics,
    pipeline::{
        Caches,
        build::{ingest_job, labels},
        caches::of_pipeline,
        dereference::Observed,
        runs,
        runs::SeenRun,
        schedule::{History, NewRun},
    },
};

/// How often a back-fill is looked at that is under way: its Jobs mark it, but the caches may be behind.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const AFTER_FAILURE: Duration = Duration::from_secs(5);

type Guarded = DeserializeGuard<UserPipelineBackfill>;

/// What every reconciliation needs.
pub struct Context {
    client: Client,
    caches: Caches,
    metrics: Metrics,
    recorder: Recorder,
}

impl Context {
    /// What every reconciliation needs; `identity` is told in Events.
    pub fn new(client: Client, caches: Caches, metrics: Metrics, identity: String) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(identity),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            metrics,
        }
    }
}

/// Why a back-fill stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its own spec holds it.
    Suspended,
    /// There is no such pipeline.
    PipelineMissing,
    /// The pipeline is suspended.
    PipelineSuspended,
    /// The pipeline has no CronJob yet, or its spec is invalid.
    PipelineNotReady(String),
    /// An argument is not one of the pipeline's.
    InvalidArguments(String),
}

/// Reconciles all back-fills, of one namespace or of all, until told to stop.
pub async fn run(context: Arc<Context>, namespace: Option<String>, stop: CancellationToken) {
    let client = context.client.clone();
    let (backfills, jobs): (Api<Guarded>, Api<Job>) = match &namespace {
        Some(namespace) => (Api::namespaced(client.clone(), namespace), Api::namespaced(client, namespace)),
        None => (Api::all(client.clone()), Api::all(client)),
    };
    tokio::select! {
        () = stop.cancelled() => return,
        filled = context.caches.filled() => if !filled { return },
    }
    Controller::new(backfills, watcher::Config::default())
        .owns(jobs, watcher::Config::default().labels(labels::BACKFILL))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(
            |resource, context| Box::pin(reconcile(resource, context)),
            |_, error, _| {
                tracing::warn!(%error, "a back-fill is not reconciled; it is tried again");
                Action::requeue(AFTER_FAILURE)
            },
            context,
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(resource: Arc<Guarded>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let Ok(backfill) = &resource.0 else {
        tracing::warn!(
            name = resource.name_any(),
            "a back-fill cannot be read: apply it again with the CRD that is installed"
        );
        return Ok(Action::await_change());
    };
    if backfill.metadata.deletion_timestamp.is_some() {
        // Its Jobs go by garbage collection; the ledger stays.
        return Ok(Action::await_change());
    }
    let namespace = backfill.namespace().unwrap_or_default();
    let pipelines: Api<DeserializeGuard<UserPipeline>> = Api::namespaced(context.client.clone(), &namespace);
    let pipeline = pipelines.get_opt(&backfill.spec.pipeline_ref.name).await?;
    let pipeline = pipeline
        .and_then(|pipeline| pipeline.0.ok())
        .filter(|pipeline| pipeline.metadata.deletion_timestamp.is_none());

    let id = PipelineId {
        namespace,
        name: backfill.spec.pipeline_ref.name.clone(),
    };
    let seen = seen(backfill, &id, &context.caches);
    let cron_job = of_pipeline(&context.caches.cron_jobs, &id)
        .into_iter()
        .find(|cron_job| cron_job.name_any() == names::cron_job(&id.name));
    let (ticks, obstacle) = look(backfill, pipeline.as_ref(), cron_job.as_deref());

    let now = Timestamp::now();
    let before = backfill.status.clone().unwrap_or_default();
    let decision = ticks.map_or_else(
        || Decision {
            status: before.clone(),
            ..Decision::default()
        },
        |ticks| {
            let kept = pipeline.as_ref().map_or((1, 1), |pipeline| {
                let schedule = pipeline.spec.schedule.as_ref();
                schedule.map_or((1, 1), |schedule| {
                    (schedule.successful_jobs_history_limit, schedule.failed_jobs_history_limit)
                })
            });
            let facts = Facts {
                spec: &backfill.spec,
                uid: backfill.metadata.uid.as_deref().unwrap_or_default(),
                created_at: backfill.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
                ticks: &ticks,
                held: obstacle.is_some(),
                kept,
                recorded: &before,
                seen: &seen,
            };
            decide::decide(&facts, now)
        },
    );
    let started = start(backfill, cron_job.as_deref(), &decision.create, &context).await;
    // The pipeline's history is read from Jobs, so none goes before it has it.
    let history = pipeline.as_ref().and_then(|pipeline| pipeline.status.as_ref());
    let history = history.map(|status| History::of(status, &[], None));
    let has = |run: &SeenRun| {
        history
            .as_ref()
            .is_none_or(|history| run.ended.as_ref().is_some_and(|ended| history.has(ended)))
    };
    let mut gone: Vec<&SeenRun> = seen
        .iter()
        .filter(|run| decision.delete.contains(&run.name()) && has(run))
        .collect();
    let cleared = gone.len() == decision.delete.len();
    if obstacle == Some(Obstacle::PipelineMissing) {
        gone.extend(seen.iter().filter(|run| run.ended.is_none()));
    }
    for run in gone {
        delete(&run.job, &context).await?;
    }
    let status = status::of(backfill, &decision, obstacle.as_ref(), started.as_ref().err(), now);
    write(backfill, &before, &status, &context).await?;
    started?;
    Ok(if (decision.complete && cleared) || decision.too_many {
        Action::await_change()
    } else {
        Action::requeue(LOOK_AGAIN)
    })
}

/// Its runs, by the caches.
fn seen(backfill: &UserPipelineBackfill, id: &PipelineId, caches: &Caches) -> Vec<SeenRun> {
    let observed = Observed {
        jobs: of_pipeline(&caches.jobs, id)
            .into_iter()
            .filter(|job| {
                job.owner_references()
                    .iter()
                    .any(|owner| Some(&owner.uid) == backfill.metadata.uid.as_ref())
            })
            .collect(),
        pods: of_pipeline(&caches.pods, id),
        ..Observed::default()
    };
    runs::seen(&names::cron_job(&id.name), &observed)
}

/// The ticks, where the pipeline can be read; and what keeps runs from being started.
fn look(backfill: &UserPipelineBackfill, pipeline: Option<&UserPipeline>, cron_job: Option<&CronJob>) -> (Option<Ticks>, Option<Obstacle>) {
    let Some(pipeline) = pipeline else {
        return (None, Some(Obstacle::PipelineMissing));
    };
    let Some(schedule) = &pipeline.spec.schedule else {
        let why = "others write to its topic (spec.source.topic), so it has no runs".to_owned();
        return (None, Some(Obstacle::PipelineNotReady(why)));
    };
    let ticks = match Ticks::read(&schedule.cron, &schedule.time_zone) {
        Ok(ticks) => ticks,
        Err(problem) => return (None, Some(Obstacle::PipelineNotReady(problem))),
    };
    let unknown = backfill.spec.arguments.keys().find(|name| !schedule.arguments.contains_key(*name));
    let obstacle = if let Some(name) = unknown {
        Some(Obstacle::InvalidArguments(name.clone()))
    } else if backfill.spec.suspend {
        Some(Obstacle::Suspended)
    } else if pipeline.spec.suspend {
        Some(Obstacle::PipelineSuspended)
    } else if cron_job.is_none() {
        Some(Obstacle::PipelineNotReady("its schema has not been applied yet".to_owned()))
    } else {
        None
    };
    (Some(ticks), obstacle)
}

/// Starts runs, the first ones first; after one that cannot be started no other is.
async fn start(backfill: &UserPipelineBackfill, cron_job: Option<&CronJob>, runs: &[NewRun], context: &Context) -> Result<(), kube::Error> {
    let Some(template) = cron_job.and_then(|cron_job| Some(&cron_job.spec.as_ref()?.job_template)) else {
        return Ok(());
    };
    let api: Api<Job> = Api::namespaced(context.client.clone(), &backfill.namespace().unwrap_or_default());
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    for run in runs {
        match api.create(&params, &job(backfill, template, run)).await {
            Ok(job) => {
                context.metrics.wrote("Job", "create");
                tracing::info!(kind = "Job", name = job.name_any(), namespace = job.namespace(), "started");
            }
            // We did, and have not seen it yet: its name is ours alone.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The Job of a run, as the pipeline's CronJob would make it.
fn job(backfill: &UserPipelineBackfill, template: &JobTemplateSpec, run: &NewRun) -> Job {
    let mut labels: BTreeMap<String, String> = template.metadata.clone().and_then(|meta| meta.labels).unwrap_or_default();
    labels.insert(labels::RUN_KIND.to_owned(), run.kind.to_string());
    labels.insert(labels::BACKFILL.to_owned(), backfill.name_any());
    let mut spec = template.spec.clone();
    if let Some(container) = spec
        .as_mut()
        .and_then(|spec| spec.template.spec.as_mut())
        .and_then(|pod| pod.containers.first_mut())
    {
        let arguments = container.args.get_or_insert_default();
        arguments.extend(ingest_job::told(run));
        if backfill.spec.reprocess == Reprocess::None {
            arguments.extend(["--reprocess".to_owned(), Reprocess::None.as_str().to_owned()]);
        }
    }
    Job {
        metadata: ObjectMeta {
            name: run.job.clone(),
            namespace: backfill.namespace(),
            labels: Some(labels),
            annotations: run.interval.map(ingest_job::annotations),
            owner_references: backfill.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

async fn delete(job: &Job, context: &Context) -> Result<(), kube::Error> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), &job.namespace().unwrap_or_default());
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: job.uid(),
        resource_version: None,
    });
    match api.delete(&job.name_any(), &params).await {
        Ok(_) => {
            context.metrics.wrote("Job", "delete");
            Ok(())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes the status, if it is another one, and tells when it is complete.
async fn write(
    backfill: &UserPipelineBackfill,
    before: &UserPipelineBackfillStatus,
    status: &UserPipelineBackfillStatus,
    context: &Context,
) -> Result<(), kube::Error> {
    if before == status {
        return Ok(());
    }
    let api: Api<Guarded> = Api::namespaced(context.client.clone(), &backfill.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "UserPipelineBackfill",
        "metadata": {"name": backfill.name_any(), "uid": backfill.uid()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&backfill.name_any(), &params, &Patch::Apply(&body)).await {
        Ok(_) => context.metrics.wrote("UserPipelineBackfill", "patch"),
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    }
    if let Some(event) = status::event(before, status) {
        match context.recorder.publish(&event, &backfill.object_ref(&())).await {
            Ok(()) => context.metrics.wrote("Event", "create"),
            Err(error) => tracing::warn!(%error, "the Event cannot be told"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
