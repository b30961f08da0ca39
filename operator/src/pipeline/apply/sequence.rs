//! The order in which the children of a pipeline are applied. A child that cannot be applied does not block unrelated ones.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::ConfigMap,
};
use kube::{ResourceExt, api::PropagationPolicy};
use userpipeline_api::{DeletionPolicy, UserPipeline};

use super::{
    applier::Applier,
    error::ApplyError,
    overrides::Override,
    stale_config_maps::{self, used_config_maps},
};
use crate::{
    pipeline::{
        children::{Children, DesiredChildren, VisitChildren},
        decide::{Decisions, topics::Decision, upgrade::Turn},
        desired::Desired,
        model::{is_recorded, labels::Component},
        observe::{Observed, is_of_component},
        task::Delete,
    },
    strimzi::KafkaTopic,
};

/// The applied child; `None` while it is not desired.
pub type Child<K> = Result<Option<Arc<K>>, ApplyError>;

/// The decisions that were applied, and the result of each step.
#[derive(Debug)]
pub struct Applied {
    pub decisions: Decisions,
    /// The ServiceAccount.
    pub account: Result<(), ApplyError>,
    /// The inspection Job and the KafkaTopics.
    pub topics: Result<(), ApplyError>,
    /// The user in Kafka.
    pub kafka_user: Result<(), ApplyError>,
    /// The schema Job.
    pub schema: Result<(), ApplyError>,
    pub schedule: Child<CronJob>,
    /// The runs that the operator starts itself.
    pub started: Result<(), ApplyError>,
    pub workers: Child<Deployment>,
    /// The drain Job, and the runs that are stopped or resumed.
    pub drained: Result<(), ApplyError>,
    /// Failed deletes of children that are no longer desired.
    pub leftovers: Vec<ApplyError>,
    /// Children that stay different from what was applied.
    pub overridden: Vec<Override>,
}

impl Applied {
    pub fn errors(&self) -> impl Iterator<Item = &ApplyError> {
        let results = [
            self.account.as_ref().err(),
            self.topics.as_ref().err(),
            self.kafka_user.as_ref().err(),
            self.schema.as_ref().err(),
            self.schedule.as_ref().err(),
            self.started.as_ref().err(),
            self.workers.as_ref().err(),
            self.drained.as_ref().err(),
        ];
        results.into_iter().flatten().chain(&self.leftovers)
    }

    /// With the Jobs that could not be ended, as errors of their steps.
    pub fn with_not_ended(mut self, not_ended: Vec<(Arc<Job>, ApplyError)>) -> Self {
        for (job, error) in not_ended {
            let step = if is_of_component(job.as_ref(), Component::Schema) {
                &mut self.schema
            } else if is_of_component(job.as_ref(), Component::Inspection) {
                &mut self.topics
            } else if is_of_component(job.as_ref(), Component::Drain) {
                &mut self.drained
            } else {
                &mut self.started
            };
            if step.is_ok() {
                *step = Err(error);
            }
        }
        self
    }
}

/// Applies the desired children in order, then deletes those that are no longer desired. `recorded`: whether the status has the
/// digests of the ConfigMaps that are read back.
pub async fn apply(
    applier: &Applier<'_>,
    pipeline: &UserPipeline,
    desired: Desired,
    decisions: Decisions,
    observed: &Observed,
    recorded: Result<(), ApplyError>,
    now: Timestamp,
) -> Applied {
    let used = used_config_maps(&desired, observed);
    let uses_connections = !pipeline.spec.connections.is_empty();
    let stale = stale_config_maps::of(&desired, &used, &decisions, uses_connections, observed, now);
    let leftover = observed.children.no_longer_desired(&desired.steps());
    let live = &observed.children;

    let account = desired.account.apply_all(live, applier).await.map(drop);
    let kafka_user = applier.apply_kafka_user(desired.kafka_user.as_ref(), &decisions.kafka_user).await;
    let recorded = recorded.and_then(|()| usable(&account));
    let schema = match recorded {
        Ok(()) => prepare_deletion(applier, pipeline, desired.deletion, &decisions.config_digests, live).await,
        error => error,
    };
    let schema = match schema {
        Ok(()) => desired.connections.apply_all(live, applier).await.map(drop),
        error => error,
    };
    // After the finalizer, which a deletion of KafkaTopics needs.
    let topics = match &schema {
        Ok(()) => apply_topics(applier, desired.inspection, desired.kafka_topics, &decisions, observed).await,
        Err(_) => Ok(()),
    };
    let schema = match schema {
        Ok(()) => apply_jobs(applier, desired.schema, &decisions.schema.delete, observed).await,
        error => error,
    };
    let schedule = with_pods(&account, desired.schedule, live, applier).await;
    let schedule = schedule.map(|mut step| step.cron_jobs.pop());
    // Runs use the ConfigMap of the schedule, and the drain Job that of the workers.
    let started = if schedule.is_ok() {
        start_runs(applier, &desired.runs).await
    } else {
        Ok(())
    };
    let workers = with_pods(&account, desired.workers, live, applier).await;
    let workers = workers.map(|mut step| step.deployments.pop().or_else(|| waiting_deployment(&decisions, observed, applier)));
    let drained = if workers.is_ok() {
        desired.drain.apply_all(live, applier).await.map(drop)
    } else {
        Ok(())
    };
    let drained = match drained {
        // A run that is resumed gets a new pod.
        Ok(()) if account.is_err() && !pipeline.spec.suspend => Ok(()),
        Ok(()) => applier.suspend_or_resume_runs(&pipeline.spec, observed).await,
        error => error,
    };

    let leftovers = delete_leftovers(applier, &leftover, stale, &decisions, live).await;
    Applied {
        decisions,
        account,
        topics,
        kafka_user,
        schema,
        schedule,
        started,
        workers,
        drained,
        leftovers,
        overridden: applier.overridden(),
    }
}

/// No pod may run under a ServiceAccount that is not the pipeline's own: it may have the identity of something else in a cloud.
fn usable(account: &Result<(), ApplyError>) -> Result<(), ApplyError> {
    match account {
        Ok(()) => Ok(()),
        Err(error) => Err(ApplyError::NoAccount {
            reason: error.reason(),
            why: error.to_string(),
        }),
    }
}

/// Applies children that have pods.
async fn with_pods(
    account: &Result<(), ApplyError>,
    step: DesiredChildren,
    live: &Children,
    applier: &Applier<'_>,
) -> Result<Children, ApplyError> {
    usable(account)?;
    step.apply_all(live, applier).await
}

/// Deletes what is no longer desired, and returns what could not be deleted.
async fn delete_leftovers(
    applier: &Applier<'_>,
    leftover: &Children,
    stale: Vec<&ConfigMap>,
    decisions: &Decisions,
    live: &Children,
) -> Vec<ApplyError> {
    let mut leftovers = leftover.delete_all(applier).await;
    for config_map in stale {
        leftovers.extend(applier.delete(config_map).await.err());
    }
    let ended: Vec<&String> = decisions.runs.delete.iter().chain(&decisions.drain.delete).collect();
    for job in live.jobs.iter().filter(|job| ended.contains(&&job.name_any())) {
        leftovers.extend(applier.delete(job.as_ref()).await.err());
    }
    leftovers.extend(applier.delete_stale_kafka_users(&decisions.kafka_user).await);
    leftovers
}

/// The Deployment that stays as it is while an upgrade waits for its turn.
fn waiting_deployment(decisions: &Decisions, observed: &Observed, applier: &Applier<'_>) -> Option<Arc<Deployment>> {
    let waiting = decisions.turn == Turn::Waiting;
    observed.worker_deployment(applier.id).filter(|_| waiting).cloned().map(Arc::new)
}

/// The finalizer and the config of the deletion Job come first: nothing outside Kubernetes may exist without them where it is to be
/// deleted. When they are no longer needed, the finalizer goes last, because a config without an owner would stay for ever.
async fn prepare_deletion(
    applier: &Applier<'_>,
    pipeline: &UserPipeline,
    config: DesiredChildren,
    digests: &[String],
    live: &Children,
) -> Result<(), ApplyError> {
    let is_retained = pipeline.spec.deletion_policy == DeletionPolicy::Retain;
    let others = applier
        .delete_deletion_configs(live, |config_map| !is_retained && is_recorded(config_map, digests))
        .await?;
    applier.update_finalizer(pipeline).await?;
    config.apply_all(&others, applier).await.map(drop)
}

async fn apply_topics(
    applier: &Applier<'_>,
    inspection: DesiredChildren,
    kafka_topics: Vec<KafkaTopic>,
    decisions: &Decisions,
    observed: &Observed,
) -> Result<(), ApplyError> {
    let Decision { delete, cluster, .. } = &decisions.topics;
    apply_jobs(applier, inspection, delete, observed).await?;
    applier.apply_kafka_topics(cluster.as_ref(), kafka_topics).await
}

/// Deletes Jobs of a task, then applies the next one.
async fn apply_jobs(applier: &Applier<'_>, desired: DesiredChildren, delete: &[Delete], observed: &Observed) -> Result<(), ApplyError> {
    let Children { jobs, .. } = &observed.children;
    for delete in delete {
        let Some(job) = jobs.iter().find(|job| job.name_any() == delete.name) else {
            continue;
        };
        // A running Job stays observable until its pods are gone.
        let policy = if delete.running {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        applier.delete_one(job.as_ref(), policy).await?;
    }
    desired.apply_all(&observed.children, applier).await.map(drop)
}

/// Starts the oldest run first. After a run that cannot be started, no newer one is.
async fn start_runs(applier: &Applier<'_>, runs: &[Job]) -> Result<(), ApplyError> {
    for job in runs {
        applier.start_run(job).await?;
    }
    Ok(())
}
