//! Operations of users: edits, suspension, scaling.

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::api::Patch;
use kube::api::PatchParams;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeSet;
use userpipeline_api::names;
use userpipeline_api::{UserPipeline, UserPipelineBackfill, UserPipelineConnection};
use userpipeline_tests::World;
use userpipeline_tests::eventually;
use userpipeline_tests::examples;
use userpipeline_tests::source;
use userpipeline_tests::stores;
use userpipeline_tests::world::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn edits_take_effect_and_a_changed_cron_does_not_roll_the_workers() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("edits").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let before: BTreeSet<_> = world.pods("worker").await?.iter().map(ResourceExt::uid).collect();

    // When the cron changes
    pipeline["spec"]["schedule"]["cron"] = json!("30 4 * * *");
    world.apply(&pipeline).await?;
    world.ready().await?;

    // Then the CronJob has the new one, and the workers are the same pods
    let cron_job: CronJob = world.api().get(&names::cron_job("users")).await?;
    assert_eq!(cron_job.spec.context("a spec")?.schedule, "30 4 * * *");
    assert_eq!(
        world.pods("worker").await?.iter().map(ResourceExt::uid).collect::<BTreeSet<_>>(),
        before
    );

    // When the replicas change, Then there are as many workers, the previous ones among them
    pipeline["spec"]["workers"] = json!({"replicas": 2});
    world.apply(&pipeline).await?;
    world.ready().await?;
    assert_eq!(
        world.get().await?.status.and_then(|s| s.workers).map(|w| w.summary),
        Some("2/2".to_owned())
    );
    assert!(
        world
            .pods("worker")
            .await?
            .iter()
            .map(ResourceExt::uid)
            .collect::<BTreeSet<_>>()
            .is_superset(&before)
    );

    // When the batch changes, Then the workers are replaced
    pipeline["spec"]["workers"]["batch"] = json!({"maxRecords": 17});
    world.apply(&pipeline).await?;
    world.ready().await?;
    eventually("workers with the new batch only", SOON, async || {
        let pods = world.pods("worker").await?;
        let old = pods.iter().filter(|pod| before.contains(&pod.uid())).count();
        Ok(if old == 0 && pods.len() == 2 {
            Ok(())
        } else {
            Err(format!("{old} of {} are old", pods.len()))
        })
    })
    .await?;
    let mounted = config_map_of(&world.pods("worker").await?[0]).context("a ConfigMap")?;
    let document = world.api::<ConfigMap>().get(&mounted).await?.data.unwrap_or_default();
    assert!(document["pipeline.yaml"].contains("maxRecords: 17"), "{document:?}");

    // And pending records still arrive
    world.run("after-edits").await?;
    world.drained(200).await?;
    world.clean_up().await
}

fn config_map_of(pod: &Pod) -> Option<String> {
    pod.spec
        .as_ref()?
        .volumes
        .iter()
        .flatten()
        .find_map(|volume| volume.config_map.as_ref().map(|c| c.name.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_pipeline_stops_and_resumes_where_it_stopped() -> Result<()> {
    // Given a pipeline that has stored its first run
    let world = World::new("suspend").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("before").await?;
    world.drained(200).await?;
    let stored = world.get().await?.status.and_then(|s| s.totals).context("totals")?.stored;

    // When it is suspended
    pipeline["spec"]["suspend"] = json!(true);
    world.apply(&pipeline).await?;
    let (reason, message) = world.condition("Suspended", "True", SOON).await?;

    // Then all of it is verified to be stored and committed
    assert_eq!(reason, "Drained", "{message}");
    let drain = world
        .get()
        .await?
        .status
        .and_then(|s| s.drain)
        .context("what the drain Job has found")?;
    assert_eq!((drain.offsets.values().sum::<i64>(), drain.lag), (stored, 0), "{drain:?}");

    // And no worker runs (a pod may still be listed as Succeeded), the schedule is suspended, and the pipeline is Ready
    let ended = |pod: &Pod| matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
    let running: Vec<_> = world.pods("worker").await?.into_iter().filter(|pod| !ended(pod)).collect();
    assert!(running.is_empty(), "a worker still runs: {running:?}");
    assert_eq!(
        world
            .api::<CronJob>()
            .get(&names::cron_job("users"))
            .await?
            .spec
            .and_then(|s| s.suspend),
        Some(true)
    );
    world.ready().await?;

    // When it resumes
    pipeline["spec"]["suspend"] = json!(false);
    world.apply(&pipeline).await?;
    world.condition("Suspended", "False", SOON).await?;
    world.ready().await?;

    // Then it continues where it stopped: nothing is stored twice, and new records arrive
    pipeline["spec"]["source"]["http"]["query"][1]["value"] = json!(format!("{}-2", world.seed));
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("after").await?;
    world.drained(stored + 200).await?;
    assert_eq!(
        world.get().await?.status.and_then(|s| s.totals).map(|t| t.stored),
        Some(stored + 200)
    );
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_run_finishes_or_is_stopped_and_resumes_with_its_pipeline() -> Result<()> {
    // Given a ready pipeline and a run whose source hangs
    let world = World::new("stop-run").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["source"]["http"]["timeout"] = json!("10m");
    pipeline["spec"]["source"]["http"]["runDuration"] = json!("15m");
    pipeline["spec"]["source"]["http"]["maxRecordsPerRun"] = json!(200);
    world.apply(&pipeline).await?;
    world.ready().await?;
    source::set_fault(&json!({"kind": "hang", "seconds": 600, "times": 1, "seed": world.seed})).await?;
    world.start_run("hanging").await?;
    eventually("the run to hang", SOON, async || {
        let requests = source::requests(&world.seed).await?;
        Ok(if requests["faults"].as_i64() == Some(1) {
            Ok(())
        } else {
            Err(requests.to_string())
        })
    })
    .await?;

    // When the pipeline is suspended, Then the run may finish, and the workers stay with it
    pipeline["spec"]["suspend"] = json!(true);
    world.apply(&pipeline).await?;
    world
        .condition_where("Suspended", "False", SOON, |reason, message| {
            reason == "Draining" && message.contains("hanging")
        })
        .await?;
    assert_eq!(world.workers().await?.spec.and_then(|spec| spec.replicas), Some(1));

    // When the policy stops runs, Then it is stopped, and the pipeline is drained
    pipeline["spec"]["suspendPolicy"] = json!("Stop");
    world.apply(&pipeline).await?;
    let (reason, message) = world.condition("Suspended", "True", SOON).await?;
    assert_eq!(reason, "Drained", "{message}");
    assert!(
        world
            .api::<Job>()
            .get("hanging")
            .await?
            .spec
            .and_then(|spec| spec.suspend)
            .unwrap_or(false)
    );

    // When it resumes, Then the run resumes too, and it is still one run
    pipeline["spec"]["suspend"] = json!(false);
    world.apply(&pipeline).await?;
    world.finished("hanging", "Complete").await?;
    world.drained(200).await?;
    let db = stores::postgres(&world.client).await?;
    let runs = stores::number(
        &db,
        &format!(
            "SELECT count(*) FROM userpipeline.runs WHERE pipeline = '{}' AND state = 'Succeeded' AND landed = 200",
            world.id()
        ),
    )
    .await?;
    assert_eq!(runs, 1);
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_can_be_applied_unchanged() -> Result<()> {
    // Given the connections of the examples
    let world = World::new("examples").await?;
    world.create_connections().await?;

    // When an example, or the first pipeline of the README, is applied unchanged
    let readme = (README.to_owned(), first_pipeline(&world.namespace)?);
    for (file, mut resource) in examples::manifests(&world.namespace)?.into_iter().chain([readme]) {
        let name = resource["metadata"]["name"].as_str().context("a name")?.to_owned();

        // Then the API server accepts it, and pipelines become ready
        match resource["kind"].as_str() {
            Some("UserPipelineBackfill") => dry_run::<UserPipelineBackfill>(&world, &name, &resource).await,
            Some("UserPipelineConnection") => dry_run::<UserPipelineConnection>(&world, &name, &resource).await,
            _ => {
                resource["metadata"]["name"] = json!("users");
                dry_run::<UserPipeline>(&world, "users", &resource)
                    .await
                    .with_context(|| file.clone())?;
                becomes_ready(&world, resource).await
            }
        }
        .with_context(|| file.clone())?;
    }
    world.clean_up().await
}

const README: &str = "README.md";

/// The first pipeline of the README, in this namespace.
fn first_pipeline(namespace: &str) -> Result<serde_json::Value> {
    let readme = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(README))?;
    let first = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut pipeline: serde_json::Value = serde_yaml::from_str(first.context("a pipeline in the README")?)?;
    pipeline["metadata"]["namespace"] = json!(namespace);
    Ok(pipeline)
}

async fn dry_run<K>(world: &World, name: &str, resource: &serde_json::Value) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = PatchParams::apply("end-to-end").dry_run();
    world.api::<K>().patch(name, &params, &Patch::Apply(resource)).await?;
    Ok(())
}

/// Applies an example without runs and with derived names, which are free, and deletes it again.
async fn becomes_ready(world: &World, mut pipeline: serde_json::Value) -> Result<()> {
    pipeline["spec"]["suspend"] = json!(true);
    // With its tables, because the next example has the same names and other records.
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    examples::remove_names(&mut pipeline);
    world.apply(&pipeline).await?;
    world.condition("Suspended", "True", SOON).await?;
    world.ready().await?;
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    eventually("the example to be gone", SOON, async || {
        let left = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status.map(|status| status.deletion)))))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scale_subresource_scales_the_workers_and_idle_ones_are_reported() -> Result<()> {
    // Given a ready pipeline with three partitions and one worker
    let world = World::new("scale").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;

    // When it is scaled to four, as `kubectl scale` and autoscalers do
    let pipelines = world.api::<UserPipeline>();
    let four = Patch::Merge(json!({"spec": {"replicas": 4}}));
    pipelines.patch_scale("users", &PatchParams::default(), &four).await?;

    // Then there are four workers, and one of them is reported as idle
    let (reason, message) = world
        .condition_where("WorkersReady", "True", SOON, |_, message| message.starts_with("4 of 4"))
        .await?;
    assert_eq!(reason, "IdleWorkers", "{message}");
    let scale = pipelines.get_scale("users").await?;
    let status = scale.status.context("a status")?;
    assert_eq!(status.replicas, 4);
    assert!(status.selector.context("a selector")?.contains("app.kubernetes.io/instance=users"));
    world.clean_up().await
}
