//! Attacks on what belongs to others: each changes nothing of it, and the attacker's status says why.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, names};
use userpipeline_tests::{World, eventually, stores, world::SOON};

use crate::plans::plan;

/// A topic of another team, with a setting of its own.
async fn foreign_topic(name: &str) -> Result<BTreeMap<String, String>> {
    let admin = stores::kafka_admin().await?;
    let settings = BTreeMap::from([("retention.ms".to_owned(), "123456789".to_owned())]);
    admin.create(name, 1, 1, &settings).await?;
    Ok(admin.config(name).await?)
}

async fn gone(world: &World) -> Result<()> {
    eventually("the pipeline to be gone", SOON, async || {
        let found = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(found.map_or(Ok(()), |pipeline| {
            Err(format!("{:?}", pipeline.status.map(|status| status.conditions)))
        }))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_topic_is_neither_changed_nor_deleted_unless_it_is_adopted() -> Result<()> {
    // Given a topic of another team
    let world = World::new("foreign-topic").await?;
    let foreign = format!("payments-{}", world.namespace);
    let before = foreign_topic(&foreign).await?;
    for field in ["spec.kafka.topic.name", "spec.deadLetter.topic"] {
        // When a pipeline names it
        let mut pipeline = world.pipeline();
        pipeline["spec"]["deletionPolicy"] = json!("Delete");
        if field == "spec.deadLetter.topic" {
            pipeline["spec"]["deadLetter"] = json!({"topic": foreign});
        } else {
            pipeline["spec"]["kafka"]["topic"]["name"] = json!(foreign);
        }
        world.apply(&pipeline).await?;

        // Then the status says why it is not used
        let is_refused = |reason: &str, message: &str| reason == "TopicNotCreated" && message.contains(&foreign) && message.contains(field);
        world.condition_where("SchemaReady", "False", SOON, is_refused).await?;

        // And the topic is as before, also after the pipeline is deleted with its data
        world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
        gone(&world).await?;
        assert_eq!(stores::kafka_admin().await?.config(&foreign).await?, before, "{field}");
    }

    // When a pipeline adopts it, Then it has the pipeline's settings, and is not deleted with it
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    pipeline["spec"]["kafka"]["topic"] = json!({"name": foreign, "partitions": 3, "adopt": true, "config": {"retention.ms": "1000000"}});
    world.apply(&pipeline).await?;
    world.ready().await?;
    let admin = stores::kafka_admin().await?;
    assert_eq!(admin.config(&foreign).await?["retention.ms"], "1000000");
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    gone(&world).await?;
    assert!(stores::topics().await?.contains(&foreign));
    admin.delete_topic(&foreign).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_claims_delete_nothing() -> Result<()> {
    // Given a topic of another team, and a pipeline with claims that say it was created by the pipeline
    let world = World::new("forged-claims").await?;
    let foreign = format!("payments-{}", world.namespace);
    let before = foreign_topic(&foreign).await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    world.ready().await?;
    let db = stores::postgres(&world.client).await?;
    let forge = format!(
        "INSERT INTO userpipeline.claims SELECT kind, place, '{foreign}', cluster, pipeline, true FROM userpipeline.claims WHERE kind = 'topic' AND name = '{}'",
        names::topic(&world.id()),
    );
    db.batch_execute(&forge).await?;

    // When the pipeline is deleted, also after it names the topic
    pipeline["spec"]["deadLetter"] = json!({"topic": foreign});
    world.apply(&pipeline).await?;
    let is_refused = |reason: &str, message: &str| reason == "TopicNotCreated" && message.contains(&foreign);
    world.condition_where("SchemaReady", "False", SOON, is_refused).await?;
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    gone(&world).await?;

    // Then its own topic is gone, and the other team's is as before
    let topics = stores::topics().await?;
    assert!(!topics.contains(&names::topic(&world.id())), "{topics:?}");
    let admin = stores::kafka_admin().await?;
    assert_eq!(admin.config(&foreign).await?, before);
    admin.delete_topic(&foreign).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_group_of_another_namespace_is_neither_used_nor_named() -> Result<()> {
    // Given a pipeline with a consumer group
    let (owner, thief) = (World::new("group-owner").await?, World::new("group-thief").await?);
    owner.apply(&owner.pipeline()).await?;
    owner.ready().await?;

    // When a pipeline of another namespace names that group, or the derived topic
    let mut pipeline = thief.pipeline();
    pipeline["spec"]["kafka"]["groupId"] = json!(names::group_id(&owner.id()));
    pipeline["spec"]["deadLetter"] = json!({"topic": names::dead_letter_topic(&names::topic(&owner.id()))});
    thief.apply(&pipeline).await?;

    // Then it conflicts, without the name of the other pipeline
    let (reason, message) = thief.condition("Ready", "False", SOON).await?;
    assert_eq!(reason, "Conflict", "{message}");
    assert!(message.contains("a UserPipeline of another namespace"), "{message}");
    owner.ready().await?;
    owner.clean_up().await?;
    thief.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_service_account_gets_no_pod() -> Result<()> {
    // Given a ServiceAccount with the name of a pipeline's
    let world = World::new("foreign-account").await?;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "users-pods"}}))?;
    world.api::<ServiceAccount>().create(&PostParams::default(), &account).await?;

    // When the pipeline is applied, Then no pod starts
    world.apply(&world.pipeline()).await?;
    let is_foreign = |reason: &str, message: &str| reason == "NotOurs" && message.contains("users-pods");
    world.condition_where("Ready", "False", SOON, is_foreign).await?;
    for component in ["schema", "worker"] {
        assert!(world.pods(component).await?.is_empty(), "{component}");
    }

    // When it is deleted, Then the pipeline becomes ready
    world.api::<ServiceAccount>().delete("users-pods", &DeleteParams::default()).await?;
    world.ready().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_worker_changes_neither_lag_nor_totals() -> Result<()> {
    // Given a pipeline with data
    let world = World::new("forged-worker").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;
    let before = world.get().await?.status.unwrap_or_default();

    // When somebody runs a copy of a worker's pod without the Deployment, under its labels
    let mut forged = serde_json::to_value(&world.pods("worker").await?[0])?;
    forged["metadata"] = json!({"name": "forged", "labels": forged["metadata"]["labels"]});
    forged["metadata"]["labels"]["pod-template-hash"] = Value::Null;
    forged["spec"]["nodeName"] = Value::Null;
    forged["status"] = Value::Null;
    world
        .api::<Pod>()
        .create(&PostParams::default(), &serde_json::from_value(forged)?)
        .await?;
    eventually("the forged worker to run", SOON, async || {
        let pod = world.api::<Pod>().get("forged").await?;
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        Ok(if phase == "Running" { Ok(()) } else { Err(phase) })
    })
    .await?;

    // Then lag and totals stay
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    let after = world.get().await?.status.unwrap_or_default();
    assert_eq!((after.totals, after.lag), (before.totals, before.lag));
    world.api::<Pod>().delete("forged", &DeleteParams::default()).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_sends_no_secret_to_a_host_that_only_the_file_names() -> Result<()> {
    // Given a pipeline of a pull request that sends the password of the database to another host
    let world = World::new("plan-hosts").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["postgres"]["host"] = json!("evil.example");

    // When it is planned with the schema, Then there is no plan, and no Job
    let (code, output, errors) = plan(&pipeline, &["--schema"]).await?;
    assert_eq!(code, 2, "{output}");
    assert!(
        errors.contains("evil.example (spec.postgres.host)") && errors.contains("--allow-host"),
        "{errors}"
    );
    assert!(world.pods("schema").await?.is_empty());
    world.clean_up().await
}
