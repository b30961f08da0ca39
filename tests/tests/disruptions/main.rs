//! Disruptions of what all pipelines share, and loads that need the whole machine: one test at a time.

mod operator;

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::Mutex;
use userpipeline_api::names::{self, PipelineId};
use userpipeline_record::{Field, FieldType, Record, RecordSchema, Value, avro::Encoder, message};
use userpipeline_tests::{
    World,
    cluster::SERVICES,
    eventually,
    expected::{self, assert_same},
    source, stores,
    world::SOON,
};

/// One disruption at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Scales the broker to 0 or 1 and waits for it.
async fn scale_kafka(world: &World, replicas: i32) -> Result<()> {
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), SERVICES);
    sets.patch_scale(
        "kafka",
        &PatchParams::default(),
        &Patch::Merge(json!({"spec": {"replicas": replicas}})),
    )
    .await?;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SERVICES);
    eventually("the broker to stop or start", SOON, async || {
        let pod = pods.get_opt("kafka-0").await?;
        let ready = pod
            .as_ref()
            .and_then(|p| p.status.as_ref())
            .is_some_and(|s| s.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"));
        Ok(if (replicas == 0 && pod.is_none()) || (replicas == 1 && ready) {
            Ok(())
        } else {
            Err(format!("a pod: {}, ready: {ready}", pod.is_some()))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_pod_killed_between_landing_and_publishing_loses_nothing() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Given a ready pipeline, and a run whose first request hangs
    let world = World::new("killed-ingest").await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    start_hanging_run(&world, "interrupted").await?;
    let pending = format!(
        "SELECT count(*) FROM \"{}\" WHERE _published_version IS DISTINCT FROM _version",
        names::landing_table(&id)
    );

    // When the broker stops, so that the run lands rows that it cannot publish, and its pod is killed
    scale_kafka(&world, 0).await?;
    eventually("landed and unpublished rows", SOON, async || {
        let rows = stores::number(&db, &pending).await?;
        Ok(if rows > 0 { Ok(()) } else { Err(format!("{rows} rows")) })
    })
    .await?;
    kill_running_ingest_pod(&world).await?;
    assert!(
        stores::number(&db, &pending).await? > 0,
        "the pod published before it was killed: the fault had no effect"
    );

    // And the missing broker is reported, and the workers do not crash
    let (_, message) = world
        .condition_where("WorkersReady", "False", SOON, |reason, _| reason == "KafkaUnreachable")
        .await?;
    assert!(message.contains("kafka.services"), "{message}");
    scale_kafka(&world, 1).await?;

    // Then the next pod of the Job publishes them, and everything arrives
    world.finished("interrupted", "Complete").await?;
    assert_eq!(stores::number(&db, &pending).await?, 0);
    world.condition("Ready", "True", Duration::from_secs(180)).await?;
    every_served_user_arrives(&world, &db).await?;
    world.clean_up().await
}

/// Creates a ready pipeline, and starts a run whose first request hangs for 15 seconds.
async fn start_hanging_run(world: &World, job: &str) -> Result<()> {
    let mut pipeline = world.pipeline();
    pipeline["spec"]["source"]["http"]["timeout"] = json!("60s");
    pipeline["spec"]["source"]["http"]["runDuration"] = json!("3m");
    world.apply(&pipeline).await?;
    world.ready().await?;
    source::set_fault(&json!({"kind": "hang", "seconds": 15, "times": 1, "seed": world.seed})).await?;
    world.start_run(job).await?;
    eventually("the run to wait for the source", SOON, async || {
        let requests = source::requests(&world.seed).await?;
        Ok(if requests["faults"].as_i64() == Some(1) {
            Ok(())
        } else {
            Err(requests.to_string())
        })
    })
    .await
}

async fn kill_running_ingest_pod(world: &World) -> Result<()> {
    let running = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    let pods = world.pods("ingest").await?.into_iter();
    let pod = { pods }.find(running).context("a running ingest pod")?;
    world.kill(&pod.name_any()).await
}

async fn every_served_user_arrives(world: &World, db: &tokio_postgres::Client) -> Result<()> {
    let id = world.id();
    let expected = expected::rows(&source::served_users(&world.seed).await?)?;
    assert_same(
        "the landing table",
        &stores::postgres_rows(db, &names::landing_table(&id)).await?,
        &expected,
    );
    eventually("every landed user in the sink", SOON, async || {
        let rows = stores::postgres_rows(db, &names::postgres_table(&id)).await?;
        Ok(if rows.len() == expected.len() {
            Ok(())
        } else {
            Err(format!("{} of {}", rows.len(), expected.len()))
        })
    })
    .await?;
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(db, &names::postgres_table(&id)).await?,
        &expected,
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_with_a_lag_catches_up_without_loss() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Given a ready pipeline
    let world = World::new("killed-worker").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let stored = format!(
        "SELECT coalesce(sum(stored), 0)::bigint FROM userpipeline.progress WHERE group_id = '{}'",
        names::group_id(&id)
    );

    // When many records are on the topic and the worker is killed in the middle of them
    let messages = encoded_users(&id).await?;
    let producing = tokio::spawn(async move { stores::produce(&names::topic(&id), messages).await });
    let before = eventually("some records stored", SOON, async || {
        let n = stores::number(&db, &stored).await?;
        Ok(if n > 0 { Ok(n) } else { Err("none".to_owned()) })
    })
    .await?;
    for pod in world.pods("worker").await? {
        world.kill(&pod.name_any()).await?;
    }
    producing.await??;
    assert!(
        u128::try_from(before)? < RECORDS,
        "all {before} were stored before the kill: the fault had no effect"
    );

    // Then every record arrives, and each offset is counted once
    eventually("all records stored", Duration::from_secs(240), async || {
        let n = stores::number(&db, &stored).await?;
        Ok(if u128::try_from(n)? >= RECORDS {
            Ok(())
        } else {
            Err(format!("{n} of {RECORDS}"))
        })
    })
    .await?;
    assert_eq!(u128::try_from(stores::number(&db, &stored).await?)?, RECORDS);
    let id = world.id();
    assert_eq!(
        u128::try_from(stores::number(&db, &format!("SELECT count(*) FROM \"{}\"", names::postgres_table(&id))).await?)?,
        RECORDS
    );
    let session = stores::cassandra(&world.client).await?;
    assert_eq!(
        stores::cassandra_rows(&session, &names::keyspace(&id), &names::cassandra_table(&id))
            .await?
            .len() as u128,
        RECORDS
    );
    world.clean_up().await
}

const RECORDS: u128 = 30_000;

/// Messages of [`RECORDS`] users.
async fn encoded_users(id: &PipelineId) -> Result<Vec<(String, Vec<u8>, Option<i64>)>> {
    let schema = RecordSchema::user();
    let schema_id = stores::registry()
        .await?
        .id_of(&names::subject(&names::topic(id)), &schema.avro_schema())
        .await?
        .context("registered")?;
    let encoder = Encoder::new(schema.clone())?;
    let value = |field: &Field, n: u128| match field.field_type {
        FieldType::Uuid => Value::Uuid(uuid::Uuid::from_u128(n)),
        FieldType::Timestamp => Value::Timestamp(0),
        _ => Value::String(format!("{} {n}", field.name)),
    };
    let message = |n: u128| {
        let record = Record(schema.fields.iter().map(|field| value(field, n)).collect());
        let mut payload = message::frame(schema_id).to_vec();
        encoder.encode(&record, &mut payload)?;
        Ok((record.key(&schema), payload, Some(1)))
    };
    (0..RECORDS).map(message).collect()
}
