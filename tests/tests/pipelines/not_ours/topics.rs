//! Topics, subjects and consumer groups that a pipeline did not create.

use anyhow::{Context, Result};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use userpipeline_api::{StoreObject, UserPipeline, names};
use userpipeline_tests::{World, eventually, stores, world::SOON};

use super::{contents, delete, foreign_topic};
use crate::deletions::event_notes;

/// The pipeline of a world, which is deleted with its data.
fn deletable(world: &World) -> Value {
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    pipeline
}

/// Waits until the schema Job refuses the topic in this field.
async fn refused(world: &World, topic: &str, field: &str) -> Result<()> {
    let is_refused = |reason: &str, message: &str| reason == "TopicNotCreated" && message.contains(topic) && message.contains(field);
    world.condition_where("SchemaReady", "False", SOON, is_refused).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_topic_is_neither_changed_nor_deleted() -> Result<()> {
    // Given a topic of another team
    let world = World::new("foreign-topic").await?;
    let foreign = format!("payments-{}", world.namespace);
    let before = foreign_topic(&foreign).await?;
    for field in ["spec.kafka.topic.name", "spec.deadLetter.topic"] {
        // When a pipeline names it
        let mut pipeline = deletable(&world);
        if field == "spec.deadLetter.topic" {
            pipeline["spec"]["deadLetter"] = json!({"topic": foreign});
        } else {
            pipeline["spec"]["kafka"]["topic"]["name"] = json!(foreign);
        }
        world.apply(&pipeline).await?;

        // Then the status says why it is not used
        refused(&world, &foreign, field).await?;

        // And the topic is as before, also after the pipeline is deleted with its data
        delete(&world).await?;
        assert_eq!(contents(&foreign).await?, before, "{field}");
    }
    stores::kafka_admin().await?.delete_topic(&foreign).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_topic_and_a_foreign_group_outlive_the_pipeline() -> Result<()> {
    // Given a topic of another team, and its consumer group with an offset
    let world = World::new("adopted").await?;
    let foreign = format!("payments-{}", world.namespace);
    foreign_topic(&foreign).await?;
    stores::commit(&foreign, &foreign, 7).await?;

    // When a pipeline adopts the topic, and names the group
    let mut pipeline = deletable(&world);
    pipeline["spec"]["kafka"]["groupId"] = json!(foreign);
    pipeline["spec"]["kafka"]["topic"] = json!({"partitions": 1, "config": {"retention.ms": "1000000"}});
    pipeline["spec"]["deadLetter"] = json!({"topic": foreign});
    pipeline["spec"]["kafka"]["topic"]["adopt"] = json!(true);
    world.apply(&pipeline).await?;
    world.ready().await?;

    // Then the topic has the settings of dead letters, and neither is deleted with the pipeline
    let admin = stores::kafka_admin().await?;
    assert_ne!(admin.config(&foreign).await?["retention.ms"], "123456789");
    delete(&world).await?;
    let topics = stores::topics().await?;
    assert!(
        topics.contains(&foreign) && !topics.contains(&names::topic(&world.id())),
        "{topics:?}"
    );
    assert_eq!(stores::committed(&foreign, &foreign).await?, Some(7));

    // And the Event says so
    let notes = event_notes(world.api(), "DataDeleted").await?;
    let says = |what: &str| notes.iter().any(|note| note.contains(&format!("{what} {foreign} (")));
    assert!(says("topic") && says("consumer group"), "{notes:?}");
    admin.delete_group(&foreign).await?;
    admin.delete_topic(&foreign).await?;
    world.clean_up().await
}

/// Claims say that the pipeline created this object: like one of its own claims of that kind, with another name.
async fn forge(world: &World, kind: &str, own: &str, name: &str) -> Result<()> {
    let db = stores::postgres(&world.client).await?;
    let forge = format!(
        "INSERT INTO userpipeline.claims SELECT kind, place, '{name}', cluster, pipeline, true FROM userpipeline.claims WHERE kind = '{kind}' AND name = '{own}' \
         ON CONFLICT (kind, place, name) DO UPDATE SET made = true"
    );
    Ok(db.batch_execute(&forge).await?)
}

/// The names in the record of what the pipeline created.
async fn recorded(world: &World) -> Result<Option<Vec<String>>> {
    let status = world.get().await?.status.context("a status")?;
    let names = |objects: Vec<StoreObject>| objects.into_iter().map(|object| object.name).collect();
    Ok(status.created_objects.map(names))
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_claims_delete_nothing() -> Result<()> {
    // Given a topic and a subject of another team, and a pipeline with claims that say it created them
    let world = World::new("forged-claims").await?;
    let foreign = format!("payments-{}", world.namespace);
    let before = foreign_topic(&foreign).await?;
    let registry = stores::registry().await?;
    let subject = names::subject(&foreign);
    registry.register(&subject, &json!({"type": "string"})).await?;
    let mut pipeline = deletable(&world);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let own = names::topic(&world.id());
    forge(&world, "topic", &own, &foreign).await?;
    forge(&world, "subject", &names::subject(&own), &subject).await?;

    // When the pipeline names the topic, and is deleted
    pipeline["spec"]["deadLetter"] = json!({"topic": foreign});
    world.apply(&pipeline).await?;
    refused(&world, &foreign, "spec.deadLetter.topic").await?;
    delete(&world).await?;

    // Then its own topic is gone, and what is the other team's is as before
    let topics = stores::topics().await?;
    assert!(!topics.contains(&own), "{topics:?}");
    let admin = stores::kafka_admin().await?;
    assert_eq!(contents(&foreign).await?, before);
    assert!(registry.latest(&subject).await?.is_some());
    let notes = event_notes(world.api(), "DataDeleted").await?;
    assert!(notes.iter().any(|note| note.contains(&format!("topic {foreign} ("))), "{notes:?}");
    admin.delete_topic(&foreign).await?;
    registry.delete_subject(&subject).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_an_older_pipeline_is_filled_once_from_claims_that_its_spec_names() -> Result<()> {
    // Given a topic of another team, and a pipeline with a claim of it, which its spec does not name
    let world = World::new("older").await?;
    let foreign = format!("payments-{}", world.namespace);
    let before = foreign_topic(&foreign).await?;
    let mut pipeline = deletable(&world);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let own = names::topic(&world.id());
    let mut expected = recorded(&world).await?.context("the record")?;
    expected.sort();
    forge(&world, "topic", &own, &foreign).await?;

    // When it has no record, as one that an earlier version created
    let older = Patch::Merge(json!({"status": {"createdObjects": null}}));
    let pipelines = world.api::<UserPipeline>();
    pipelines.patch_status("users", &PatchParams::default(), &older).await?;

    // Then a schema Job fills it with what the pipeline created
    eventually("the record to be filled", SOON, async || {
        let mut found = recorded(&world).await?.unwrap_or_default();
        found.sort();
        Ok(if found == expected { Ok(()) } else { Err(format!("{found:?}")) })
    })
    .await?;

    // And when the spec names the topic afterwards, Then the claim does not count, and the topic is as before
    pipeline["spec"]["deadLetter"] = json!({"topic": foreign});
    world.apply(&pipeline).await?;
    refused(&world, &foreign, "spec.deadLetter.topic").await?;
    let admin = stores::kafka_admin().await?;
    assert_eq!(contents(&foreign).await?, before);
    admin.delete_topic(&foreign).await?;
    world.clean_up().await
}
