//! Deletion policies: what a deleted pipeline leaves behind.

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
use userpipeline_tests::{
    World, eventually,
    expected::{self, assert_same},
    source, stores,
    world::SOON,
};

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
pub async fn event_notes(events: Api<Event>, reason: &str) -> Result<Vec<String>> {
    let all = events.list(&ListParams::default()).await?.items;
    Ok(all
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(reason))
        .filter_map(|event| event.note)
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_pipeline_deletes_its_children_and_retains_its_data() -> Result<()> {
    // Given a pipeline with data
    let world = World::new("delete").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;

    // When it is deleted
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;

    // Then its children are deleted
    no_child_left(&world).await?;

    // And its data stays: tables, topic, subject
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let expected = expected::rows(&source::served_users(&world.seed).await?)?;
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(&db, &names::postgres_table(&id)).await?,
        &expected,
    );
    assert!(stores::messages(&names::topic(&id)).await?.len() >= 200);
    assert!(
        stores::registry()
            .await?
            .id_of(&names::subject(&names::topic(&id)), &RecordSchema::user().avro_schema())
            .await?
            .is_some()
    );
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_delete_only_external_data_is_left() -> Result<()> {
    // Given an existing sink table, and a pipeline with data, totals of it, and the policy Delete
    let world = World::new("delete-all").await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let theirs = names::postgres_table(&id);
    db.batch_execute(&RecordSchema::user().sink_ddl(&theirs)).await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    pipeline["spec"]["aggregates"] = json!([{
        "name": "by_gender", "groupBy": ["gender"], "values": [{"name": "users", "count": {}}], "sinks": {"cassandra": {}},
    }]);
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;

    // When it is deleted, after its children
    world.api::<UserPipeline>().delete("users", &DeleteParams::foreground()).await?;

    // Then it is deleted, and an Event lists the deleted data
    gone(&world).await?;
    no_child_left(&world).await?;
    let notes = event_notes(world.api(), "DataDeleted").await?;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains(&format!("topic {}", names::topic(&id))), "{notes:?}");

    // And nothing is left in any store except for the existing table
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
    let topics = stores::topics().await?;
    assert!(!topics.iter().any(|topic| topic.starts_with(&names::topic(&id))), "{topics:?}");
    let registry = stores::registry().await?;
    assert!(registry.latest(&names::subject(&names::topic(&id))).await?.is_none());
    let session = stores::cassandra(&world.client).await?;
    let keyspaces = session
        .query_unpaged(
            "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
            (names::keyspace(&id),),
        )
        .await?;
    assert_eq!(keyspaces.into_rows_result()?.rows_num(), 0);

    // And a new pipeline of that name starts without data
    world.apply(&pipeline).await?;
    world.ready().await?;
    let totals = world.get().await?.status.and_then(|status| status.totals).unwrap_or_default();
    assert_eq!((totals.fetched, totals.stored), (0, 0));
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_deletion_is_reported_and_the_policy_retain_completes_it() -> Result<()> {
    // Given a ready pipeline with the policy Delete, and a wrong password
    let world = World::new("delete-fails").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.set_secret("postgres-credentials", "userpipeline", "wrong").await?;

    // When it is deleted, Then it stays, and the reason is reported
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    let (reason, message) = world
        .condition_where("Ready", "False", SOON, |reason, _| reason == "CredentialsRefused")
        .await?;
    assert!(
        message.contains("postgres-credentials") && message.contains("Retain"),
        "{reason}: {message}"
    );
    eventually("an Event with the reason", SOON, async || {
        let notes = event_notes(world.api(), "DeletionFailed").await?;
        Ok(if notes.is_empty() { Err(String::new()) } else { Ok(()) })
    })
    .await?;

    // When the policy becomes Retain, Then it is deleted, and its data stays
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
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_of_a_namespace_is_not_blocked() -> Result<()> {
    // Given a ready pipeline with the policy Delete
    let world = World::new("delete-namespace").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When its namespace is deleted, Then the namespace is gone
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::background()).await?;
    eventually("the namespace to be gone", SOON, async || {
        let left = namespaces.get_opt(&world.namespace).await?;
        Ok(if left.is_none() { Ok(()) } else { Err("still there".to_owned()) })
    })
    .await?;

    // And an Event in another namespace reports that the data stays
    let notes = event_notes(Api::namespaced(world.client.clone(), "default"), "DataRetained").await?;
    assert!(notes.iter().any(|note| note.contains(&world.namespace)), "{notes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_a_pipeline_of_another_cluster_is_not_changed() -> Result<()> {
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

    // When a pipeline uses that topic, Then the owner of the topic is reported, and the topic is not created
    world.apply(&world.pipeline()).await?;
    let (_, message) = world
        .condition_where("SchemaReady", "False", SOON, |reason, _| reason == "ClaimedElsewhere")
        .await?;
    assert!(
        message.contains("far/away") && message.contains(&names::topic(&world.id())),
        "{message}"
    );
    assert!(!stores::topics().await?.contains(&names::topic(&world.id())));

    // When that cluster releases it, Then the pipeline becomes ready
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
    other.clean_up().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered_and_deleted_while_others_write_to_the_shared_tables() -> Result<()> {
    // Given a pipeline, and an open transaction that has written to the shared tables
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

    // Then neither waits for the transaction
    world.ready().await?;
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    gone(&world).await?;
    writing.rollback().await?;
    world.clean_up().await
}
