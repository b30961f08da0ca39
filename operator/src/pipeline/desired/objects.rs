//! The desired children of a pipeline by the step that applies them.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use serde_json::Value;
use userpipeline_api::StoreObject;

use super::{
    config_map, cron_job, deletion_job, deployment, drain_job, ingest_job, inspection_job, kafka_topic, kafka_user::kafka_user,
    pod_disruption_budget, schema_job, service_account,
};
use crate::{
    pipeline::{
        children::DesiredChildren,
        decide::{Decisions, upgrade::Turn},
        model::{Gate, Installation, Owner, PodConfig, PodConfigRef, labels, labels::Component},
        validate::{Ingest, ValidatedPipeline},
    },
    strimzi::KafkaTopic,
};

#[derive(Clone, Debug)]
pub struct Desired {
    /// The ServiceAccount of all pods.
    pub account: DesiredChildren,
    /// The user in Kafka.
    pub kafka_user: Option<Value>,
    /// The config of a later deletion Job, where connections may have changed by then.
    pub deletion: DesiredChildren,
    /// The connections as the pipeline uses them now.
    pub connections: DesiredChildren,
    /// The inspection Job and its ConfigMap, if one is due.
    pub inspection: DesiredChildren,
    /// In the namespace of Kafka.
    pub kafka_topics: Vec<KafkaTopic>,
    /// The schema Job and its ConfigMap, if one is due.
    pub schema: DesiredChildren,
    /// The CronJob, and the ConfigMap of runs unless they keep an older one. Empty until a schema was applied.
    pub schedule: DesiredChildren,
    /// Runs that the operator starts itself.
    pub runs: Vec<Job>,
    /// The Deployment and its budget, and the ConfigMap of workers unless they keep an older one. Empty until a schema was applied;
    /// only the budget while an upgrade waits for its turn.
    pub workers: DesiredChildren,
    /// The drain Job, if one is due.
    pub drain: DesiredChildren,
}

impl Desired {
    /// The ConfigMaps that the operator reads back later.
    pub fn read_back(&self) -> impl Iterator<Item = &ConfigMap> {
        self.deletion.config_maps.iter().chain(&self.connections.config_maps)
    }

    pub const fn steps(&self) -> [&DesiredChildren; 8] {
        [
            &self.account,
            &self.deletion,
            &self.connections,
            &self.inspection,
            &self.schema,
            &self.schedule,
            &self.workers,
            &self.drain,
        ]
    }
}

/// The desired children of `pipeline` after these decisions.
pub fn desired(pipeline: &ValidatedPipeline, installation: &Installation, decisions: &Decisions) -> Desired {
    let (ingest_config, worker_config) = pod_configs(pipeline, &decisions.gate);
    let ingest = pipeline.ingest.as_ref().zip(ingest_config.as_ref());
    Desired {
        account: DesiredChildren {
            accounts: vec![service_account::build(&pipeline.owner)],
            ..DesiredChildren::default()
        },
        kafka_user: kafka_user(pipeline, &decisions.kafka_user),
        deletion: deletion_config(pipeline, decisions),
        connections: connections(pipeline, decisions),
        inspection: decisions
            .topics
            .inspect
            .as_ref()
            .map_or_else(DesiredChildren::default, |inspection| DesiredChildren {
                config_maps: vec![config_map::build(&pipeline.owner, Component::Schema, &pipeline.schema)],
                jobs: vec![inspection_job::build(pipeline, inspection)],
                ..DesiredChildren::default()
            }),
        kafka_topics: kafka_topics(pipeline, decisions),
        schema: decisions
            .schema
            .create
            .map_or_else(DesiredChildren::default, |attempt| DesiredChildren {
                config_maps: vec![config_map::build(&pipeline.owner, Component::Schema, &pipeline.schema)],
                jobs: vec![schema_job::build(pipeline, installation, decisions, attempt)],
                ..DesiredChildren::default()
            }),
        schedule: ingest.map_or_else(DesiredChildren::default, |(ingest, config)| {
            schedule(pipeline, ingest, config, decisions)
        }),
        runs: ingest.map_or_else(Vec::new, |(ingest, config)| {
            let runs = decisions.runs.create.iter();
            runs.map(|run| ingest_job::build(pipeline, &ingest.schedule, config, run)).collect()
        }),
        workers: worker_config
            .as_ref()
            .map_or_else(DesiredChildren::default, |config| workers(pipeline, config, decisions)),
        drain: worker_config
            .as_ref()
            .zip(decisions.drain.create)
            .map_or_else(DesiredChildren::default, |(config, job)| DesiredChildren {
                jobs: vec![drain_job::build(pipeline, config, job)],
                ..DesiredChildren::default()
            }),
    }
}

fn kafka_topics(pipeline: &ValidatedPipeline, decisions: &Decisions) -> Vec<KafkaTopic> {
    let decision = &decisions.topics;
    let cluster = decision.cluster.iter();
    let build = |cluster| {
        let planned = decision.apply.iter();
        planned.map(move |planned| kafka_topic::build(&pipeline.owner, cluster, planned))
    };
    cluster.flat_map(build).collect()
}

/// Like a deletion Job, it has no owner, because it must exist until the pipeline is gone. While the pipeline waits for its turn,
/// its data is still where the stored config says.
fn deletion_config(pipeline: &ValidatedPipeline, decisions: &Decisions) -> DesiredChildren {
    let config = pipeline.deletion.as_ref().filter(|_| decisions.connections.turn == Turn::Now);
    let owner = Owner {
        reference: None,
        ..pipeline.owner.clone()
    };
    let config_maps = config.map(|config| {
        let mut config_map = config_map::build(&owner, Component::Deletion, config);
        let labels = config_map.metadata.labels.get_or_insert_default();
        labels.insert(labels::SCHEMA_HASH.to_owned(), pipeline.schema_hash.clone());
        config_map
    });
    DesiredChildren {
        config_maps: config_maps.into_iter().collect(),
        ..DesiredChildren::default()
    }
}

/// Not while the pipeline waits for its turn, because its children still have the versions that are stored.
fn connections(pipeline: &ValidatedPipeline, decisions: &Decisions) -> DesiredChildren {
    let is_used = !pipeline.connections.is_empty() && decisions.connections.turn == Turn::Now;
    DesiredChildren {
        config_maps: is_used
            .then(|| config_map::of_connections(&pipeline.owner, &pipeline.connections))
            .into_iter()
            .collect(),
        ..DesiredChildren::default()
    }
}

/// The pod configs of runs and workers, as far as the gate is open.
fn pod_configs(pipeline: &ValidatedPipeline, gate: &Gate) -> (Option<PodConfigRef>, Option<PodConfigRef>) {
    match gate {
        Gate::Open => (
            pipeline.ingest.as_ref().map(|ingest| ingest.config.reference()),
            Some(pipeline.worker.reference()),
        ),
        Gate::WorkersFirst { ingest } => (Some(ingest.clone()), Some(pipeline.worker.reference())),
        Gate::Held { ingest, worker } => (ingest.clone(), worker.clone()),
    }
}

fn schedule(pipeline: &ValidatedPipeline, ingest: &Ingest, config: &PodConfigRef, decisions: &Decisions) -> DesiredChildren {
    let suspend = decisions.runs.suspend_cron_job;
    let is_current = decisions.gate == Gate::Open;
    DesiredChildren {
        config_maps: is_current
            .then(|| config_map::build(&pipeline.owner, Component::Ingest, &ingest.config))
            .into_iter()
            .collect(),
        cron_jobs: vec![cron_job::build(pipeline, &ingest.schedule, config, suspend)],
        ..DesiredChildren::default()
    }
}

fn workers(pipeline: &ValidatedPipeline, config: &PodConfigRef, decisions: &Decisions) -> DesiredChildren {
    if decisions.turn == Turn::Waiting {
        return DesiredChildren {
            budgets: vec![pod_disruption_budget::build(pipeline)],
            ..DesiredChildren::default()
        };
    }
    let is_current = !matches!(decisions.gate, Gate::Held { .. });
    DesiredChildren {
        config_maps: is_current
            .then(|| config_map::build(&pipeline.owner, Component::Worker, &pipeline.worker))
            .into_iter()
            .collect(),
        deployments: vec![deployment::build(pipeline, config, decisions.drain.stop_workers)],
        budgets: vec![pod_disruption_budget::build(pipeline)],
        ..DesiredChildren::default()
    }
}

/// What the deletion of a pipeline's data needs, apart from a config that is stored already.
pub fn deletion_objects(
    owner: &Owner,
    installation: &Installation,
    config: &PodConfig,
    is_stored: bool,
    created: Option<&[StoreObject]>,
    attempt: i32,
) -> DesiredChildren {
    let config_map = (!is_stored).then(|| config_map::build(owner, Component::Deletion, config));
    DesiredChildren {
        config_maps: config_map.into_iter().collect(),
        jobs: vec![deletion_job::build(owner, installation, config, created, attempt)],
        ..deletion_account(owner)
    }
}

/// What a deletion Job needs that does not depend on its config.
pub fn deletion_account(owner: &Owner) -> DesiredChildren {
    DesiredChildren {
        accounts: vec![service_account::build(owner)],
        ..DesiredChildren::default()
    }
}
