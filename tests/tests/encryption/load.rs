//! A pipeline under load: 500 records a second, each of which is counted.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    groups::GroupInfo,
};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, stores, test_source::TestSource, world::SOON};

/// Records of a page. A run requests one page a second.
pub const PAGE: usize = 500;
pub const WORKERS: usize = 2;

pub fn items(page: usize) -> Vec<Value> {
    let item = |n| json!({"id": format!("item {n}"), "name": format!("name of {n}")});
    (page * PAGE..(page + 1) * PAGE).map(item).collect()
}

/// A pipeline whose run fetches so many pages, and then one more.
pub fn pipeline(world: &World, source: &TestSource, pages: usize) -> Value {
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let mut pipeline = world.pipeline_of(&json!({"key": ["id"], "fields": [field("id"), field("name")]}), &source.url());
    let spec = &mut pipeline["spec"];
    spec["source"]["http"]["runDuration"] = json!("1200s");
    spec["source"]["http"]["maxRecordsPerRun"] = json!(PAGE * (pages + 1));
    spec["schedule"]["activeDeadlineSeconds"] = json!(1500);
    spec["workers"] = json!({"replicas": WORKERS});
    pipeline
}

/// Starts the run, and waits until it has stored records.
pub async fn start_run(world: &World, job: &str) -> Result<()> {
    world.start_run(job).await?;
    eventually("the first records", SOON, async || {
        let stored = world.get().await?.status.unwrap_or_default().totals.unwrap_or_default().stored;
        Ok(if stored > 0 { Ok(()) } else { Err(format!("{stored} stored")) })
    })
    .await
}

/// Fails unless the run goes on.
pub async fn assert_active(world: &World, job: &str) -> Result<()> {
    let status = world.api::<Job>().get(job).await?.status.unwrap_or_default();
    ensure!(
        status.active == Some(1),
        "the run ended too early, so it proves nothing: {status:?}"
    );
    Ok(())
}

/// Waits until the run is complete.
pub async fn completed(world: &World, job: &str) -> Result<()> {
    eventually("the run to complete", Duration::from_secs(600), async || {
        let status = world.api::<Job>().get(job).await?.status.unwrap_or_default();
        Ok(if status.succeeded == Some(1) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        })
    })
    .await
}

/// The ids of the consumer group's members.
pub async fn members(world: &World) -> Result<BTreeSet<String>> {
    let (config, group) = (stores::kafka_config().await?, names::group_id(&world.id()));
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        let groups = consumer.fetch_group_list(Some(&group), Duration::from_secs(10))?;
        let members = groups.groups().iter().flat_map(GroupInfo::members);
        Ok(members.map(|member| member.id().to_owned()).collect())
    })
    .await?
}

/// Uids and restarts of the pods of a part of the pipeline.
pub async fn pods(world: &World, component: &str) -> Result<BTreeSet<(String, i32)>> {
    let restarts = |pod: &Pod| -> i32 {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|container| container.restart_count).sum()
    };
    let pods = world.pods(component).await?;
    Ok(pods.iter().map(|pod| (pod.uid().unwrap_or_default(), restarts(pod))).collect())
}

/// The number of rows in the landing table and in both sinks.
pub async fn rows(world: &World) -> Result<[usize; 3]> {
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let count = async |table: String| -> Result<usize> {
        Ok(usize::try_from(
            stores::number(&db, &format!("SELECT count(*) FROM \"{table}\"")).await?,
        )?)
    };
    let session = stores::cassandra(&world.client).await?;
    let statement = format!("SELECT id FROM \"{}\".\"{}\"", names::keyspace(&id), names::cassandra_table(&id));
    let mut stream = session.query_iter(statement, &[]).await?.rows_stream::<(String,)>()?;
    let mut in_cassandra = 0;
    while let Some(row) = stream.next().await {
        row?;
        in_cassandra += 1;
    }
    Ok([
        count(names::landing_table(&id)).await?,
        count(names::postgres_table(&id)).await?,
        in_cassandra,
    ])
}

/// Every record is landed, on the topic, and in both sinks, once.
pub async fn stored_once(world: &World, total: usize) -> Result<()> {
    world.drained(i64::try_from(total)?).await?;
    let totals = world.get().await?.status.unwrap_or_default().totals.unwrap_or_default();
    ensure!(
        (usize::try_from(totals.fetched)?, usize::try_from(totals.stored)?) == (total, total),
        "{totals:?} of {total} records"
    );
    let rows = rows(world).await?;
    ensure!(rows == [total; 3], "{rows:?} rows of {total} records");
    Ok(())
}
