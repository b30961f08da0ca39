//! Existing tables, which pipelines use and do not change.

use anyhow::Result;
use kube::api::DeleteParams;
use scylla::client::session::Session;
use serde_json::{Value, json};
use userpipeline_api::{
    UserPipeline,
    names::{self, PipelineId},
};
use userpipeline_tests::{
    World,
    declared::{self, Row, assert_same},
    eventually, stores,
    test_source::TestSource,
    world::SOON,
};

#[tokio::test(flavor = "multi_thread")]
async fn existing_tables_are_used_when_they_fit_and_are_not_changed() -> Result<()> {
    // Given a pipeline that does not create its tables, and no tables
    let world = World::new("own-tables").await?;
    let source = TestSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "long", "from": "/id"}, {"name": "name", "type": "string", "from": "/name", "optional": true},
    ]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["landing"] = json!({"management": "None"});
    pipeline["spec"]["sinks"]["postgres"] = json!({"management": "None"});
    pipeline["spec"]["sinks"]["cassandra"]["management"] = json!("None");
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    mismatch_is_reported(&world, "(spec.landing.table) is not there").await?;

    // When they are created, at first without some columns
    let (id, db, session) = (
        world.id(),
        stores::postgres(&world.client).await?,
        stores::cassandra(&world.client).await?,
    );
    let (landing, table, keyspace) = (names::landing_table(&id), names::postgres_table(&id), names::keyspace(&id));
    create_postgres_tables(&world, &db, &landing, &table).await?;
    create_cassandra_table(&session, &keyspace, &names::cassandra_table(&id)).await?;

    // Then they are used
    world.ready().await?;
    source.serve(&[json!({"id": 1, "name": "one"}), json!({"id": 2})]);
    world.run("first").await?;
    world.drained(2).await?;
    assert_rows(&db, &session, &id, &record).await?;

    // And they stay when the pipeline is deleted with its data
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    eventually("the pipeline to be gone", SOON, async || {
        let left = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status.map(|status| status.deletion)))))
    })
    .await?;
    assert_rows(&db, &session, &id, &record).await?;
    let landed = stores::number(&db, &format!("SELECT count(*) FROM \"{landing}\"")).await?;
    assert_eq!(landed, 2, "rows of the landing table");
    world.clean_up().await
}

async fn mismatch_is_reported(world: &World, what: &str) -> Result<()> {
    let mismatch = |reason: &str, message: &str| reason == "TableMismatch" && message.contains(what);
    world.condition_where("SchemaReady", "False", SOON, mismatch).await.map(drop)
}

/// Each missing column and table is reported before it is added.
async fn create_postgres_tables(world: &World, db: &tokio_postgres::Client, landing: &str, table: &str) -> Result<()> {
    db.batch_execute(&format!(
        "CREATE TABLE \"{landing}\" (_deleted boolean NOT NULL DEFAULT false, _raw json NOT NULL, _run_id text NOT NULL, name text, \
         id bigint PRIMARY KEY, _published_version bigint, _version bigint NOT NULL, more text)"
    ))
    .await?;
    mismatch_is_reported(world, "`_ingested_at`").await?;
    db.batch_execute(&format!(
        "ALTER TABLE \"{landing}\" ADD COLUMN _ingested_at timestamptz NOT NULL DEFAULT now()"
    ))
    .await?;
    mismatch_is_reported(world, "(spec.sinks.postgres.table) is not there").await?;
    db.batch_execute(&format!(
        "CREATE TABLE \"{table}\" (note text, id bigint PRIMARY KEY, _version bigint NOT NULL, _ingested_at timestamptz NOT NULL DEFAULT now())"
    ))
    .await?;
    mismatch_is_reported(world, "`name`").await?;
    db.batch_execute(&format!("ALTER TABLE \"{table}\" ADD COLUMN name text")).await?;
    mismatch_is_reported(world, "(spec.sinks.cassandra.table) is not there").await
}

async fn create_cassandra_table(session: &Session, keyspace: &str, table: &str) -> Result<()> {
    for statement in [
        format!("CREATE KEYSPACE \"{keyspace}\" WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}}"),
        format!("CREATE TABLE \"{keyspace}\".\"{table}\" (id bigint PRIMARY KEY, name text, more int) WITH default_time_to_live = 86400"),
    ] {
        session.query_unpaged(statement, &[]).await?;
    }
    Ok(())
}

async fn assert_rows(db: &tokio_postgres::Client, session: &Session, id: &PipelineId, record: &Value) -> Result<()> {
    let fields = declared::fields(record);
    let row =
        |id: &str, name: Option<&str>| Row::from([("id".to_owned(), Some(id.to_owned())), ("name".to_owned(), name.map(str::to_owned))]);
    let expected = [row("1", Some("one")), row("2", None)];
    let found = declared::postgres(db, &names::postgres_table(id), &fields).await?;
    assert_same("PostgreSQL's table", &found, &expected);
    let found = declared::cassandra(session, &names::keyspace(id), &names::cassandra_table(id), &fields).await?;
    assert_same("Cassandra's table", &found, &expected);
    Ok(())
}
