//! What is left of a pipeline that is deleted, and whose everything is.

use anyhow::{Context, Result};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Namespace, Pod, ServiceAccount},
    events::v1::Event,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, names};
use userpipeline_record::RecordSchema;
use userpipeline_stores::schema_registry;
use userpipeline_tests::{
    World,
    cluster::host,
    eventually,
    expected::{self, assert_same},
    source, stores,
    world::SOON,
};

/// Waits until no object of the pipeline is left.
async fn no_child_left(world: &World) -> Result<()> {
    eventually("no child to be left", SOON, async || {
        let all = ListParams::default().labels("userpipeline.dev/pipeline=users");
        let left = world.api::<Deployment>().list(&all).await?.items.len()
            + world.api::<CronJob>().list(&all).await?.items.len()
            + world.api::<Job>().list(&all).await?.items.len()
            + world.api::<ConfigMap>().list(&all).await?.items.len()
            + world.api::<ServiceAccount>().list(&all).await?.items.len()
            + world.api::<PodDisruptionBudget>().list(&all).await?.items.len()
            + world.api::<Pod>().list(&all).await?.items.len();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} children")) })
    })
    .await
}

/// Waits until the pipeline is gone.
async fn gone(world: &World) -> Result<()> {
    eventually("the pipeline to be gone", SOON, async || {
        let found = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(match found {
            None => Ok(()),
            Some(pipeline) => Err(format!("{:?}", pipeline.status.map(|status| status.conditions))),
        })
    })
    .await
}

/// The notes of Events with a reason.
async fn told(events: Api<Event>, reason: &str) -> Result<Vec<String>> {
    let all = events.list(&ListParams::default()).await?.items;
    Ok(all
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(reason))
        .filter_map(|event| event.note)
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pipeline_takes_its_children_along_and_leaves_its_data() -> Result<()> {
    // Given a pipeline with data
    let world = World::new("delete").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;

    // When it is deleted
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;

    // Then its children go
    no_child_left(&world).await?;

    // And its data stays: tables, topic, subject
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let wanted = expected::rows(&source::served_users(&world.seed).await?)?;
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(&db, &names::postgres_table(&id)).await?,
        &wanted,
    );
    assert!(stores::topic(&names::topic(&id)).await?.len() >= 200);
    assert!(
        schema_registry::Connection::new(host::REGISTRY)
            .connect()?
            .id_of(&names::subject(&names::topic(&id)), &RecordSchema::user().avro_schema())
            .await?
            .is_some()
    );
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_delete_nothing_is_left_but_what_was_there_before() -> Result<()> {
    // Given a sink table that somebody has made, and a pipeline with data that is to go with it
    let world = World::new("delete-all").await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let theirs = names::postgres_table(&id);
    db.batch_execute(&RecordSchema::user().sink_ddl(&theirs)).await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;

    // When it is deleted, its children first
    world.api::<UserPipeline>().delete("users", &DeleteParams::foreground()).await?;

    // Then it goes, and says what it took along
    gone(&world).await?;
    no_child_left(&world).await?;
    let notes = told(world.api(), "DataDeleted").await?;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains(&format!("topic {}", names::topic(&id))), "{notes:?}");

    // And nothing is left in any store, but the table that was there before
    let exists = async |table: &str| stores::number(&db, &format!("SELECT count(*) FROM pg_tables WHERE tablename = '{table}'")).await;
    assert_eq!((exists(&names::landing_table(&id)).await?, exists(&theirs).await?), (0, 1));
    for (table, column, value) in [
        ("runs", "pipeline", id.to_string()),
        ("rejects", "pipeline", id.to_string()),
        ("claims", "pipeline", id.to_string()),
        ("progress", "group_id", names::group_id(&id)),
    ] {
        let left = stores::number(
            &db,
            &format!("SELECT count(*) FROM userpipeline.{table} WHERE {column} = '{value}'"),
        )
        .await?;
        assert_eq!(left, 0, "userpipeline.{table}");
    }
    let topics = stores::topics()?;
    assert!(!topics.iter().any(|topic| topic.starts_with(&names::topic(&id))), "{topics:?}");
    let registry = schema_registry::Connection::new(host::REGISTRY).connect()?;
    assert!(registry.latest(&names::subject(&names::topic(&id))).await?.is_none());
    let session = stores::cassandra(&world.client).await?;
    let keyspaces = session
        .query_unpaged(
            "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
            (names::keyspace(&id),),
        )
        .await?;
    assert_eq!(keyspaces.into_rows_result()?.rows_num(), 0);

    // And a new pipeline of that name begins from nothing
    world.apply(&pipeline).await?;
    world.ready().await?;
    let totals = world.get().await?.status.and_then(|status| status.totals).unwrap_or_default();
    assert_eq!((totals.fetched, totals.stored), (0, 0));
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_fails_says_why_and_the_policy_retain_lets_go() -> Result<()> {
    // Given a ready pipeline whose data is to go with it, and a password that is no longer right
    let world = World::new("delete-fails").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.set_secret("postgres-credentials", "userpipeline", "wrong").await?;

    // When it is deleted, Then it stays, and says why
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    let (reason, message) = world
        .condition_where("Ready", "False", SOON, |reason, _| reason == "CredentialsRefused")
        .await?;
    assert!(
        message.contains("postgres-credentials") && message.contains("Retain"),
        "{reason}: {message}"
    );
    eventually("an Event that says so", SOON, async || {
        let notes = told(world.api(), "DeletionFailed").await?;
        Ok(if notes.is_empty() { Err(String::new()) } else { Ok(()) })
    })
    .await?;

    // When the policy becomes Retain, Then it goes, and its data stays
    let retain = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    world.api::<UserPipeline>().patch("users", &PatchParams::default(), &retain).await?;
    gone(&world).await?;
    no_child_left(&world).await?;
    let db = stores::postgres(&world.client).await?;
    let landing = names::landing_table(&world.id());
    assert_eq!(
        stores::number(&db, &format!("SELECT count(*) FROM pg_tables WHERE tablename = '{landing}'")).await?,
        1
    );
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_is_not_held_up() -> Result<()> {
    // Given a ready pipeline whose data is to go with it
    let world = World::new("delete-namespace").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When its namespace is deleted, Then that goes
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::background()).await?;
    eventually("the namespace to be gone", SOON, async || {
        let left = namespaces.get_opt(&world.namespace).await?;
        Ok(if left.is_none() { Ok(()) } else { Err("still there".to_owned()) })
    })
    .await?;

    // And an Event elsewhere says that the data stays
    let notes = told(Api::namespaced(world.client.clone(), "default"), "DataRetained").await?;
    assert!(notes.iter().any(|note| note.contains(&world.namespace)), "{notes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pipeline_of_another_cluster_has_is_not_touched() -> Result<()> {
    // Given a topic that a pipeline of another cluster has claimed in the same database
    let (other, world) = (World::new("claimed").await?, World::new("claiming").await?);
    other.apply(&other.pipeline()).await?;
    other.ready().await?;
    let db = stores::postgres(&world.client).await?;
    let copied = format!(
        "INSERT INTO userpipeline.claims SELECT kind, place, '{}', 'elsewhere', 'far/away', true FROM userpipeline.claims WHERE kind = 'topic' AND name = '{}'",
        names::topic(&world.id()),
        names::topic(&other.id()),
    );
    db.batch_execute(&copied).await?;

    // When a pipeline wants that topic, Then it says whose it is, and the topic is not made
    world.apply(&world.pipeline()).await?;
    let (_, message) = world
        .condition_where("SchemaReady", "False", SOON, |reason, _| reason == "ClaimedElsewhere")
        .await?;
    assert!(
        message.contains("far/away") && message.contains(&names::topic(&world.id())),
        "{message}"
    );
    assert!(!stores::topics()?.contains(&names::topic(&world.id())));

    // When that cluster lets go, Then the pipeline goes on by itself
    db.batch_execute(
        message
            .split("had: ")
            .nth(1)
            .context("what to do")?
            .split("; ")
            .next()
            .context("a statement")?,
    )
    .await?;
    world.ready().await?;
    other.leave().await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_change_and_go_while_others_write_to_what_all_pipelines_share() -> Result<()> {
    // Given a pipeline, and somebody who writes to the tables that all pipelines share, and does not come to an end
    let world = World::new("shared").await?;
    let mut record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let pipeline = |record: &Value| {
        let mut pipeline = world.pipeline_of(record, "http://source.services.svc.cluster.local/api/");
        pipeline["spec"]["deletionPolicy"] = json!("Delete");
        pipeline
    };
    world.apply(&pipeline(&record)).await?;
    world.ready().await?;
    let mut others = stores::postgres(&world.client).await?;
    others.batch_execute("SET idle_in_transaction_session_timeout = '10min'").await?;
    let writing = others.transaction().await?;
    let shared = "LOCK TABLE userpipeline.runs, userpipeline.rejects, userpipeline.tombstones IN ROW EXCLUSIVE MODE";
    writing.batch_execute(shared).await?;

    // When a field is added, and the pipeline deleted with its data
    let note = json!({"name": "note", "type": "string", "from": "/note", "optional": true});
    record["fields"].as_array_mut().context("fields")?.push(note);
    world.apply(&pipeline(&record)).await?;

    // Then neither waits for that
    world.ready().await?;
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    gone(&world).await?;
    writing.rollback().await?;
    world.leave().await
}
