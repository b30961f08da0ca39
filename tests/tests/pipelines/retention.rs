//! Retention.

use std::time::Duration;

use anyhow::{Context, Result};
use scylla::{client::session::Session, value::CqlValue};
use serde_json::{Value, json};
use userpipeline_api::names::{self, PipelineId};
use userpipeline_record::RecordSchema;
use userpipeline_tests::{World, eventually, stores, test_source::TestSource, world::SOON};

/// Retention runs once a minute.
const SWEPT: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn data_past_its_retention_is_deleted_and_totals_stay() -> Result<()> {
    // Given a pipeline that keeps everything for an hour, and rows in Cassandra for a day
    let world = World::new("retention").await?;
    let source = TestSource::start(&world.client).await?;
    world.apply(&pipeline_with_retention(&world, &source)).await?;
    world.ready().await?;
    let items: Vec<_> = (0..2500).map(|n| json!({"id": n.to_string(), "name": "x"})).collect();
    source.serve(&items);
    source.serve(&[json!({"id": "0", "gone": true}), json!({"id": "reject"})]);
    world.run("first").await?;
    world.drained(2501).await?;

    // Then Cassandra has the declared time to live and compaction, and Kafka the retention of dead letters
    let (id, session) = (world.id(), stores::cassandra(&world.client).await?);
    assert_table_options(&session, &id).await?;
    let config = stores::kafka_admin()
        .await?
        .config(&names::dead_letter_topic(&names::topic(&id)))
        .await?;
    assert_eq!(config.get("retention.ms").map(String::as_str), Some("172800000"));

    // When an hour has passed for all of it, except for a record that has just landed, and one that is not published
    let (db, landing) = (stores::postgres(&world.client).await?, names::landing_table(&id));
    age_everything(&db, &id).await?;

    // And one of the rows is locked
    let mut locking = stores::postgres(&world.client).await?;
    let lock = locking.transaction().await?;
    lock.execute(&format!("SELECT FROM \"{landing}\" WHERE id = '3' FOR UPDATE"), &[])
        .await?;

    // Then everything except for those three rows is deleted
    eventually("old data to be gone", SWEPT, async || {
        let left = old_rows(&db, &id).await?;
        Ok(if left == [0; 4] { Ok(()) } else { Err(format!("{left:?}")) })
    })
    .await?;
    let landed = format!("SELECT count(*) FROM \"{landing}\"");
    assert_eq!(stores::number(&db, &landed).await?, 3);
    // And the locked row is deleted after its lock
    lock.rollback().await?;
    eventually("the row that was locked to be gone", SWEPT, async || {
        let left = stores::number(&db, &landed).await?;
        Ok(if left == 2 { Ok(()) } else { Err(left.to_string()) })
    })
    .await?;
    // And retention has its own index
    let (index, _) = RecordSchema::landing_age_index(&landing);
    let valid = format!("SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('\"{index}\"') AND indisvalid");
    assert_eq!(stores::number(&db, &valid).await?, 1);

    // And the totals continue from their previous values
    source.serve(&[json!({"id": "new", "name": "y"})]);
    world.run("second").await?;
    let fetched = eventually("the totals of both runs", SOON, async || {
        let totals = world.get().await?.status.context("a status")?.totals.unwrap_or_default();
        Ok(if totals.fetched > 2501 {
            Ok(totals.fetched)
        } else {
            Err(totals.fetched.to_string())
        })
    })
    .await?;
    assert_eq!(fetched, 2502);
    world.clean_up().await
}

fn pipeline_with_retention(world: &World, source: &TestSource) -> Value {
    let record = json!({"key": ["id"], "deleteWhen": "has(item.gone)", "fields": [
        {"name": "id", "type": "string", "from": "/id"}, {"name": "name", "type": "string", "from": "/name"},
    ]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["retention"] = json!({"landing": "1h", "runs": "1h", "rejects": "1h", "tombstones": "1h"});
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    pipeline["spec"]["deadLetter"] = json!({"retention": "48h"});
    let sink = &mut pipeline["spec"]["sinks"]["cassandra"];
    sink["timeToLive"] = json!("24h");
    sink["compaction"] = json!({"class": "LeveledCompactionStrategy", "options": {"sstable_size_in_mb": "80"}});
    pipeline
}

async fn assert_table_options(session: &Session, id: &PipelineId) -> Result<()> {
    let (keyspace, table) = (names::keyspace(id), names::cassandra_table(id));
    let found = session
        .query_unpaged(format!("SELECT TTL(name) FROM \"{keyspace}\".\"{table}\" WHERE id = '7'"), &[])
        .await?
        .into_rows_result()?;
    let (seconds,) = found.single_row::<(i32,)>()?;
    assert!((80_000..=86_400).contains(&seconds), "{seconds}");
    let found = session
        .query_unpaged(
            "SELECT compaction FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?",
            (&keyspace, &table),
        )
        .await?
        .into_rows_result()?;
    let (compaction,) = found.single_row::<(CqlValue,)>()?;
    let compaction = format!("{compaction:?}");
    assert!(
        compaction.contains("LeveledCompactionStrategy") && compaction.contains("80"),
        "{compaction}"
    );
    Ok(())
}

async fn age_everything(db: &tokio_postgres::Client, id: &PipelineId) -> Result<()> {
    let (landing, name) = (names::landing_table(id), id.to_string());
    for statement in [
        format!("UPDATE \"{landing}\" SET _ingested_at = now() - interval '2h' WHERE id <> '1'"),
        format!("UPDATE \"{landing}\" SET _published_version = NULL WHERE id = '2'"),
        format!("UPDATE userpipeline.runs SET finished_at = now() - interval '2h' WHERE pipeline = '{name}'"),
        format!("UPDATE userpipeline.rejects SET rejected_at = now() - interval '2h' WHERE pipeline = '{name}'"),
        format!(
            "UPDATE userpipeline.tombstones SET deleted_at = now() - interval '2h' WHERE table_name = '{}'",
            names::postgres_table(id)
        ),
    ] {
        assert!(db.execute(&statement, &[]).await? > 0, "{statement}");
    }
    Ok(())
}

/// The rows past their retention: landed ones, runs, rejects, tombstones.
async fn old_rows(db: &tokio_postgres::Client, id: &PipelineId) -> Result<[i64; 4]> {
    let (landing, name, table) = (names::landing_table(id), id.to_string(), names::postgres_table(id));
    let count = async |what: String| stores::number(db, &format!("SELECT count(*) FROM {what}")).await;
    Ok([
        count(format!("\"{landing}\" WHERE id NOT IN ('1', '2', '3')")).await?,
        count(format!("userpipeline.runs WHERE pipeline = '{name}'")).await?,
        count(format!("userpipeline.rejects WHERE pipeline = '{name}'")).await?,
        count(format!("userpipeline.tombstones WHERE table_name = '{table}'")).await?,
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_landing_while_retention_deletes_many_rows_and_refreshed_rows_stay() -> Result<()> {
    // Given a slow run of records that are old in the landing table, with many others
    const OLD: usize = 200_000;
    const AGAIN: usize = 45_000;
    let world = World::new("sweep").await?;
    let source = TestSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "long", "from": "/id"}, {"name": "name", "type": "string", "from": "/name"},
    ]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["retention"] = json!({"landing": "1h"});
    let http = &mut pipeline["spec"]["source"]["http"];
    (http["rateLimit"], http["runDuration"]) = (json!({"requests": 2, "per": "1s"}), json!("5m"));
    world.apply(&pipeline).await?;
    world.ready().await?;
    let again: Vec<usize> = (0..AGAIN).map(|n| n * 4).collect();
    for page in again.chunks(250) {
        source.serve(&page.iter().map(|id| json!({"id": id, "name": "new"})).collect::<Vec<_>>());
    }
    let job = world.start_run("first").await?;
    let (db, landing) = (stores::postgres(&world.client).await?, names::landing_table(&world.id()));
    let count = async |which: &str| stores::number(&db, &format!("SELECT count(*) FROM \"{landing}\" WHERE {which}")).await;
    eventually("the first pages to be landed", SOON, async || {
        let landed = count("name = 'new'").await?;
        Ok(if landed >= 500 { Ok(()) } else { Err(landed.to_string()) })
    })
    .await?;
    let old = format!(
        "INSERT INTO \"{landing}\" (id, name, _raw, _version, _published_version, _run_id, _ingested_at) \
         SELECT n, 'old', '{{}}', 1, 1, 'old', now() - interval '2h' FROM generate_series(0, $1::bigint - 1) AS n ON CONFLICT DO NOTHING"
    );
    assert!(db.execute(&old, &[&i64::try_from(OLD)?]).await? > 190_000);

    // When retention begins to delete the old ones
    let before = count("name = 'old'").await?;
    let landed = eventually("a sweep to begin", SWEPT, async || {
        let landed = count("name = 'new'").await?;
        // The run itself refreshes some of them.
        let swept = before - count("name = 'old'").await? > landed;
        Ok(if swept { Ok(landed) } else { Err(landed.to_string()) })
    })
    .await?;
    eventually("old rows to be gone", SWEPT, async || {
        let left = count("name = 'old'").await?;
        Ok(if left == 0 { Ok(()) } else { Err(left.to_string()) })
    })
    .await?;

    // Then the run has landed rows in the meantime
    let meanwhile = count("name = 'new'").await? - landed;
    assert!(meanwhile > 0, "nothing was landed in the meantime");

    // And in the end each refreshed record is landed and stored
    world.finished(&job, "Complete").await?;
    assert_eq!(count("name = 'new'").await?, i64::try_from(AGAIN)?);
    assert_eq!(count("true").await?, i64::try_from(AGAIN)?);
    world.drained(i64::try_from(AGAIN)?).await?;
    world.clean_up().await
}
