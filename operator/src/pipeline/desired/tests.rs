//! The desired children, as reviewed snapshots and compared.

use kube::core::ObjectMeta;
use proptest::prelude::*;
use userpipeline_api::{Connections, DataInterval, RunKind};

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec},
    batch::v1::{CronJob, CronJobSpec, Job},
    core::v1::PodTemplateSpec,
};

use super::objects::{Desired, desired as build};
use crate::pipeline::{
    decide::{Decisions, drain, schedule, schema},
    example,
    model::{Gate, Images, Installation, PodConfigRef, labels},
    validate::validate,
};

/// A schema Job is due, with these decisions about runs and drain.
fn due(runs: schedule::Decision, drain: drain::Decision) -> Decisions {
    let schema = schema::Decision {
        create: Some(0),
        ..schema::Decision::default()
    };
    Decisions {
        schema,
        runs,
        drain,
        gate: Gate::Open,
        created_objects: Some(Vec::new()),
        ..Decisions::default()
    }
}

const fn job(attempt: i32) -> drain::NewDrainJob {
    drain::NewDrainJob {
        since: 1_700_000_000,
        attempt,
    }
}

/// A missed run, and a requested one.
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
    let requested = schedule::NewRun {
        job: None,
        run_id: "now:first".into(),
        kind: RunKind::Manual,
        arguments: [("region".to_owned(), "$(HOME)".to_owned())].into(),
        nonce: Some("first".into()),
        ..missed.clone()
    };
    schedule::Decision {
        create: vec![missed, requested],
        ..schedule::Decision::default()
    }
}

fn desired(pipeline: &userpipeline_api::UserPipeline) -> Desired {
    let runs = schedule::Decision {
        suspend_cron_job: pipeline.spec.suspend,
        ..schedule::Decision::default()
    };
    let drain = drain::Decision {
        stop_workers: pipeline.spec.suspend,
        create: pipeline.spec.suspend.then_some(job(0)),
        ..drain::Decision::default()
    };
    build(&example::validate(pipeline).unwrap(), &example::installation(), &due(runs, drain))
}

fn deployment(desired: &Desired) -> &DeploymentSpec {
    desired.workers.deployments[0].spec.as_ref().unwrap()
}

fn cron_job(desired: &Desired) -> &CronJobSpec {
    desired.schedule.cron_jobs[0].spec.as_ref().unwrap()
}

fn run_template(desired: &Desired) -> &PodTemplateSpec {
    &cron_job(desired).job_template.spec.as_ref().unwrap().template
}

/// What differs between the Job of a run and those of the CronJob.
fn differing(job: &Job) -> (&ObjectMeta, Option<&Vec<String>>) {
    let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    (&job.metadata, pod.containers[0].args.as_ref())
}

#[test]
fn the_children_of_the_example_are_as_reviewed() {
    // An older pipeline: what it has must not change with an upgrade.
    let older = serde_json::json!({"schema": {"appliedHash": "0a1b2c3d"}});
    let mut pipeline = example::pipeline();
    pipeline.status = serde_json::from_value(older).unwrap();
    let mut valid = example::validate(&pipeline).unwrap();
    // It depends on the record's schema too, which has its own snapshots.
    valid.schema_hash = "0a1b2c3d".to_owned();
    let desired = build(
        &valid,
        &example::installation(),
        &due(
            runs(),
            drain::Decision {
                create: Some(job(1)),
                ..drain::Decision::default()
            },
        ),
    );
    insta::assert_yaml_snapshot!("service_account", desired.account.accounts[0]);
    insta::assert_yaml_snapshot!("schema_config", desired.schema.config_maps[0]);
    insta::assert_yaml_snapshot!("schema_job", desired.schema.jobs[0]);
    insta::assert_yaml_snapshot!("ingest_config", desired.schedule.config_maps[0]);
    insta::assert_yaml_snapshot!("cron_job", desired.schedule.cron_jobs[0]);
    insta::assert_yaml_snapshot!("runs", desired.runs.iter().map(differing).collect::<Vec<_>>());
    insta::assert_yaml_snapshot!("drain_job", desired.drain.jobs.first().map(differing));
    insta::assert_yaml_snapshot!("worker_config", desired.workers.config_maps[0]);
    insta::assert_yaml_snapshot!("deployment", desired.workers.deployments[0]);
    insta::assert_yaml_snapshot!("pod_disruption_budget", desired.workers.budgets[0]);
}

#[test]
fn a_changed_cron_leaves_the_workers_as_they_are() {
    let before = desired(&example::pipeline());
    let mut pipeline = example::pipeline();
    pipeline.spec.schedule.as_mut().unwrap().cron = "@daily".into();
    let after = desired(&pipeline);
    assert_eq!(deployment(&after), deployment(&before));
    assert_ne!(cron_job(&after), cron_job(&before));
}

#[test]
fn a_changed_batch_rolls_the_workers() {
    let before = desired(&example::pipeline());
    let mut pipeline = example::pipeline();
    pipeline.spec.workers.batch.max_records = 7;
    assert_ne!(deployment(&desired(&pipeline)).template, deployment(&before).template);
}

#[test]
fn a_suspended_pipeline_has_no_workers_and_no_runs() {
    let mut pipeline = example::pipeline();
    pipeline.spec.suspend = true;
    let desired = desired(&pipeline);
    assert_eq!(deployment(&desired).replicas, Some(0));
    assert_eq!(cron_job(&desired).suspend, Some(true));
}

#[test]
fn while_the_schema_is_not_applied_pods_keep_their_configs_and_other_changes_take_effect() {
    let first = desired(&example::pipeline());
    let ingest = PodConfigRef::of_template(run_template(&first));
    let worker = PodConfigRef::of_template(&deployment(&first).template);
    assert!(ingest.is_some() && worker.is_some());

    let mut pipeline = example::pipeline();
    pipeline.spec.workers.batch.max_records = 7;
    pipeline.spec.workers.replicas = 0;
    pipeline.spec.schedule.as_mut().unwrap().cron = "@daily".into();
    let decisions = Decisions {
        gate: Gate::Held { ingest, worker },
        ..due(schedule::Decision::default(), drain::Decision::default())
    };
    let held = build(&example::validate(&pipeline).unwrap(), &example::installation(), &decisions);

    let (before, after) = (deployment(&first), deployment(&held));
    assert_eq!(after.template, before.template);
    assert_eq!(after.replicas, Some(0));
    assert_eq!(cron_job(&held).schedule, "@daily");
    assert!(held.workers.config_maps.is_empty() && held.schedule.config_maps.is_empty());
}

#[test]
fn without_an_applied_schema_there_are_neither_workers_nor_runs() {
    let decisions = Decisions {
        gate: Gate::Held {
            ingest: None,
            worker: None,
        },
        ..due(runs(), drain::Decision::default())
    };
    let held = build(
        &example::validate(&example::pipeline()).unwrap(),
        &example::installation(),
        &decisions,
    );
    assert!(held.workers.deployments.is_empty() && held.schedule.cron_jobs.is_empty() && held.workers.budgets.is_empty());
    assert_eq!((held.schema.jobs.len(), held.schema.config_maps.len()), (1, 1));
}

proptest! {
    #[test]
    fn names_are_valid_and_within_their_limits(name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", attempt in 0_i32..=i32::MAX) {
        let mut pipeline = example::pipeline();
        pipeline.metadata.name = Some(name);
        let mut decided = due(runs(), drain::Decision { create: Some(job(attempt)), ..drain::Decision::default() });
        decided.schema.create = Some(attempt);
        let desired = build(&example::validate(&pipeline).unwrap(), &example::installation(), &decided);
        let (cron_job, deployment): (&CronJob, &Deployment) = (&desired.schedule.cron_jobs[0], &desired.workers.deployments[0]);
        prop_assert!(cron_job.metadata.name.as_ref().unwrap().len() <= 52);
        // A pod's name is its Deployment's with a ReplicaSet's hash and five characters; it becomes a label.
        prop_assert!(deployment.metadata.name.as_ref().unwrap().len() <= 63 - 11);
        let jobs = desired.runs.iter().chain(&desired.drain.jobs).chain(&desired.schema.jobs).map(|job| &job.metadata);
        let config_maps = desired.steps().into_iter().flat_map(|step| &step.config_maps).map(|config_map| &config_map.metadata);
        let others = [&desired.account.accounts[0].metadata, &desired.workers.budgets[0].metadata, &cron_job.metadata, &deployment.metadata];
        for meta in jobs.chain(config_maps).chain(others) {
            let name = meta.name.clone().unwrap();
            prop_assert!(name.len() <= 63, "{name}");
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
            prop_assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
            for value in meta.labels.as_ref().unwrap().values() {
                prop_assert!(value.len() <= 63, "{value}");
            }
        }
    }
}

#[test]
fn pods_have_their_authors_settings_and_the_operators_labels() {
    let mut pipeline = example::pipeline();
    let settings = serde_json::json!({
        "resources": {"requests": {"cpu": "1"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "high",
        "labels": {"team": "data"},
        "annotations": {"note": "x", "prometheus.io/scrape": "false"},
        "proxy": {"https": "http://proxy:3128", "noProxy": ".local"},
    });
    pipeline.spec.pods = serde_json::from_value(serde_json::json!({"ingest": settings, "workers": settings, "tasks": settings})).unwrap();
    pipeline.spec.suspend = true;
    let desired = desired(&pipeline);
    let templates = [
        &deployment(&desired).template,
        run_template(&desired),
        &desired.schema.jobs[0].spec.as_ref().unwrap().template,
        &desired.drain.jobs[0].spec.as_ref().unwrap().template,
    ];
    for template in templates.map(Clone::clone) {
        let (metadata, pod) = (template.metadata.unwrap(), template.spec.unwrap());
        let container = &pod.containers[0];
        assert_eq!(metadata.labels.as_ref().unwrap()["team"], "data");
        assert_eq!(metadata.labels.unwrap()[labels::PIPELINE], "users");
        assert_eq!(metadata.annotations.unwrap()["prometheus.io/scrape"], "false");
        assert_eq!(pod.node_selector.unwrap()["disk"], "ssd");
        assert_eq!(
            (pod.tolerations.unwrap().len(), pod.topology_spread_constraints.unwrap().len()),
            (1, 1)
        );
        assert!(pod.affinity.is_some() && pod.priority_class_name.as_deref() == Some("high"));
        assert_eq!(container.resources.as_ref().unwrap().limits, None);
        let proxies: Vec<&str> = container
            .env
            .iter()
            .flatten()
            .map(|env| env.name.as_str())
            .filter(|name| name.contains("PROXY"))
            .collect();
        assert_eq!(proxies, ["HTTPS_PROXY", "NO_PROXY"]);
    }
}

#[test]
fn an_upgraded_operator_rolls_workers_that_are_not_pinned() {
    let upgraded = Installation {
        images: Images {
            tag: "0.2.0".into(),
            ..example::images()
        },
        ..example::installation()
    };
    let template = |pipeline: &userpipeline_api::UserPipeline, installation: &Installation| {
        let valid = validate(pipeline, &Connections::new(), installation).unwrap();
        let none = due(schedule::Decision::default(), drain::Decision::default());
        deployment(&build(&valid, installation, &none)).template.clone()
    };
    let unpinned = example::pipeline();
    assert_ne!(template(&unpinned, &example::installation()), template(&unpinned, &upgraded));
    let mut pinned = example::pipeline();
    pinned.spec.image = serde_json::from_value(serde_json::json!({"version": "0.1.0"})).unwrap();
    assert_eq!(template(&pinned, &example::installation()), template(&pinned, &upgraded));
}
