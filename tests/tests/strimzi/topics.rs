//! The life of a `KafkaTopic`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_api::topic_id;
use userpipeline_tests::{
    World, eventually, stores,
    strimzi::{
        Installation,
        resources::{self, CLUSTER_LABEL, FINALIZER, KafkaTopic, MANAGED, PAUSED},
    },
    world::SOON,
};

const CLUSTER: &str = "kafka";
/// Longer than the stand-in needs for a topic that it manages.
const IGNORED: Duration = Duration::from_secs(6);

struct Topics {
    api: Api<KafkaTopic>,
    api_version: String,
    namespace: String,
}

impl Topics {
    async fn of(world: &World) -> Result<Self> {
        Ok(Self {
            api: resources::topics(&world.client, &world.namespace).await?,
            api_version: resources::resource(&world.client, "KafkaTopic").await?.api_version,
            namespace: world.namespace.clone(),
        })
    }

    /// Applies a topic of the cluster.
    async fn apply(&self, name: &str, annotations: Value, mut spec: Value) -> Result<()> {
        if spec["topicName"].is_null() {
            spec["topicName"] = json!(self.named(name));
        }
        let labels = json!({CLUSTER_LABEL: CLUSTER});
        let topic = json!({
            "apiVersion": self.api_version, "kind": "KafkaTopic",
            "metadata": {"name": name, "labels": labels, "annotations": annotations}, "spec": spec
        });
        let by = PatchParams::apply("end-to-end").force();
        self.api.patch(name, &by, &Patch::Apply(topic)).await?;
        Ok(())
    }

    /// The topic in Kafka of the resource with this name.
    fn named(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    /// Waits until the status has this condition for the current spec. Gives the resource and the condition's message.
    async fn reported(&self, name: &str, kind: &str, status: &str, reason: Option<&str>) -> Result<(KafkaTopic, String)> {
        eventually(&format!("{kind}={status} ({reason:?}) of {name}"), SOON, async || {
            let topic = self.api.get(name).await?;
            let reported = topic.status.clone().unwrap_or_default();
            let found = reported.conditions.iter().find(|condition| condition.kind == kind);
            let current = kind == "ReconciliationPaused" || reported.observed_generation == topic.metadata.generation;
            Ok(match found {
                Some(found) if current && found.status == status && found.reason.as_deref() == reason => {
                    Ok((topic.clone(), found.message.clone().unwrap_or_default()))
                }
                _ => Err(format!("generation {:?}: {reported:?}", topic.metadata.generation)),
            })
        })
        .await
    }

    async fn ready(&self, name: &str) -> Result<KafkaTopic> {
        Ok(self.reported(name, "Ready", "True", None).await?.0)
    }

    async fn gone(&self, name: &str) -> Result<()> {
        eventually(&format!("{name} to be gone"), SOON, async || {
            let left = self.api.get_opt(name).await?;
            Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status))))
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.api.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }
}

fn id(topic: &KafkaTopic) -> Option<&str> {
    topic.status.as_ref()?.topic_id.as_deref()
}

fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_changed_re_created_and_deleted() -> Result<()> {
    // Given a Strimzi
    let world = World::without_secrets("topic-life").await?;
    let strimzi = Installation::start(&world, CLUSTER).await?;
    let (topics, admin) = (Topics::of(&world).await?, stores::kafka_admin().await?);
    let name = topics.named("users");

    // When a topic is applied, Then Kafka has it, and the status has its name and its id
    topics
        .apply(
            "users",
            json!({}),
            json!({"partitions": 2, "replicas": 1, "config": {"retention.ms": 100_000}}),
        )
        .await?;
    let ready = topics.ready("users").await?;
    let state = admin.topic(&name).await?.context("the topic")?;
    assert_eq!((state.partitions, Some(topic_id(&state.id).as_str())), (2, id(&ready)));
    assert_eq!(
        ready.status.as_ref().and_then(|status| status.topic_name.clone()),
        Some(name.clone())
    );
    assert!(ready.finalizers().iter().any(|finalizer| finalizer == FINALIZER));
    assert_eq!(admin.config(&name).await?["retention.ms"], "100000");

    // When it gets more partitions and another setting, Then the setting that the spec lacks is gone
    topics
        .apply(
            "users",
            json!({}),
            json!({"partitions": 3, "replicas": 1, "config": {"max.message.bytes": 2_000_000}}),
        )
        .await?;
    topics.ready("users").await?;
    let settings = admin.config(&name).await?;
    assert_eq!(admin.topic(&name).await?.context("the topic")?.partitions, 3);
    assert_eq!(
        (settings["retention.ms"].as_str(), settings["max.message.bytes"].as_str()),
        ("604800000", "2000000")
    );

    // When it is deleted in Kafka, Then it is created again, with another id
    admin.delete_topic(&name).await?;
    eventually("another id", SOON, async || {
        let topic = topics.api.get("users").await?;
        Ok(if id(&topic).is_some() && id(&topic) != id(&ready) {
            Ok(())
        } else {
            Err(format!("{:?}", topic.status))
        })
    })
    .await?;
    assert_ne!(admin.topic(&name).await?.context("the topic")?.id, state.id);

    // When its name changes, Then that is refused, and it cannot be deleted until it has its name again
    topics
        .apply("users", json!({}), json!({"topicName": topics.named("renamed"), "partitions": 3}))
        .await?;
    topics.reported("users", "Ready", "False", Some("NotSupported")).await?;
    topics.delete("users").await?;
    tokio::time::timeout(IGNORED, topics.gone("users"))
        .await
        .expect_err("the deletion hangs");
    assert!(admin.topic(&name).await?.is_some());
    topics.apply("users", json!({}), json!({"partitions": 3})).await?;
    topics.gone("users").await?;
    assert!(admin.topic(&name).await?.is_none(), "the topic is deleted in Kafka too");
    strimzi.clean_up().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_topic_is_adopted_and_loses_the_settings_that_the_spec_lacks() -> Result<()> {
    // Given a topic in Kafka
    let world = World::without_secrets("topic-adopted").await?;
    let strimzi = Installation::start(&world, CLUSTER).await?;
    let (topics, admin) = (Topics::of(&world).await?, stores::kafka_admin().await?);
    let name = topics.named("users");
    admin
        .create(&name, 3, 1, &config(&[("retention.ms", "100000"), ("cleanup.policy", "compact")]))
        .await?;
    let created = admin.topic(&name).await?.context("the topic")?;

    // When a resource is applied that is unmanaged, Then the topic stays as it is, and the status has neither Ready nor its id
    topics
        .apply(
            "users",
            json!({MANAGED: "false"}),
            json!({"partitions": 3, "config": {"retention.ms": 200_000}}),
        )
        .await?;
    let (unmanaged, _) = topics.reported("users", "Unmanaged", "True", None).await?;
    let status = unmanaged.status.context("a status")?;
    assert_eq!((status.conditions.len(), status.topic_id), (1, None));
    assert_eq!(admin.config(&name).await?["cleanup.policy"], "compact");

    // When it is paused instead, Then the same
    topics
        .apply(
            "users",
            json!({PAUSED: "true"}),
            json!({"partitions": 3, "config": {"retention.ms": 200_000}}),
        )
        .await?;
    let (paused, _) = topics.reported("users", "ReconciliationPaused", "True", None).await?;
    let status = paused.status.context("a status")?;
    assert_eq!((status.conditions.len(), status.topic_id), (1, None));
    assert_eq!(admin.config(&name).await?["cleanup.policy"], "compact");

    // When it is managed, Then it is the same topic with the settings of the spec only
    topics
        .apply("users", json!({}), json!({"partitions": 3, "config": {"retention.ms": 200_000}}))
        .await?;
    let ready = topics.ready("users").await?;
    assert_eq!(id(&ready), Some(topic_id(&created.id).as_str()));
    let settings = admin.config(&name).await?;
    assert_eq!(
        (settings["retention.ms"].as_str(), settings["cleanup.policy"].as_str()),
        ("200000", "delete")
    );

    // When an unmanaged resource is deleted, Then the topic stays
    topics.apply("users", json!({MANAGED: "false"}), json!({"partitions": 3})).await?;
    topics.reported("users", "Unmanaged", "True", None).await?;
    topics.delete("users").await?;
    topics.gone("users").await?;
    assert!(admin.topic(&name).await?.is_some());
    admin.delete_topic(&name).await?;
    strimzi.clean_up().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_or_strimzi_cannot_do_is_refused_with_a_reason() -> Result<()> {
    // Given a Strimzi with a topic
    let world = World::without_secrets("topic-refused").await?;
    let strimzi = Installation::start(&world, CLUSTER).await?;
    let topics = Topics::of(&world).await?;
    topics.apply("users", json!({}), json!({"partitions": 2, "replicas": 1})).await?;
    topics.ready("users").await?;

    // When a spec cannot be done, Then the status has the reason
    for (name, spec, reason, expected) in [
        (
            "replicas",
            json!({"partitions": 1, "replicas": 3}),
            "KafkaError",
            "InvalidReplicationFactor",
        ),
        (
            "setting",
            json!({"partitions": 1, "replicas": 1, "config": {"no.such.setting": 1}}),
            "KafkaError",
            "InvalidConfig",
        ),
        (
            "users",
            json!({"partitions": 2, "config": {"retention.ms": "long"}}),
            "KafkaError",
            "InvalidConfig",
        ),
        (
            "users",
            json!({"partitions": 1}),
            "NotSupported",
            "Decreasing partitions not supported",
        ),
        (
            "users",
            json!({"partitions": 2, "replicas": 2}),
            "NotSupported",
            "Replication factor change not supported",
        ),
        (
            "rival",
            json!({"topicName": topics.named("users"), "partitions": 2}),
            "ResourceConflict",
            "Managed by Ref{",
        ),
        (
            "outside",
            json!({"topicName": "orders", "partitions": 1}),
            "OutsideOfTheStory",
            "orders",
        ),
    ] {
        topics.apply(name, json!({}), spec).await?;
        eventually(&format!("{reason} of {name}: {expected}"), SOON, async || {
            let (_, message) = topics.reported(name, "Ready", "False", Some(reason)).await?;
            Ok(if message.contains(expected) { Ok(()) } else { Err(message) })
        })
        .await?;
    }

    // When it is corrected, Then it is ready
    topics.apply("users", json!({}), json!({"partitions": 2, "replicas": 1})).await?;
    topics.ready("users").await?;

    strimzi.clean_up().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_no_cluster_or_of_another_one_is_ignored() -> Result<()> {
    // Given a Strimzi
    let world = World::without_secrets("topic-ignored").await?;
    let strimzi = Installation::start(&world, CLUSTER).await?;
    let topics = Topics::of(&world).await?;

    // When a resource belongs to no cluster, or to another one, Then it has no status
    for labels in [json!({}), json!({CLUSTER_LABEL: "another"})] {
        let topic = json!({
            "apiVersion": topics.api_version, "kind": "KafkaTopic", "metadata": {"name": "ignored", "labels": labels},
            "spec": {"topicName": topics.named("ignored"), "partitions": 1}
        });
        topics
            .api
            .patch("ignored", &PatchParams::apply("end-to-end").force(), &Patch::Apply(topic))
            .await?;
        let reported = tokio::time::timeout(IGNORED, topics.reported("ignored", "Ready", "True", None)).await;
        ensure!(reported.is_err(), "with the labels {labels}: {reported:?}");
    }
    strimzi.clean_up().await?;
    world.clean_up().await
}
