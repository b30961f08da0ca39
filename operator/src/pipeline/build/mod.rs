//! What is wanted of the cluster for a [`ValidatedPipeline`], a file per kind. No client.

mod config_map;
mod cron_job;
mod deletion_job;
mod deployment;
mod drain_job;
pub mod ingest_job;
pub mod labels;
mod pod;
mod pod_disruption_budget;
mod schema_job;
mod service_account;
mod task;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, PodSpec, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};

use super::{
    drain, schedule, schema,
    validate::{Document, Parent, ValidatedPipeline},
};

/// The images that pipelines run.
#[derive(Clone, Debug)]
pub struct Images {
    /// The registry, with its path.
    pub registry: String,
    /// The tag.
    pub tag: String,
    /// When they are pulled.
    pub pull_policy: String,
}

/// What all pipelines have in common.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The images that pipelines run.
    pub images: Images,
    /// The Kubernetes cluster: the uid of its namespace `kube-system`.
    pub cluster: String,
}

impl Images {
    fn of(&self, program: &str) -> String {
        format!("{}/{program}:{}", self.registry, self.tag)
    }
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
}

/// What is wanted for `pipeline`, given what was decided.
pub fn build(pipeline: &ValidatedPipeline, installation: &Installation, decided: &Decisions, gate: &Gate) -> Desired {
    let Decisions { schema, runs, drain } = decided;
    let images = &installation.images;
    let new = |document: &Document| Given {
        config_map: document.config_map.clone(),
        secrets: document.secrets.clone(),
    };
    let (ingest, worker, open) = match gate {
        Gate::Open => (Some(new(&pipeline.ingest)), Some(new(&pipeline.worker)), true),
        Gate::Held { ingest, worker } => (ingest.clone(), worker.clone(), false),
    };
    Desired {
        account: service_account::build(&pipeline.parent),
        schema_config: schema
            .create
            .map(|_| config_map::build(&pipeline.parent, labels::Component::Schema, &pipeline.schema)),
        schema_job: schema.create.map(|attempt| schema_job::build(pipeline, installation, attempt)),
        ingest_config: open.then(|| config_map::build(&pipeline.parent, labels::Component::Ingest, &pipeline.ingest)),
        runs: ingest
            .iter()
            .flat_map(|given| runs.create.iter().map(|run| ingest_job::build(pipeline, images, given, run)))
            .collect(),
        cron_job: ingest.map(|given| cron_job::build(pipeline, images, &given, runs.cron_job_rests)),
        worker_config: open.then(|| config_map::build(&pipeline.parent, labels::Component::Worker, &pipeline.worker)),
        budget: worker.as_ref().map(|_| pod_disruption_budget::build(pipeline)),
        drain_job: worker
            .as_ref()
            .and_then(|given| Some(drain_job::build(pipeline, images, given, drain.create?))),
        deployment: worker.map(|given| deployment::build(pipeline, images, &given, drain.stop_workers)),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;
    use proptest::prelude::*;
    use userpipeline_api::{DataInterval, RunKind};

    use super::*;
    use crate::pipeline::{example, validate::validate};

    fn installation() -> Installation {
        Installation {
            images: Images {
                registry: "userpipeline".into(),
                tag: "0.1.0".into(),
                pull_policy: "IfNotPresent".into(),
            },
            cluster: "22222222-3333-4444-5555-666666666666".into(),
        }
    }

    /// A schema Job is due, and what is given of runs and draining.
    fn due(runs: schedule::Decision, drain: drain::Decision) -> Decisions {
        let schema = schema::Decision {
            create: Some(0),
            ..schema::Decision::default()
        };
        Decisions { schema, runs, drain }
    }

    const fn job(attempt: i32) -> drain::NewJob {
        drain::NewJob {
            since: 1_700_000_000,
            attempt,
        }
    }

    /// One that was missed, and one that is asked for.
    fn runs() -> schedule::Decision {
        let interval = DataInterval {
            start: "2025-01-01T00:00:00Z".parse().unwrap(),
            end: "2025-01-01T00:05:00Z".parse().unwrap(),
        };
        let missed = schedule::NewRun {
            job: Some("users-ingest-28928165".into()),
            run_id: "2025-01-01T00:05:00Z".into(),
            kind: RunKind::CatchUp,
            interval: Some(interval),
            arguments: [].into(),
            nonce: None,
        };
        let asked_for = schedule::NewRun {
            job: None,
            run_id: "now:first".into(),
            kind: RunKind::Manual,
            arguments: [("region".to_owned(), "$(HOME)".to_owned())].into(),
            nonce: Some("first".into()),
            ..missed.clone()
        };
        schedule::Decision {
            create: vec![missed, asked_for],
            ..schedule::Decision::default()
        }
    }

    fn desired(pipeline: &userpipeline_api::UserPipeline) -> Desired {
        let runs = schedule::Decision {
            cron_job_rests: pipeline.spec.suspend,
            ..schedule::Decision::default()
        };
        let drain = drain::Decision {
            stop_workers: pipeline.spec.suspend,
            create: pipeline.spec.suspend.then_some(job(0)),
            ..drain::Decision::default()
        };
        build(&validate(pipeline).unwrap(), &installation(), &due(runs, drain), &Gate::Open)
    }

    /// What makes a run's Job differ from those of the CronJob.
    fn told(job: &Job) -> (&ObjectMeta, Option<&Vec<String>>) {
        let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        (&job.metadata, pod.containers[0].args.as_ref())
    }

    #[test]
    fn the_example_is_built_as_reviewed() {
        let mut valid = validate(&example::pipeline()).unwrap();
        // It follows from the record's schema too, which is reviewed elsewhere.
        valid.schema_hash = "0a1b2c3d".to_owned();
        let desired = build(
            &valid,
            &installation(),
            &due(
                runs(),
                drain::Decision {
                    create: Some(job(1)),
                    ..drain::Decision::default()
                },
            ),
            &Gate::Open,
        );
        insta::assert_yaml_snapshot!("service_account", desired.account);
        insta::assert_yaml_snapshot!("schema_config", desired.schema_config.unwrap());
        insta::assert_yaml_snapshot!("schema_job", desired.schema_job.unwrap());
        insta::assert_yaml_snapshot!("ingest_config", desired.ingest_config.unwrap());
        insta::assert_yaml_snapshot!("cron_job", desired.cron_job.unwrap());
        insta::assert_yaml_snapshot!("runs", desired.runs.iter().map(told).collect::<Vec<_>>());
        insta::assert_yaml_snapshot!("drain_job", desired.drain_job.as_ref().map(told));
        insta::assert_yaml_snapshot!("worker_config", desired.worker_config.unwrap());
        insta::assert_yaml_snapshot!("deployment", desired.deployment.unwrap());
        insta::assert_yaml_snapshot!("pod_disruption_budget", desired.budget.unwrap());
    }

    #[test]
    fn a_changed_cron_leaves_the_workers_as_they_are() {
        let before = desired(&example::pipeline());
        let mut pipeline = example::pipeline();
        pipeline.spec.schedule.cron = "@daily".into();
        let after = desired(&pipeline);
        assert_eq!(after.deployment, before.deployment);
        assert_ne!(after.cron_job, before.cron_job);
    }

    #[test]
    fn a_changed_batch_rolls_the_workers() {
        let before = desired(&example::pipeline()).deployment.unwrap();
        let mut pipeline = example::pipeline();
        pipeline.spec.workers.batch.max_records = 7;
        assert_ne!(
            desired(&pipeline).deployment.unwrap().spec.unwrap().template,
            before.spec.unwrap().template
        );
    }

    #[test]
    fn a_suspended_pipeline_wants_no_workers_and_no_runs() {
        let mut pipeline = example::pipeline();
        pipeline.spec.suspend = true;
        let desired = desired(&pipeline);
        assert_eq!(desired.deployment.unwrap().spec.unwrap().replicas, Some(0));
        assert_eq!(desired.cron_job.unwrap().spec.unwrap().suspend, Some(true));
    }

    #[test]
    fn pods_keep_what_they_have_while_the_schema_is_behind_but_the_rest_takes_effect() {
        let first = desired(&example::pipeline());
        let given = |template: &k8s_openapi::api::core::v1::PodTemplateSpec| Given::read(template.spec.as_ref().unwrap());
        let ingest = given(
            &first
                .cron_job
                .as_ref()
                .unwrap()
                .spec
                .as_ref()
                .unwrap()
                .job_template
                .spec
                .as_ref()
                .unwrap()
                .template,
        );
        let worker = given(&first.deployment.as_ref().unwrap().spec.as_ref().unwrap().template);
        assert!(ingest.is_some() && worker.is_some());

        let mut pipeline = example::pipeline();
        pipeline.spec.workers.batch.max_records = 7;
        pipeline.spec.workers.replicas = 0;
        pipeline.spec.schedule.cron = "@daily".into();
        let held = build(
            &validate(&pipeline).unwrap(),
            &installation(),
            &due(schedule::Decision::default(), drain::Decision::default()),
            &Gate::Held { ingest, worker },
        );

        let before = first.deployment.unwrap().spec.unwrap();
        let after = held.deployment.unwrap().spec.unwrap();
        assert_eq!(after.template, before.template);
        assert_eq!(after.replicas, Some(0));
        assert_eq!(held.cron_job.unwrap().spec.unwrap().schedule, "@daily");
        assert!(held.worker_config.is_none() && held.ingest_config.is_none());
    }

    #[test]
    fn nothing_runs_before_a_schema_was_applied() {
        let held = build(
            &validate(&example::pipeline()).unwrap(),
            &installation(),
            &due(runs(), drain::Decision::default()),
            &Gate::Held {
                ingest: None,
                worker: None,
            },
        );
        assert!(held.deployment.is_none() && held.cron_job.is_none() && held.budget.is_none());
        assert!(held.schema_job.is_some() && held.schema_config.is_some());
    }

    proptest! {
        #[test]
        fn names_are_valid_and_within_their_limits(name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", attempt in 0_i32..=i32::MAX) {
            let mut pipeline = example::pipeline();
            pipeline.metadata.name = Some(name);
            let mut decided = due(runs(), drain::Decision { create: Some(job(attempt)), ..drain::Decision::default() });
            decided.schema.create = Some(attempt);
            let desired = build(&validate(&pipeline).unwrap(), &installation(), &decided, &Gate::Open);
            let cron_job = desired.cron_job.unwrap();
            let deployment = desired.deployment.unwrap();
            prop_assert!(cron_job.metadata.name.as_ref().unwrap().len() <= 52);
            // A pod's name is its Deployment's with a ReplicaSet's hash and five characters; it becomes a label.
            prop_assert!(deployment.metadata.name.as_ref().unwrap().len() <= 63 - 11);
            let runs = desired.runs.into_iter().chain(desired.drain_job).map(|job| job.metadata);
            let metas = [desired.account.metadata, desired.schema_config.unwrap().metadata, desired.schema_job.unwrap().metadata, desired.ingest_config.unwrap().metadata,
                desired.worker_config.unwrap().metadata, desired.budget.unwrap().metadata, cron_job.metadata, deployment.metadata];
            for meta in runs.chain(metas) {
                let name = meta.name.unwrap();
                prop_assert!(name.len() <= 63, "{name}");
                prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
                prop_assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
                for value in meta.labels.unwrap().values() {
                    prop_assert!(value.len() <= 63, "{value}");
                }
            }
        }
    }
}
