//! A pipeline whose topics and user Strimzi manages.

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use userpipeline_api::{ExistingTopic, UserPipeline, UserPipelineConnection};
use userpipeline_tests::{
    crash::{STRIMZI_CLUSTER, Sandbox, Setup},
    strimzi::resources,
};

use crate::scenario::Scenario;

/// That others gave to a topic.
const RETENTION: (&str, &str) = ("retention.ms", "123456789");

pub const SCENARIOS: [Scenario; 5] = [
    Scenario::with(Setup::Strimzi, "Strimzi: create", |sandbox| Box::pin(create(sandbox, "Retain"))),
    Scenario::with(Setup::Strimzi, "Strimzi: adopt a topic", |sandbox| Box::pin(adopt(sandbox))),
    Scenario::with(Setup::Strimzi, "Strimzi: delete, retaining the data", |sandbox| {
        Box::pin(delete(sandbox, "Retain", 2))
    }),
    Scenario::with(Setup::Strimzi, "Strimzi: delete with the data", |sandbox| {
        Box::pin(delete(sandbox, "Delete", 0))
    }),
    Scenario::with(Setup::StrimziLater, "Strimzi: definitions that come later", |sandbox| {
        Box::pin(definitions_that_come_later(sandbox))
    }),
];

/// A connection with a KafkaUser for each pipeline.
fn connection(sandbox: &Sandbox) -> Value {
    let mut connection = Sandbox::connection();
    connection["spec"]["kafka"] = json!({
        "strimzi": {"cluster": STRIMZI_CLUSTER, "namespace": sandbox.namespace, "listener": "tls"},
        "auth": {"strimziUser": {}}
    });
    connection
}

fn pipeline(policy: &str) -> Value {
    let mut pipeline = Sandbox::connected_pipeline();
    pipeline["spec"]["deletionPolicy"] = json!(policy);
    pipeline
}

async fn create(sandbox: &Sandbox, policy: &str) -> Result<()> {
    sandbox.apply::<UserPipelineConnection>(&connection(sandbox)).await?;
    sandbox.ready(&pipeline(policy)).await
}

async fn adopt(sandbox: &Sandbox) -> Result<()> {
    let config = [RETENTION, ("min.cleanable.dirty.ratio", "0.4")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let name = format!("{}.users", sandbox.namespace);
    sandbox.kafka.create(ExistingTopic {
        name: name.clone(),
        id: "of-others".to_owned(),
        partitions: 4,
        replicas: 1,
        message_limit: Some(2_000_000),
        config: config.into(),
    });
    sandbox.apply::<UserPipelineConnection>(&connection(sandbox)).await?;
    let mut adopting = pipeline("Delete");
    adopting["spec"]["kafka"] = json!({"topic": {"adopt": true}});
    sandbox.ready(&adopting).await?;
    let topics = sandbox.kafka.topics();
    let adopted = topics.iter().find(|topic| topic.name == name).context("the topic")?;
    ensure!(
        adopted.config.get(RETENTION.0).map(String::as_str) == Some(RETENTION.1),
        "{adopted:?}"
    );
    Ok(())
}

async fn delete(sandbox: &Sandbox, policy: &str, topics_left: usize) -> Result<()> {
    create(sandbox, policy).await?;
    sandbox.delete::<UserPipeline>("users").await?;
    sandbox.gone().await?;
    let (topics, users) = (
        resources::topics(&sandbox.client, &sandbox.namespace).await?,
        resources::users(&sandbox.client, &sandbox.namespace).await?,
    );
    // Kubernetes collects the user of a pipeline that retains its data, and the connection counts its pipelines a second later.
    let all = ListParams::default();
    sandbox
        .quiet("the KafkaUser to be gone, and a connection without pipelines", async || {
            let users = users.list(&all).await?.items.len();
            let connection = sandbox.api::<UserPipelineConnection>().get("stores").await?;
            let pipelines = connection.status.unwrap_or_default().pipelines;
            Ok(if users == 0 && pipelines == 0 {
                Ok(())
            } else {
                Err(format!("{users} KafkaUsers, {pipelines} pipelines"))
            })
        })
        .await?;
    let found = topics.list(&all).await?.items.len();
    ensure!(found == topics_left, "{found} KafkaTopics");
    Ok(())
}

async fn definitions_that_come_later(sandbox: &Sandbox) -> Result<()> {
    sandbox.apply::<UserPipelineConnection>(&connection(sandbox)).await?;
    sandbox.apply::<UserPipeline>(&pipeline("Retain")).await?;
    sandbox
        .quiet("the connection to miss Strimzi", async || {
            let connection = sandbox.api::<UserPipelineConnection>().get("stores").await?;
            let conditions = connection.status.unwrap_or_default().conditions;
            let misses = conditions
                .iter()
                .any(|c| c.type_ == "Accepted" && c.status == "False" && c.reason == "StrimziMissing");
            Ok(if misses { Ok(()) } else { Err(format!("{conditions:?}")) })
        })
        .await?;
    ensure!(sandbox.observed().await?.ends_with("=False"), "the pipeline cannot be ready");
    sandbox.install_strimzi();
    sandbox.settled("Ready").await?;
    let topics = sandbox.kafka.topics().len();
    ensure!(topics == 2, "{topics} topics");
    Ok(())
}
