//! Mistakes of users: each is reported, and correcting it is enough.

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::api::ListParams;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use userpipeline_api::Compatibility;
use userpipeline_api::UserPipeline;
use userpipeline_api::names;
use userpipeline_tests::World;
use userpipeline_tests::stores;
use userpipeline_tests::world::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_reported_by_name_and_creating_it_is_enough() -> Result<()> {
    // Given a namespace without credentials
    let world = World::without_secrets("missing").await?;

    // When the pipeline is applied, Then the condition reports Secret and key
    world.apply(&world.pipeline()).await?;
    let (reason, message) = world
        .condition_where("Ready", "False", SOON, |_, message| message.contains("postgres-credentials"))
        .await?;
    assert_eq!(reason, "CredentialsMissing");
    assert!(
        message.contains("`postgres-credentials`") && message.contains("`username`"),
        "{message}"
    );

    // When the Secrets are created, Then the pipeline becomes ready
    world.create_credentials().await?;
    world.condition("Ready", "True", Duration::from_secs(240)).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_is_reported_and_correcting_the_secret_is_enough() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("password").await?;
    let pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When the password of Cassandra is wrong and the worker restarts
    world.set_secret("cassandra-credentials", "userpipeline", "wrong").await?;
    for pod in world.pods("worker").await? {
        world.kill(&pod.name_any()).await?;
    }

    // Then the condition reports the Secret, and the worker does not crash
    let (reason, message) = world
        .condition_where("WorkersReady", "False", SOON, |_, message| {
            message.contains("cassandra-credentials")
        })
        .await?;
    assert_eq!(reason, "CredentialsRefused");
    assert!(message.contains("password"), "{message}");
    let restarts: i32 = world
        .pods("worker")
        .await?
        .iter()
        .flat_map(|p| p.status.iter().flat_map(|s| s.container_statuses.iter().flatten()))
        .map(|c| c.restart_count)
        .sum();
    assert_eq!(restarts, 0);

    // When only the Secret is corrected, Then the pipeline is ready again
    world.create_credentials().await?;
    world.condition("Ready", "True", Duration::from_secs(240)).await?;
    world.run("corrected").await?;
    world.drained(200).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_spec_is_reported_by_field_while_the_old_children_keep_running() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("invalid").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let workers: BTreeSet<_> = world.pods("worker").await?.iter().map(ResourceExt::uid).collect();

    // When its cron and time zone are invalid
    for (field, value) in [("cron", "30-10 * * * *"), ("timeZone", "Mars/Olympus")] {
        let mut broken = pipeline.clone();
        broken["spec"]["schedule"][field] = json!(value);
        world.apply(&broken).await?;

        // Then the condition reports the field, and stays
        let (reason, message) = world.condition("Ready", "False", SOON).await?;
        assert_eq!(reason, "InvalidSpec");
        assert!(message.contains(&format!("spec.schedule.{field}")), "{message}");
        world.condition("Stalled", "True", SOON).await?;

        // And the last good children keep running
        let cron_job: CronJob = world.api().get(&names::cron_job("users")).await?;
        assert_eq!(cron_job.spec.context("a spec")?.schedule, "0 0 1 1 *");
        assert_eq!(
            world.pods("worker").await?.iter().map(ResourceExt::uid).collect::<BTreeSet<_>>(),
            workers
        );
    }
    world.run("meanwhile").await?;

    // When it is corrected, Then it is ready
    pipeline["spec"]["schedule"]["cron"] = json!("1 0 1 1 *");
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.drained(200).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_with_the_table_of_another_one_changes_nothing_until_that_is_deleted() -> Result<()> {
    // Given a ready pipeline with a named table
    let (elder, younger) = (World::new("elder").await?, World::new("younger").await?);
    let table = format!("shared_{}", younger.seed.replace('-', "_"));
    let landing_in = |world: &World| {
        let mut pipeline = world.pipeline();
        pipeline["spec"]["landing"] = json!({"table": table});
        pipeline
    };
    elder.apply(&landing_in(&elder)).await?;
    elder.ready().await?;

    // When a pipeline of another namespace uses that table, Then that is reported without the owner's name, and nothing is created
    younger.apply(&landing_in(&younger)).await?;
    let (_, message) = younger
        .condition_where("Ready", "False", SOON, |reason, _| reason == "Conflict")
        .await?;
    assert!(message.contains(&table) && message.contains("another namespace"), "{message}");
    assert!(!message.contains(&elder.namespace), "{message}");
    assert!(younger.api::<Job>().list(&ListParams::default()).await?.items.is_empty());
    elder.ready().await?;

    // When the older pipeline is deleted, Then the newer one becomes ready
    elder.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    younger.ready().await?;
    elder.clean_up().await?;
    younger.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_registry_is_reported_with_its_message_and_its_compatibility_is_not_changed() -> Result<()> {
    // Given an existing subject with another schema and a compatibility level
    let world = World::new("incompatible").await?;
    let registry = stores::registry().await?;
    let subject = names::subject(&names::topic(&world.id()));
    let other = json!({"type": "record", "name": "User", "namespace": "dev.userpipeline", "fields": [{"name": "id", "type": "int"}]});
    registry.register(&subject, &other).await?;
    registry.set_compatibility(&subject, Compatibility::FullTransitive).await?;

    // When a pipeline without a compatibility level is applied
    world.apply(&world.pipeline()).await?;

    // Then the message of the registry is reported, and nothing runs
    let (_, message) = world
        .condition_where("SchemaReady", "False", SOON, |reason, _| reason == "SchemaIncompatible")
        .await?;
    assert!(message.contains(&subject) && message.contains("409"), "{message}");
    assert!(world.pods("worker").await?.is_empty());
    assert_eq!(registry.compatibility(&subject).await?.as_deref(), Some("FULL_TRANSITIVE"));

    // When the owner of the subject allows the schema, Then the pipeline becomes ready, and the subject keeps its level
    registry.set_compatibility(&subject, Compatibility::None).await?;
    world.condition("Ready", "True", Duration::from_secs(240)).await?;
    assert_eq!(registry.compatibility(&subject).await?.as_deref(), Some("NONE"));

    // And when the pipeline declares another level, Then the subject keeps its own
    let mut pipeline = world.pipeline();
    pipeline["spec"]["schemaRegistry"]["compatibility"] = json!("FULL");
    world.apply(&pipeline).await?;
    let refused = |reason: &str, message: &str| reason == "SubjectNotCreated" && message.contains(&subject);
    world.condition_where("SchemaReady", "False", SOON, refused).await?;
    assert_eq!(registry.compatibility(&subject).await?.as_deref(), Some("NONE"));
    world.clean_up().await
}
