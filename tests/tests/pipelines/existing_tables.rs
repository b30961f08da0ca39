//! Tables that are there already, and stay as they are.

use anyhow::Result;
use kube::api::DeleteParams;
use serde_json::json;
use userpipeline_api::{UserPipeline, names};
use userpipeline_tests::{
    World,
    declared::{self, Row, assert_same},
    eventually,
    own_source::OwnSource,
    stores,
    world::SOON,
};

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_somebody_else_makes_are_used_when_they_fit_and_left_as_they_are() -> Result<()> {
    // Given a pipeline that makes no tables, where there are none
    let world = World::new("own-tables").await?;
    let source = OwnSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "long", "from": "/id"}, {"name": "name", "type": "string", "from": "/name", "optional": true},
    ]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["landing"] = json!({"management": "None"});
    pipeline["spec"]["sinks"]["postgres"] = json!({"management": "None"});
    pipeline["spec"]["sinks"]["cassandra"]["management"] = json!("None");
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    let says = async |what: &'static str| {
        world
            .condition_where("SchemaReady", "False", SOON, |reason, message| {
                reason == "TableMismatch" && message.contains(what)
            })
            .await
    };
    says("(spec.landing.table) is not there").await?;

    // When they are made, at first with a column missing
    let (id, db, session) = (
        world.id(),
        stores::postgres(&world.client).await?,
        stores::cassandra(&world.client).await?,
    );
    let (landing, table, keyspace) = (names::landing_table(&id), names::postgres_table(&id), names::keyspace(&id));
    db.batch_execute(&format!(
        "CREATE TABLE \"{landing}\" (_deleted boolean NOT NULL DEFAULT false, _raw json NOT NULL, _run_id text NOT NULL, name text, \
         id bigint PRIMARY KEY, _published_version bigint, _version bigint NOT NULL, more text)"
    ))
    .await?;
    says("`_ingested_at`").await?;
    db.batch_execute(&format!(
        "ALTER TABLE \"{landing}\" ADD COLUMN _ingested_at timestamptz NOT NULL DEFAULT now()"
    ))
    .await?;
    says("(spec.sinks.postgres.table) is not there").await?;
    db.batch_execute(&format!(
        "CREATE TABLE \"{table}\" (note text, id bigint PRIMARY KEY, _version bigint NOT NULL, _ingested_at timestamptz NOT NULL DEFAULT now())"
    ))
    .await?;
    says("`name`").await?;
    db.batch_execute(&format!("ALTER TABLE \"{table}\" ADD COLUMN name text")).await?;
    says("(spec.sinks.cassandra.table) is not there").await?;
    for statement in [
        format!("CREATE KEYSPACE \"{keyspace}\" WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}}"),
        format!(
            "CREATE TABLE \"{keyspace}\".\"{}\" (id bigint PRIMARY KEY, name text, more int) WITH default_time_to_live = 86400",
            names::cassandra_table(&id)
        ),
    ] {
        session.query_unpaged(statement, &[]).await?;
    }

    // Then they are used
    world.ready().await?;
    source.serve(&[json!({"id": 1, "name": "one"}), json!({"id": 2})]);
    world.run("first").await?;
    world.drained(2).await?;
    let fields = declared::fields(&record);
    let row =
        |id: &str, name: Option<&str>| Row::from([("id".to_owned(), Some(id.to_owned())), ("name".to_owned(), name.map(str::to_owned))]);
    let wanted = [row("1", Some("one")), row("2", None)];
    assert_same("PostgreSQL's table", &declared::postgres(&db, &table, &fields).await?, &wanted);
    let found = declared::cassandra(&session, &keyspace, &names::cassandra_table(&id), &fields).await?;
    assert_same("Cassandra's table", &found, &wanted);

    // And they stay when the pipeline is deleted with what it has made
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    eventually("the pipeline to be gone", SOON, async || {
        let left = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status.map(|status| status.deletion)))))
    })
    .await?;
    assert_same("PostgreSQL's table", &declared::postgres(&db, &table, &fields).await?, &wanted);
    let found = declared::cassandra(&session, &keyspace, &names::cassandra_table(&id), &fields).await?;
    assert_same("Cassandra's table", &found, &wanted);
    let landed = stores::number(&db, &format!("SELECT count(*) FROM \"{landing}\"")).await?;
    assert_eq!(landed, 2, "rows of the landing table");
    world.leave().await
}
