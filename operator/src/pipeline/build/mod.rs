//! What is wanted of the cluster for a [`ValidatedPipeline`], a file per kind. No client.

mod config_map;
mod cron_job;
mod deletion_job;
mod deployment;
mod drain_job;
mod images;
pub mod ingest_job;
pub mod labels;
pub mod plan_job;
mod pod;
mod pod_disruption_budget;
mod schema_job;
mod service_account;
pub mod settings;
mod task;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, PodSpec, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};

pub use self::images::Images;
use super::{
    drain, schedule, schema,
    validate::{Document, Parent, ValidatedPipeline},
};

/// What all pipelines have in common.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The images that pipelines run.
    pub images: Images,
    /// The Kubernetes cluster: the uid of its namespace `kube-system`.
    pub cluster: String,
}

/// What a pod is given: its pipeline's file and the Secrets that go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The ConfigMap.
    pub config_map: String,
    /// The Secrets.
    pub secrets: Vec<String>,
}

impl Given {
    /// What the pods of a live object are given.
    pub fn read(pod: &PodSpec) -> Option<Self> {
        pod::read(pod)
    }
}

/// Whether the pods may have what is wanted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The schema that is wanted has been applied.
    Open,
    /// So it has; but there are workers that do not know the record as it is now, and the runs must not be ahead of them.
    WorkersFirst {
        /// What runs have.
        ingest: Given,
    },
    /// It has not: pods keep what they have; those that have nothing yet are not made.
    Held {
        /// What runs have.
        ingest: Option<Given>,
        /// What workers have.
        worker: Option<Given>,
    },
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Who the pods are: nobody in particular.
    pub account: ServiceAccount,
    /// The schema Job's file.
    pub schema_config: Option<ConfigMap>,
    /// The schema Job, if one is due.
    pub schema_job: Option<Job>,
    /// The runs' file; absent while they keep an older one.
    pub ingest_config: Option<ConfigMap>,
    /// What starts the runs; absent until a schema has been applied.
    pub cron_job: Option<CronJob>,
    /// Runs that the operator starts itself.
    pub runs: Vec<Job>,
    /// The workers' file; absent while they keep an older one.
    pub worker_config: Option<ConfigMap>,
    /// The workers; absent until a schema has been applied.
    pub deployment: Option<Deployment>,
    /// The drain Job, if one is due.
    pub drain_job: Option<Job>,
    /// How many of them may be evicted at a time.
    pub budget: Option<PodDisruptionBudget>,
}

/// What a pipeline that is being deleted needs until it is gone.
#[derive(Clone, Debug)]
pub struct DeletionObjects {
    /// Who the pod is.
    pub account: ServiceAccount,
    /// The Job's file.
    pub config: ConfigMap,
    /// The Job.
    pub job: Job,
}

/// What is wanted for the deletion of what a pipeline has made.
pub fn deletion(parent: &Parent, installation: &Installation, document: &Document, attempt: i32) -> DeletionObjects {
    DeletionObjects {
        account: service_account::build(parent),
        config: config_map::build(parent, labels::Component::Deletion, document),
        job: deletion_job::build(parent, installation, document, attempt),
    }
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// About the schema.
    pub schema: schema::Decision,
    /// About the runs.
    pub runs: schedule::Decision,
    /// About what a suspended pipeline has left to do.
    pub drain: drain::Decision,
    /// Runs keep to the record as it was, because there are workers that do.
    pub workers_first: bool,
}

/// What is wanted for `pipeline`, given what was decided.
pub fn build(pipeline: &ValidatedPipeline, installation: &Installation, decided: &Decisions, gate: &Gate) -> Desired {
    let Decisions { schema, runs, drain, .. } = decided;
    let images = &pipeline.parent.images;
    let new = |document: &Document| Given {
        config_map: document.config_map.clone(),
        secrets: document.secrets.clone(),
    };
    let (given, worker) = match gate {
        Gate::Open => (
            pipeline.ingest.as_ref().map(|ingest| new(&ingest.document)),
            Some(new(&pipeline.worker)),
        ),
        Gate::WorkersFirst { ingest } => (Some(ingest.clone()), Some(new(&pipeline.worker))),
        Gate::Held { ingest, worker } => (ingest.clone(), worker.clone()),
    };
    let (runs_open, workers_open) = (matches!(gate, Gate::Open), !matches!(gate, Gate::Held { .. }));
    // What its runs are, and what they have, where there are runs.
    let ingest = pipeline.ingest.as_ref().zip(given.as_ref());
    Desired {
        account: service_account::build(&pipeline.parent),
        schema_config: schema
            .create
            .map(|_| config_map::build(&pipeline.parent, labels::Component::Schema, &pipeline.schema)),
        schema_job: schema.create.map(|attempt| schema_job::build(pipeline, installation, attempt)),
        ingest_config: ingest
            .filter(|_| runs_open)
            .map(|(ingest, _)| config_map::build(&pipeline.parent, labels::Component::Ingest, &ingest.document)),
        runs: ingest
            .iter()
            .flat_map(|(ingest, given)| {
                let schedule = &ingest.schedule;
                runs.create
                    .iter()
                    .map(move |run| ingest_job::build(pipeline, schedule, images, given, run))
            })
            .collect(),
        cron_job: ingest.map(|(ingest, given)| cron_job::build(pipeline, &ingest.schedule, images, given, runs.cron_job_rests)),
        worker_config: workers_open.then(|| config_map::build(&pipeline.parent, labels::Component::Worker, &pipeline.worker)),
        budget: worker.as_ref().map(|_| pod_disruption_budget::build(pipeline)),
        drain_job: worker
            .as_ref()
            .and_then(|given| Some(drain_job::build(pipeline, given, drain.create?))),
        deployment: worker.map(|given| deployment::build(pipeline, images, &given, drain.stop_workers)),
    }
}

#[cfg(test)]
mod tests;
