//! `userpipeline-operator plan`, the settings of pods, and pinned versions.

use std::{io::Write, process::Stdio};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, examples, guide, services::host_name, stores, world::SOON};

/// Exit code, output and errors of `userpipeline-operator plan -f -`.
pub async fn plan(pipeline: &Value, more: &'static [&'static str]) -> Result<(i32, String, String)> {
    let pipeline = pipeline.clone();
    // The tests' pipelines have addresses of their own.
    let services = ["postgres", "kafka", "schema-registry", "cassandra"].into_iter();
    let hosts: Vec<String> = services
        .filter(|_| more.contains(&"--schema"))
        .map(|service| format!("--allow-host={}", host_name(service)))
        .collect();
    tokio::task::spawn_blocking(move || {
        let mut child = std::process::Command::new(guide::operator_program()?)
            .args(["plan", "-f", "-"])
            .args(more)
            .args(hosts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("stdin")?.write_all(pipeline.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_can_be_planned_before_it_exists_with_every_policy() -> Result<()> {
    // Given the connections of the examples, and no pipeline
    let world = World::new("plan-examples").await?;
    world.create_connections().await?;
    for (file, mut manifest) in examples::manifests(&world.namespace)? {
        if manifest["kind"] != "UserPipeline" {
            continue;
        }
        examples::remove_names(&mut manifest);
        for (deletion, suspension) in [("Retain", "Finish"), ("Delete", "Stop")] {
            // When an example is planned, Then everything would be created, and nothing is
            manifest["spec"]["deletionPolicy"] = json!(deletion);
            manifest["spec"]["suspendPolicy"] = json!(suspension);
            let (code, output, errors) = plan(&manifest, &[]).await?;
            assert_eq!(code, 1, "{file}, {deletion}: {output}{errors}");
            let name = manifest["metadata"]["name"].as_str().context("a name")?;
            assert!(
                output.contains(&format!("+ Deployment {name}-worker")),
                "{file}, {deletion}: {output}"
            );
        }
    }
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_prints_what_would_change_and_changes_nothing() -> Result<()> {
    // Given a namespace without a pipeline, When one is planned, Then everything would be created, and nothing is
    let world = World::new("plan").await?;
    let mut pipeline = world.pipeline();
    let (code, output, errors) = plan(&pipeline, &["--schema"]).await?;
    assert_eq!(code, 1, "{output}{errors}");
    let landing = names::landing_table(&world.id());
    for line in [
        &format!("! PostgreSQL: CREATE TABLE IF NOT EXISTS \"{landing}\""),
        "! Cassandra: CREATE TABLE",
        &format!("! Kafka: topic {} is made with 3 partitions", names::topic(&world.id())),
        "! registry: subject",
        "! Job users-schema-",
        "+ UserPipeline users",
        "+ CronJob users-ingest",
        "+ Deployment users-worker",
    ] {
        assert!(output.contains(line), "{line} in {output}");
    }
    let db = stores::postgres(&world.client).await?;
    let tables = format!("SELECT count(*) FROM pg_tables WHERE tablename = '{landing}'");
    assert_eq!(stores::number(&db, &tables).await?, 0);
    assert!(!stores::topics().await?.contains(&names::topic(&world.id())));
    assert!(
        world
            .api::<ConfigMap>()
            .list(&ListParams::default().labels("userpipeline.dev/pipeline=users"))
            .await?
            .items
            .is_empty()
    );
    assert!(world.api::<userpipeline_api::UserPipeline>().get_opt("users").await?.is_none());

    // Given it is applied and ready, When it is planned again, Then nothing would change
    world.apply(&pipeline).await?;
    world.ready().await?;
    let settled = async || {
        let jobs = world.api::<Job>().list(&ListParams::default()).await?.items.len();
        anyhow::Ok(if jobs == 0 { Ok(()) } else { Err(format!("{jobs} Jobs")) })
    };
    eventually("the schema Job to be gone", SOON, settled).await?;
    let (code, output, errors) = plan(&pipeline, &["--schema"]).await?;
    let nothing = "! nothing would change: topic, subject and tables match the spec\n";
    assert_eq!((code, output.as_str()), (0, nothing), "{errors}");

    // When another batch is planned, Then the workers would get another ConfigMap, and still have the old one
    let before = world.workers().await?.resource_version();
    pipeline["spec"]["workers"] = json!({"batch": {"maxRecords": 17}});
    let (code, output, _) = plan(&pipeline, &[]).await?;
    assert_eq!(code, 1);
    for line in [
        "~ UserPipeline users",
        "+ ConfigMap users-worker-",
        "~ Deployment users-worker",
        "maxRecords: 17",
    ] {
        assert!(output.contains(line), "{line} in {output}");
    }
    assert!(!output.contains("CronJob") && !output.contains("Job users-schema"), "{output}");
    assert_eq!(world.workers().await?.resource_version(), before);

    // When an invalid spec is planned, Then the field is reported
    pipeline["spec"]["schedule"]["cron"] = json!("30-10 * * * *");
    let (code, _, errors) = plan(&pipeline, &[]).await?;
    assert_eq!(code, 2);
    assert!(errors.contains("spec.schedule.cron"), "{errors}");
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_have_the_settings_of_the_spec_and_an_unschedulable_one_is_reported_by_name() -> Result<()> {
    // Given a pipeline whose workers select a missing node
    let world = World::new("pods").await?;
    let mut pipeline = world.pipeline();
    let settings = json!({"labels": {"team": "data"}, "annotations": {"note": "x"}, "resources": {"requests": {"memory": "48Mi"}, "limits": {"memory": "200Mi"}}});
    pipeline["spec"]["pods"] = json!({"ingest": settings, "workers": settings, "tasks": settings});
    pipeline["spec"]["pods"]["workers"]["nodeSelector"] = json!({"no-such-label": "x"});
    world.apply(&pipeline).await?;

    // Then the condition reports it
    let (_, message) = world
        .condition_where("WorkersReady", "False", SOON, |reason, _| reason == "Unschedulable")
        .await?;
    assert!(message.contains("users-worker"), "{message}");

    // When they may run on any node, Then they run with the settings of the spec
    pipeline["spec"]["pods"]["workers"] = settings;
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;
    for component in ["worker", "ingest"] {
        let pods: Vec<Pod> = world.pods(component).await?;
        let pod = pods.first().context("a pod")?;
        assert_eq!((pod.labels()["team"].as_str(), pod.annotations()["note"].as_str()), ("data", "x"));
        let limits = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.containers[0].resources.clone())
            .and_then(|r| r.limits);
        assert_eq!(limits.context("limits")?["memory"].0, "200Mi");
    }

    // When labels would hide them from the operator, or their images are not allowed, Then the field is refused by name
    for (part, value, field) in [
        (
            "/spec/pods/workers",
            json!({"labels": {"app.kubernetes.io/instance": "x"}}),
            "spec.pods.workers.labels.app.kubernetes.io/instance",
        ),
        ("/spec", json!({"image": {"registry": "evil.example"}}), "spec.image.registry"),
    ] {
        let mut wrong = pipeline.clone();
        let place = wrong.pointer_mut(part).and_then(Value::as_object_mut).context("a place")?;
        place.extend(value.as_object().context("an object")?.clone());
        world.apply(&wrong).await?;
        let (reason, message) = world.condition("Ready", "False", SOON).await?;
        assert!(reason == "InvalidSpec" && message.contains(field), "{reason}: {message}");
    }
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_version_stays_and_the_available_version_is_reported() -> Result<()> {
    // Given a suspended pipeline that pins a missing version
    let world = World::new("version").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["image"] = json!({"version": "0.0.1"});
    world.apply(&pipeline).await?;

    // Then the status shows the version of the operator, and the condition reports the missing image
    let (reason, message) = world
        .condition_where("SchemaReady", "False", SOON, |reason, _| {
            reason.contains("Image") || reason.contains("ErrImage")
        })
        .await?;
    assert!(message.contains("0.0.1"), "{reason}: {message}");
    let version = world.get().await?.status.and_then(|status| status.version).context("a version")?;
    assert_eq!(version.wanted, "0.0.1");
    assert!(version.available.is_some());

    // When the pin is removed, Then it is ready with the version of the operator
    pipeline["spec"]["image"] = Value::Null;
    world.apply(&pipeline).await?;
    world.ready().await?;
    let status = world.get().await?.status.context("a status")?;
    assert_eq!(status.version.context("a version")?.available, None);
    world.clean_up().await
}
