//! What is built, reviewed as snapshots, and compared.

use kube::core::ObjectMeta;
use proptest::prelude::*;
use userpipeline_api::{DataInterval, RunKind};

use super::*;
use crate::pipeline::{example, validate::validate};

fn installation() -> Installation {
    Installation {
        images: example::images(),
        cluster: "22222222-3333-4444-5555-666666666666".into(),
    }
}

/// A schema Job is due, and what is given of runs and draining.
fn due(runs: schedule::Decision, drain: drain::Decision) -> Decisions {
    let schema = schema::Decision {
        create: Some(0),
        ..schema::Decision::default()
    };
    Decisions {
        schema,
        runs,
        drain,
        workers_first: false,
    }
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
    build(
        &validate(pipeline, &installation().images).unwrap(),
        &installation(),
        &due(runs, drain),
        &Gate::Open,
    )
}

/// What makes a run's Job differ from those of the CronJob.
fn told(job: &Job) -> (&ObjectMeta, Option<&Vec<String>>) {
    let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    (&job.metadata, pod.containers[0].args.as_ref())
}

#[test]
fn the_example_is_built_as_reviewed() {
    let mut valid = validate(&example::pipeline(), &installation().images).unwrap();
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
    pipeline.spec.schedule.as_mut().unwrap().cron = "@daily".into();
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
    pipeline.spec.schedule.as_mut().unwrap().cron = "@daily".into();
    let held = build(
        &validate(&pipeline, &installation().images).unwrap(),
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
        &validate(&example::pipeline(), &installation().images).unwrap(),
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
        let desired = build(&validate(&pipeline, &installation().images).unwrap(), &installation(), &decided, &Gate::Open);
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

#[test]
fn pods_are_as_their_author_says_and_still_known_to_the_operator() {
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
        desired.deployment.unwrap().spec.unwrap().template,
        desired.cron_job.unwrap().spec.unwrap().job_template.spec.unwrap().template,
        desired.schema_job.unwrap().spec.unwrap().template,
        desired.drain_job.unwrap().spec.unwrap().template,
    ];
    for template in templates {
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
fn an_upgraded_operator_rolls_the_workers_that_are_not_pinned() {
    let upgraded = Installation {
        images: Images {
            tag: "0.2.0".into(),
            ..example::images()
        },
        ..installation()
    };
    let template = |pipeline: &userpipeline_api::UserPipeline, installation: &Installation| {
        let valid = validate(pipeline, &installation.images).unwrap();
        let none = due(schedule::Decision::default(), drain::Decision::default());
        build(&valid, installation, &none, &Gate::Open)
            .deployment
            .unwrap()
            .spec
            .unwrap()
            .template
    };
    let free = example::pipeline();
    assert_ne!(template(&free, &installation()), template(&free, &upgraded));
    let mut pinned = example::pipeline();
    pinned.spec.image = serde_json::from_value(serde_json::json!({"version": "0.1.0"})).unwrap();
    assert_eq!(template(&pinned, &installation()), template(&pinned, &upgraded));
}
