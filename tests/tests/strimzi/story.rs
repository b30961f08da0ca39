//! What the story of pipelines with a Kafka cluster of Strimzi shares.

use anyhow::Result;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use userpipeline_api::{UserPipeline, UserPipelineConnection};
use userpipeline_stores::kafka::admin::Admin;
use userpipeline_tests::{
    World, eventually,
    services::{WithFiles, blocks},
    stores,
    strimzi::resources::{self, KafkaTopic, KafkaUser},
    world::SOON,
};

use crate::guide::Page;

/// The cluster that the chart's values list, and the namespace of its KafkaUsers (`local/operator.sh`).
pub const NAMESPACE: &str = "kafka";
pub const CLUSTER: &str = "events";
pub const USERS: &str = "strimzi-users";
/// Of every name in Kafka: the pipelines' name, which is that of their KafkaUsers.
pub const PREFIX: &str = "users-";

/// What the story shares.
pub struct Story {
    /// In the namespace of the KafkaUsers.
    pub own: World,
    /// In another one.
    pub other: World,
    pub topics: Api<KafkaTopic>,
    pub users: Api<KafkaUser>,
    pub admin: WithFiles<Admin>,
    /// The guide that the story follows.
    pub page: Mutex<Page>,
    /// Makes names in Kafka unique.
    unique: String,
}

impl Story {
    pub async fn new() -> Result<Self> {
        let other = World::new("strimzi").await?;
        let own = World {
            namespace: USERS.to_owned(),
            ..other.clone()
        };
        own.create_credentials().await?;
        Ok(Self {
            topics: resources::topics(&own.client, NAMESPACE).await?,
            users: resources::users(&own.client, USERS).await?,
            admin: stores::kafka_admin().await?,
            page: Mutex::new(Page::open(USERS)?),
            unique: format!("{PREFIX}{}", other.namespace.rsplit('-').next().unwrap_or_default()),
            own,
            other,
        })
    }

    /// The connection `stores`: its Kafka block, and everything else that pipelines need.
    pub async fn connect(&self, world: &World, kafka: &Value) -> Result<()> {
        let mut spec = blocks();
        spec["kafka"] = kafka.clone();
        let connection = json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineConnection", "metadata": {"name": "stores"}, "spec": spec});
        let by = PatchParams::apply("end-to-end").force();
        let connections = world.api::<UserPipelineConnection>();
        connections.patch("stores", &by, &Patch::Apply(&connection)).await?;
        eventually("the connection to be accepted", SOON, async || {
            let connection = connections.get("stores").await?;
            let (generation, status) = (connection.metadata.generation, connection.status.unwrap_or_default());
            let mut conditions = status.conditions.iter();
            let accepted = conditions.any(|c| c.type_ == "Accepted" && c.status == "True" && c.observed_generation == generation);
            Ok(if accepted {
                Ok(())
            } else {
                Err(format!("{:?}", status.conditions))
            })
        })
        .await
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.unique)
    }

    /// The KafkaTopic of a topic.
    pub async fn resource(&self, topic: &str) -> Result<Option<KafkaTopic>> {
        let all = self.topics.list(&ListParams::default()).await?.items;
        Ok(all
            .into_iter()
            .find(|resource| resource.spec.topic_name.as_deref().unwrap_or(&resource.name_any()) == topic))
    }

    /// Deletes the pipeline of a world, and waits until it is gone.
    pub async fn delete(&self, world: &World) -> Result<()> {
        let pipelines = world.api::<UserPipeline>();
        pipelines.delete("users", &DeleteParams::default()).await?;
        eventually("the pipeline to be gone", SOON, async || {
            let found = pipelines.get_opt("users").await?;
            Ok(found.map_or(Ok(()), |found| Err(format!("{:?}", found.status.map(|status| status.conditions)))))
        })
        .await
    }
}

/// The pipeline of a world, with this topic in the cluster.
pub fn pipeline(world: &World, topic: &str) -> Value {
    let mut pipeline = world.pipeline();
    let spec = &mut pipeline["spec"];
    for block in ["postgres", "schemaRegistry", "cassandra"] {
        spec.as_object_mut().map(|spec| spec.remove(block));
    }
    spec["connections"] = json!([{"name": "stores"}]);
    spec["kafka"] = json!({"groupId": topic, "topic": {"name": topic, "partitions": 3}});
    spec["deletionPolicy"] = json!("Delete");
    pipeline
}

/// The Kafka block of a connection with a listener of the cluster.
pub fn listener(name: &str, auth: &Value) -> Value {
    json!({"strimzi": {"cluster": CLUSTER, "namespace": NAMESPACE, "listener": name}, "auth": auth})
}
