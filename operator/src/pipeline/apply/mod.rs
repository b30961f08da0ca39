//! Server-side apply of what is wanted, then deletion of what is no longer wanted. The only writer of children.
//!
//! One child that cannot be applied does not keep the others from being applied.

mod deletion;
mod runs;
mod unused_files;

use std::{fmt::Debug, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::{CronJob, Job},
        core::v1::ConfigMap,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use userpipeline_api::{DeletionPolicy, UserPipeline, names};

pub use self::deletion::is_namespace_terminating;
use super::{
    build::{Decisions, Desired, labels},
    contain::contains,
    deletion::FINALIZER,
    dereference::Observed,
    drain, schedule, schema,
    validate::Parent,
};
use crate::{MANAGER, metrics::Metrics};

/// Why a child is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is another one of that name.
    #[error("{kind} {name} exists and is not controlled by this UserPipeline; delete or rename it")]
    NotOurs {
        /// The child's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// It has to be gone before it can be made again.
    #[error("{kind} {name} is being deleted; it is made again when it is gone")]
    BeingDeleted {
        /// The child's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// It is no longer what was seen; it is looked at again.
    #[error("{kind} {name} has changed while it was to be deleted; it is looked at again")]
    Changed {
        /// The child's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The apiserver has not taken it.
    #[error("{kind} {name} cannot be applied: {}", words(.source))]
    ApplyFailed {
        /// The child's kind.
        kind: String,
        /// Its name.
        name: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The apiserver has not deleted it.
    #[error("{kind} {name} cannot be deleted: {}", words(.source))]
    DeleteFailed {
        /// The child's kind.
        kind: String,
        /// Its name.
        name: String,
        /// What it said.
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    /// The variant's name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "NotOurs",
            Self::BeingDeleted { .. } => "BeingDeleted",
            Self::Changed { .. } => "Changed",
            Self::ApplyFailed { .. } => "ApplyFailed",
            Self::DeleteFailed { .. } => "DeleteFailed",
        }
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A child that was applied; `None` when it is not wanted yet.
pub type Child<K> = Result<Option<Arc<K>>, ApplyError>;

/// What has been applied, and what has not.
#[derive(Debug)]
pub struct Applied {
    /// What was decided about the schema.
    pub decision: schema::Decision,
    /// What was decided about the runs.
    pub runs: schedule::Decision,
    /// What was decided about draining.
    pub drain: drain::Decision,
    /// Runs keep to the record as it was, because there are workers that do.
    pub workers_first: bool,
    /// Who the pods are.
    pub account: Result<(), ApplyError>,
    /// The schema Job.
    pub schema: Result<(), ApplyError>,
    /// What starts the runs.
    pub schedule: Child<CronJob>,
    /// The runs that the operator starts itself.
    pub started: Result<(), ApplyError>,
    /// The workers.
    pub workers: Child<Deployment>,
    /// The drain Job, and the runs that are stopped or go on.
    pub drained: Result<(), ApplyError>,
    /// What could not be deleted.
    pub leftovers: Vec<ApplyError>,
}

impl Applied {
    /// All that went wrong.
    pub fn errors(&self) -> impl Iterator<Item = &ApplyError> {
        let results = [
            self.account.as_ref().err(),
            self.schema.as_ref().err(),
            self.schedule.as_ref().err(),
            self.started.as_ref().err(),
            self.workers.as_ref().err(),
            self.drained.as_ref().err(),
        ];
        results.into_iter().flatten().chain(&self.leftovers)
    }
}

/// A kind of which children are.
trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned> Kind for K {}

fn kind<K: Kind>() -> String {
    K::kind(&()).into_owned()
}

/// Applies what is wanted, then deletes what is no longer wanted.
pub async fn apply(
    to: &Target<'_>,
    pipeline: &UserPipeline,
    desired: Desired,
    decided: Decisions,
    observed: &Observed,
    now: Timestamp,
) -> Applied {
    let unused = unused_files::of(&desired, observed, now);
    let account = to.apply(&observed.accounts, desired.account).await.map(drop);
    // Before anything is made that is to be deleted.
    let schema = match to.hold(pipeline).await {
        Ok(()) => {
            to.schema(desired.schema_config, desired.schema_job, &decided.schema, observed)
                .await
        }
        error => error,
    };
    let schedule = to
        .behind(desired.ingest_config, desired.cron_job, &observed.config_maps, &observed.cron_jobs)
        .await;
    // Their file goes with the schedule's.
    let started = if schedule.is_ok() { to.start(desired.runs).await } else { Ok(()) };
    let workers = to
        .behind(
            desired.worker_config,
            desired.deployment,
            &observed.config_maps,
            &observed.deployments,
        )
        .await;
    let workers = match (workers, desired.budget) {
        (Ok(workers), Some(budget)) => to.apply(&observed.budgets, budget).await.map(|_| workers),
        (workers, _) => workers,
    };
    // Its file goes with the workers'.
    let drained = match desired.drain_job {
        Some(job) if workers.is_ok() => to.apply(&observed.jobs, job).await.map(drop),
        _ => Ok(()),
    };
    let drained = match drained {
        Ok(()) => to.stop_runs(&pipeline.spec, observed).await,
        error => error,
    };
    let mut leftovers = Vec::new();
    for file in unused {
        leftovers.extend(to.delete(file, PropagationPolicy::Background).await.err());
    }
    let gone: Vec<&String> = decided.runs.delete.iter().chain(&decided.drain.delete).collect();
    for job in observed.jobs.iter().filter(|job| gone.contains(&&job.name_any())) {
        leftovers.extend(to.delete(job.as_ref(), PropagationPolicy::Background).await.err());
    }
    Applied {
        decision: decided.schema,
        runs: decided.runs,
        drain: decided.drain,
        workers_first: decided.workers_first,
        account,
        schema,
        schedule,
        started,
        workers,
        drained,
        leftovers,
    }
}

/// Where children are applied, and for whom.
pub struct Target<'a> {
    client: &'a Client,
    metrics: &'a Metrics,
    /// Whose they are.
    pub parent: &'a Parent,
}

impl<'a> Target<'a> {
    /// Children of `parent`.
    pub const fn new(client: &'a Client, metrics: &'a Metrics, parent: &'a Parent) -> Self {
        Self { client, metrics, parent }
    }
}

impl Target<'_> {
    /// Whether the pipeline is held by its finalizer follows from its policy.
    async fn hold(&self, pipeline: &UserPipeline) -> Result<(), ApplyError> {
        let held = pipeline.spec.deletion_policy == DeletionPolicy::Delete;
        if held == crate::pipeline::deletion::is_held(pipeline) {
            return Ok(());
        }
        self.set_finalizer(FINALIZER, held).await
    }

    fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.parent.id.namespace)
    }

    async fn schema(
        &self,
        config: Option<ConfigMap>,
        job: Option<Job>,
        decision: &schema::Decision,
        observed: &Observed,
    ) -> Result<(), ApplyError> {
        for delete in &decision.delete {
            let Some(job) = observed.jobs.iter().find(|job| job.name_any() == delete.name) else {
                continue;
            };
            // One that runs is to be seen until its pods are gone.
            let policy = if delete.running {
                PropagationPolicy::Foreground
            } else {
                PropagationPolicy::Background
            };
            self.delete(job.as_ref(), policy).await?;
        }
        if let Some(config) = config {
            self.apply(&observed.config_maps, config).await?;
        }
        if let Some(job) = job {
            self.apply(&observed.jobs, job).await?;
        }
        Ok(())
    }

    /// A child, once the file that it refers to is there.
    async fn behind<K: Kind>(&self, config: Option<ConfigMap>, child: Option<K>, files: &[Arc<ConfigMap>], live: &[Arc<K>]) -> Child<K> {
        if let Some(config) = config {
            self.apply(files, config).await?;
        }
        match child {
            Some(child) => self.apply(live, child).await.map(Some),
            None => Ok(None),
        }
    }

    fn is_ours<K: Kind>(&self, live: &K) -> bool {
        let is_owned = live
            .owner_references()
            .iter()
            .any(|owner| owner.controller == Some(true) && owner.uid == self.parent.uid);
        is_owned || live.labels().get(labels::PIPELINE_UID) == Some(&self.parent.uid)
    }

    async fn apply<K: Kind>(&self, seen: &[Arc<K>], desired: K) -> Result<Arc<K>, ApplyError> {
        let name = desired.name_any();
        let failed = |source: kube::Error| ApplyError::ApplyFailed {
            kind: kind::<K>(),
            name: name.clone(),
            source: Box::new(source),
        };
        let wanted = with_hash(&desired).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let api = self.api::<K>();
        let live = match seen.iter().find(|object| object.name_any() == name) {
            Some(live) => Some(live.clone()),
            // It may be somebody else's, or made a moment ago.
            None => api.get_opt(&name).await.map_err(failed)?.map(Arc::new),
        };
        if let Some(live) = live {
            if !self.is_ours(live.as_ref()) {
                return Err(ApplyError::NotOurs { kind: kind::<K>(), name });
            }
            if live.meta().deletion_timestamp.is_some() {
                return Err(ApplyError::BeingDeleted { kind: kind::<K>(), name });
            }
            // A Job is made once and never changed.
            if kind::<K>() == "Job" || is_as_wanted(live.as_ref(), &wanted) {
                return Ok(live);
            }
        }
        let params = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(&wanted)).await.map_err(failed)?;
        self.metrics.wrote(metric_kind(&kind::<K>()), "patch");
        tracing::info!(kind = kind::<K>(), name, namespace = self.parent.id.namespace, "applied");
        Ok(Arc::new(applied))
    }

    /// Deletes just what was seen: another one of the same name, or a changed one, stays.
    async fn delete<K: Kind>(&self, seen: &K, policy: PropagationPolicy) -> Result<(), ApplyError> {
        let name = seen.name_any();
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: seen.uid(),
                resource_version: seen.resource_version(),
            }),
            ..DeleteParams::default()
        };
        match self.api::<K>().delete(&name, &params).await {
            Ok(_) => {
                self.metrics.wrote(metric_kind(&kind::<K>()), "delete");
                tracing::info!(kind = kind::<K>(), name, namespace = self.parent.id.namespace, "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            // No longer what was seen: whoever counts on its being gone must not.
            Err(kube::Error::Api(status)) if status.code == 409 => Err(ApplyError::Changed { kind: kind::<K>(), name }),
            Err(source) => Err(ApplyError::DeleteFailed {
                kind: kind::<K>(),
                name,
                source: Box::new(source),
            }),
        }
    }
}

fn metric_kind(kind: &str) -> &'static str {
    ["ConfigMap", "ServiceAccount", "Job", "CronJob", "Deployment", "PodDisruptionBudget"]
        .into_iter()
        .find(|known| *known == kind)
        .unwrap_or("Other")
}

fn with_hash<K: Serialize>(desired: &K) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(desired)?;
    let hash = names::hash(&value.to_string());
    value["metadata"]["annotations"][labels::DESIRED_HASH] = Value::String(hash);
    Ok(value)
}

fn is_as_wanted<K: Kind>(live: &K, wanted: &Value) -> bool {
    let hash = wanted["metadata"]["annotations"][labels::DESIRED_HASH].as_str();
    live.annotations().get(labels::DESIRED_HASH).map(String::as_str) == hash
        && serde_json::to_value(live).is_ok_and(|live| contains(&live, wanted))
}
