//! Pipelines that take their addresses from connections.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use userpipeline_api::{BlockCheck, UserPipeline, UserPipelineConnection, names};
use userpipeline_tests::{World, eventually, world::SOON};

/// Pipelines that share a connection, unless `CONNECTION_PIPELINES` says otherwise.
const PIPELINES: usize = 8;
const AT_ONCE: usize = 5;

/// Moves these members of a block into another object.
fn take(block: &mut Value, members: &[&str]) -> Value {
    let Some(block) = block.as_object_mut() else { return Value::Null };
    let taken = members.iter().filter_map(|name| Some(((*name).to_owned(), block.remove(*name)?)));
    Value::Object(taken.collect::<Map<_, _>>())
}

/// The pipeline of the world without addresses, and connections that have them.
pub fn moved(world: &World) -> (Value, [Value; 2]) {
    let mut pipeline = world.pipeline();
    let spec = &mut pipeline["spec"];
    let mut stores = take(spec, &["postgres", "cassandra", "schemaRegistry"]);
    stores["kafka"] = take(&mut spec["kafka"], &["bootstrapServers", "tls", "auth"]);
    stores["cassandra"]["replication"] = take(&mut spec["sinks"]["cassandra"], &["replication"])["replication"].clone();
    let http = &mut spec["source"]["http"];
    let mut api = take(http, &["url", "tls", "auth"]);
    let url = take(&mut api, &["url"])["url"].as_str().unwrap_or_default().to_owned();
    let path = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    api["baseUrl"] = json!(url[..path]);
    http["path"] = json!(url[path..]);
    spec["connections"] = json!([{"name": "stores"}, {"name": "source"}]);
    let connection = |name: &str, spec: Value| json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineConnection", "metadata": {"name": name}, "spec": spec});
    (pipeline, [connection("stores", stores), connection("source", json!({"http": api}))])
}

pub async fn connect(world: &World, connections: &[Value]) -> Result<()> {
    let by = PatchParams::apply("end-to-end").force();
    for connection in connections {
        let name = connection["metadata"]["name"].as_str().unwrap_or_default();
        world
            .api::<UserPipelineConnection>()
            .patch(name, &by, &Patch::Apply(connection))
            .await?;
    }
    Ok(())
}

async fn change_host(world: &World, host: &str) -> Result<()> {
    let change = json!({"spec": {"postgres": {"host": host}}});
    world
        .api::<UserPipelineConnection>()
        .patch("stores", &PatchParams::default(), &Patch::Merge(change))
        .await?;
    Ok(())
}

async fn workers_generation(world: &World) -> Result<Option<i64>> {
    let workers = world.api::<Deployment>().get(&names::workers("users")).await?;
    Ok(workers.metadata.generation)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_moves_to_connections_without_a_restart_and_follows_them() -> Result<()> {
    // Given a pipeline with addresses of its own
    let world = World::new("connections").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    let before = workers_generation(&world).await?;

    // When it takes them from connections that do not exist, it keeps its workers
    let (pipeline, connections) = moved(&world);
    world.apply(&pipeline).await?;
    let (reason, message) = world.condition("Ready", "False", SOON).await?;
    ensure!(
        reason == "ConnectionMissing" && message.contains("stores, source"),
        "{reason}: {message}"
    );

    // And when the connections exist, nothing restarts
    connect(&world, &connections).await?;
    world.ready().await?;
    ensure!(workers_generation(&world).await? == before, "the workers were replaced");
    eventually("the number of pipelines", SOON, async || {
        let stores = world.api::<UserPipelineConnection>().get("stores").await?;
        let status = stores.status.unwrap_or_default();
        let accepted = status.conditions.iter().any(|c| c.type_ == "Accepted" && c.status == "True");
        Ok(if accepted && status.pipelines == 1 {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        })
    })
    .await?;

    // When a connection leads nowhere, the schema Job says so and the workers keep what they have
    change_host(&world, "nowhere.services.svc").await?;
    world
        .condition_where("SchemaReady", "False", SOON, |reason, _| reason == "PostgresUnreachable")
        .await?;
    ensure!(workers_generation(&world).await? == before, "the workers were replaced");

    // And when it is corrected, they get it
    change_host(&world, "postgres.services.svc").await?;
    world.ready().await?;
    let rolled_out = async || {
        let status = world.get().await?.status.unwrap_or_default();
        Ok(status.connection_rollout.map_or(Ok(()), |rollout| Err(format!("{rollout:?}"))))
    };
    eventually("the end of the rollout", SOON, rolled_out).await?;
    ensure!(workers_generation(&world).await? > before, "the workers were not replaced");
    world.clean_up().await
}

fn pipeline_of(object: &impl ResourceExt) -> Option<String> {
    object.labels().get("userpipeline.dev/pipeline").cloned()
}

/// The pipelines that change: with a slot, with workers that are being replaced, and with a schema Job. Each is of one moment.
async fn changing(world: &World) -> Result<[BTreeSet<String>; 3]> {
    let rolls_out = |workers: &&Deployment| {
        let (spec, status) = (workers.spec.clone().unwrap_or_default(), workers.status.clone().unwrap_or_default());
        status.observed_generation != workers.metadata.generation || status.updated_replicas.unwrap_or(0) < spec.replicas.unwrap_or(1)
    };
    let has_slot = |pipeline: &&UserPipeline| pipeline.status.as_ref().is_some_and(|status| status.connection_rollout.is_some());
    let pipelines = world.api::<UserPipeline>().list(&ListParams::default()).await?.items;
    let workers = world.api::<Deployment>().list(&ListParams::default()).await?.items;
    let schema = ListParams::default().labels("app.kubernetes.io/component=schema");
    let jobs = world.api::<Job>().list(&schema).await?.items;
    Ok([
        pipelines.iter().filter(has_slot).map(ResourceExt::name_any).collect(),
        workers.iter().filter(rolls_out).filter_map(pipeline_of).collect(),
        jobs.iter().filter_map(pipeline_of).collect(),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_connection_reaches_few_pipelines_at_a_time() -> Result<()> {
    // Given pipelines that share connections
    let world = World::new("rollouts").await?;
    let count = std::env::var("CONNECTION_PIPELINES").map_or(Ok(PIPELINES), |count| count.parse())?;
    let time = SOON * u32::try_from(count)?.div_ceil(4);
    let (mut pipeline, connections) = moved(&world);
    pipeline["spec"]["sinks"] = json!({"postgres": {}});
    connect(&world, &connections).await?;
    for n in 0..count {
        let mut pipeline = pipeline.clone();
        pipeline["metadata"]["name"] = json!(format!("users-{n}"));
        world.apply(&pipeline).await?;
    }
    let pipelines = async || Ok::<_, anyhow::Error>(world.api::<UserPipeline>().list(&ListParams::default()).await?.items);
    let all_follow = |pipelines: &[UserPipeline], generation: i64| {
        let follows = |pipeline: &UserPipeline| {
            let status = pipeline.status.clone().unwrap_or_default();
            let is_ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            let version = status.connections.iter().find(|connection| connection.name == "stores");
            is_ready && status.connection_rollout.is_none() && version.is_some_and(|version| version.generation >= generation)
        };
        let behind: Vec<String> = pipelines
            .iter()
            .filter(|pipeline| !follows(pipeline))
            .map(ResourceExt::name_any)
            .collect();
        if behind.is_empty() { Ok(()) } else { Err(behind.join(", ")) }
    };
    eventually("all pipelines to be ready and idle", time, async || {
        let changing = changing(&world).await?;
        if changing.iter().any(|pipelines| !pipelines.is_empty()) {
            return Ok(Err(format!("{changing:?}")));
        }
        Ok(all_follow(&pipelines().await?, 1))
    })
    .await?;

    // When the host becomes another name of the same server, then no more than five change at any time, and all end Ready
    change_host(&world, "postgres.services.svc").await?;
    let mut most = 0;
    eventually("all pipelines to follow", time, async || {
        let changing = changing(&world).await?;
        let largest = changing.iter().map(BTreeSet::len).max().unwrap_or(0);
        most = most.max(largest);
        ensure!(largest <= AT_ONCE, "{changing:?} change at the same time");
        Ok(all_follow(&pipelines().await?, 2))
    })
    .await?;
    ensure!(most > 0, "no pipeline was observed while it changed");
    println!("{count} pipelines, at most {most} at the same time");
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_suspended_and_deleted_with_its_data_although_its_connections_are_gone() -> Result<()> {
    let world = World::new("orphans").await?;
    let (mut pipeline, connections) = moved(&world);
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    connect(&world, &connections).await?;
    world.apply(&pipeline).await?;
    world.ready().await?;
    for name in ["stores", "source"] {
        let connections = world.api::<UserPipelineConnection>();
        connections.delete(name, &DeleteParams::default()).await?;
    }
    world
        .condition_where("Ready", "False", SOON, |reason, _| reason == "ConnectionMissing")
        .await?;
    // It can still be suspended
    let suspend = json!({"spec": {"suspend": true}});
    let pipelines = world.api::<UserPipeline>();
    pipelines.patch("users", &PatchParams::default(), &Patch::Merge(suspend)).await?;
    world.condition("Suspended", "True", SOON).await?;
    pipelines.delete("users", &DeleteParams::default()).await?;
    eventually("the pipeline to be gone", SOON, async || {
        let left = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status))))
    })
    .await?;
    world.clean_up().await
}

/// Waits until the last check has this reason. Returns its results.
async fn checked(world: &World, reason: &str) -> Result<Vec<BlockCheck>> {
    eventually(&format!("a check with the reason {reason}"), SOON, async || {
        let stores = world.api::<UserPipelineConnection>().get("stores").await?;
        let status = stores.status.unwrap_or_default();
        let checked = status.conditions.into_iter().find(|c| c.type_ == "Checked");
        Ok(match checked {
            Some(checked) if checked.reason == reason && checked.observed_generation == stores.metadata.generation => {
                Ok(status.check.unwrap_or_default().blocks)
            }
            other => Err(format!("{other:?}")),
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_checked_when_it_changes() -> Result<()> {
    // Given a connection to the local services, Then a Job connects to each and reports it
    let world = World::new("checks").await?;
    world.create_connections().await?;
    let blocks = checked(&world, "Reachable").await?;
    let names: Vec<&str> = blocks.iter().map(|block| block.block.as_str()).collect();
    ensure!(names == ["postgres", "kafka", "schemaRegistry", "cassandra"], "{names:?}");
    for block in &blocks {
        let is_complete = block.latency_milliseconds.is_some() && block.tls_version.is_some() && block.certificate_not_after.is_some();
        ensure!(is_complete, "{block:?}");
    }
    ensure!(
        blocks[0].server_version.is_some() && blocks[3].server_version.is_some(),
        "{blocks:?}"
    );

    // When its host changes to one that does not exist, or its Secret is missing, Then the check says so by block
    change_host(&world, "nowhere.services.svc").await?;
    let blocks = checked(&world, "PostgresUnreachable").await?;
    ensure!(blocks[1].reason.is_none(), "the others are checked as well: {blocks:?}");
    let other = json!({"spec": {"postgres": {"host": "postgres.services.svc", "credentialsSecretRef": {"name": "missing"}}}});
    let connections = world.api::<UserPipelineConnection>();
    connections.patch("stores", &PatchParams::default(), &Patch::Merge(other)).await?;
    checked(&world, "CredentialsMissing").await?;

    // And when the Secret exists, a check can be requested
    world.copy_credentials(("missing", "postgres-userpipeline")).await?;
    let request = json!({"metadata": {"annotations": {"userpipeline.dev/check-now": "again"}}});
    connections.patch("stores", &PatchParams::default(), &Patch::Merge(request)).await?;
    checked(&world, "Reachable").await?;

    // And nothing is left of the Jobs
    eventually("the Jobs to be gone", SOON, async || {
        let jobs = ListParams::default().labels("userpipeline.dev/connection=stores");
        let left = world.api::<Job>().list(&jobs).await?.items.len();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} Jobs")) })
    })
    .await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_behind_a_connection_waits_until_it_is_accepted() -> Result<()> {
    // Given a pipeline whose data is, by its status, in another Kafka cluster and another database
    let world = World::new("store-changed").await?;
    let (pipeline, connections) = moved(&world);
    connect(&world, &connections).await?;
    world.apply(&pipeline).await?;
    world.ready().await?;
    let recorded = world.get().await?.status.unwrap_or_default().schema.unwrap_or_default();
    ensure!(
        recorded.kafka_cluster.is_some() && recorded.postgres_system.is_some(),
        "{recorded:?}"
    );
    let pipelines = world.api::<UserPipeline>();
    let elsewhere = json!({"status": {"schema": {"kafkaCluster": "another", "postgresSystem": "1/another"}}});
    pipelines
        .patch_status("users", &PatchParams::default(), &Patch::Merge(elsewhere))
        .await?;

    // When a schema Job is due, Then it changes nothing and names both ids, and the workers stay
    let edit = json!({"spec": {"kafka": {"topic": {"config": {"retention.ms": "86400000"}}}}});
    pipelines.patch("users", &PatchParams::default(), &Patch::Merge(edit)).await?;
    let (_, message) = world
        .condition_where("SchemaReady", "False", SOON, |reason, _| reason == "StoreChanged")
        .await?;
    let ids = message.split("accept-store=").nth(1).and_then(|rest| rest.split(';').next());
    let ids = ids.unwrap_or_default().to_owned();
    let both = [recorded.kafka_cluster.clone(), recorded.postgres_system.clone()].map(Option::unwrap_or_default);
    ensure!(ids == both.join(","), "{message}");
    ensure!(!world.pods("worker").await?.is_empty(), "the workers are gone");

    // And once the ids are accepted, it is Ready and has them
    let accept = json!({"metadata": {"annotations": {"userpipeline.dev/accept-store": ids}}});
    let stores = world.api::<UserPipelineConnection>();
    stores.patch("stores", &PatchParams::default(), &Patch::Merge(accept)).await?;
    world.condition("Ready", "True", SOON * 2).await?;
    let schema = world.get().await?.status.unwrap_or_default().schema.unwrap_or_default();
    ensure!(
        (&schema.kafka_cluster, &schema.postgres_system) == (&recorded.kafka_cluster, &recorded.postgres_system),
        "{schema:?}"
    );
    world.clean_up().await
}
