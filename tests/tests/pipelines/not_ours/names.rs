//! Names of another namespace's pipelines.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use serde_json::json;
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    cluster::SERVICES,
    services::{CA, tls},
    stores,
    world::SOON,
};

use super::{contents, delete};

/// The pipeline that has the claim of a table, and the columns of the table.
async fn table(world: &World, name: &str) -> Result<(String, String)> {
    let db = stores::postgres(&world.client).await?;
    let statement = "SELECT pipeline, (SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_name) FROM information_schema.columns \
                     WHERE table_name = $1) FROM userpipeline.claims WHERE kind = 'table' AND name = $1";
    let row = db.query_one(statement, &[&name]).await?;
    Ok((row.get(0), row.get(1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derived_name_is_neither_taken_from_its_pipeline_nor_deleted_by_another_one() -> Result<()> {
    // Given a pipeline that created a topic with the name that derives from a pipeline of another namespace
    let (owner, thief) = (World::new("name-owner").await?, World::new("name-thief").await?);
    let taken = names::topic(&owner.id());
    let mut squatting = thief.pipeline();
    squatting["spec"]["deletionPolicy"] = json!("Delete");
    squatting["spec"]["deadLetter"] = json!({"topic": taken});
    thief.apply(&squatting).await?;
    thief.ready().await?;

    // When that pipeline is created, and adopts its topic
    let mut pipeline = owner.pipeline();
    pipeline["spec"]["kafka"]["topic"]["adopt"] = json!(true);
    owner.apply(&pipeline).await?;
    owner.ready().await?;
    let before = contents(&taken).await?;

    // Then the first one conflicts, without the name of the other one or its namespace
    let (_, message) = thief
        .condition_where("Ready", "False", SOON, |reason, _| reason == "Conflict")
        .await?;
    assert!(message.contains("a UserPipeline of another namespace"), "{message}");
    let elsewhere = message.replace(&taken, "");
    assert!(!elsewhere.contains(&owner.namespace), "{message}");

    // And when it is deleted with its data, Then the topic is as before, although it created it
    delete(&thief).await?;
    assert_eq!(contents(&taken).await?, before);

    // And when a new one names the group, Then it conflicts as well
    let mut pipeline = thief.pipeline();
    pipeline["spec"]["kafka"]["groupId"] = json!(names::group_id(&owner.id()));
    thief.apply(&pipeline).await?;
    let conflicts = |reason: &str, message: &str| reason == "Conflict" && message.contains("consumer group");
    thief.condition_where("Ready", "False", SOON, conflicts).await?;
    owner.ready().await?;
    owner.clean_up().await?;
    thief.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_the_same_at_another_address() -> Result<()> {
    // Given a pipeline with a table
    let (owner, thief) = (World::new("address-owner").await?, World::new("address-thief").await?);
    owner.apply(&owner.pipeline()).await?;
    owner.ready().await?;
    let landing = names::landing_table(&owner.id());
    let before = table(&owner, &landing).await?;
    assert_eq!(before.0, owner.id().to_string());

    // When a pipeline of another namespace names its table, at the IP address of the server
    let service = Api::<Service>::namespaced(owner.client.clone(), SERVICES).get("postgres").await?;
    let ip = service.spec.and_then(|spec| spec.cluster_ip).context("the address of PostgreSQL")?;
    let mut pipeline = thief.pipeline();
    pipeline["spec"]["landing"] = json!({"table": landing});
    pipeline["spec"]["record"] = json!({"key": ["id"], "fields": [{"name": "id", "type": "uuid", "from": "/id"}, {"name": "more", "type": "string", "from": "/more", "optional": true}]});
    pipeline["spec"]["postgres"]["host"] = json!(ip);
    pipeline["spec"]["postgres"]["tls"] = tls(CA.0);
    pipeline["spec"]["postgres"]["tls"]["mode"] = json!("VerifyCa");
    thief.apply(&pipeline).await?;

    // Then it conflicts once its schema Job has identified the server, before anything was claimed
    let conflicts = |reason: &str, message: &str| reason == "Conflict" && message.contains(&landing);
    thief.condition_where("Ready", "False", SOON, conflicts).await?;
    assert_eq!(table(&owner, &landing).await?, before);
    assert!(!stores::topics().await?.contains(&names::topic(&thief.id())));
    owner.ready().await?;
    owner.clean_up().await?;
    thief.clean_up().await
}
