//! The resources of Strimzi, as far as pipelines use them, in whichever version the API server serves.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::{Api, Client, api::ApiResource, core::Object, discovery};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub const GROUP: &str = "kafka.strimzi.io";
/// The label with the name of the `Kafka` that a topic or a user belongs to.
pub const CLUSTER_LABEL: &str = "strimzi.io/cluster";
pub const FINALIZER: &str = "strimzi.io/topic-operator";
/// With the value `false`, the Topic Operator leaves the topic alone.
pub const MANAGED: &str = "strimzi.io/managed";
/// With the value `true`, the operators leave the resource alone.
pub const PAUSED: &str = "strimzi.io/pause-reconciliation";

pub type KafkaTopic = Object<TopicSpec, TopicStatus>;
pub type KafkaUser = Object<UserSpec, UserStatus>;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicSpec {
    pub topic_name: Option<String>,
    pub partitions: Option<i32>,
    pub replicas: Option<i32>,
    pub config: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStatus {
    pub conditions: Vec<Condition>,
    pub observed_generation: Option<i64>,
    pub topic_name: Option<String>,
    pub topic_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserSpec {
    pub authentication: Option<Authentication>,
    pub authorization: Option<Authorization>,
    pub template: Option<Value>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Authentication {
    #[serde(rename = "type")]
    pub kind: AuthenticationType,
    /// Of scram-sha-512 only: a password that the user chose.
    pub password: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthenticationType {
    Tls,
    TlsExternal,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Authorization {
    pub acls: Vec<AclRule>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AclRule {
    #[serde(rename = "type", default)]
    pub kind: AclRuleType,
    pub resource: AclResource,
    pub host: Option<String>,
    pub operations: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AclRuleType {
    #[default]
    Allow,
    Deny,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AclResource {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: Option<String>,
    pub pattern_type: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserStatus {
    pub conditions: Vec<Condition>,
    pub observed_generation: Option<i64>,
    pub username: Option<String>,
    pub secret: Option<String>,
}

/// Unlike those of Kubernetes, without `observedGeneration`, and often without reason and message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub last_transition_time: String,
}

/// How to reach a kind in the version that is served. Fails where Strimzi's definitions are not installed.
pub async fn resource(client: &Client, kind: &str) -> Result<ApiResource> {
    let group = discovery::group(client, GROUP).await.context("the definitions of Strimzi")?;
    let (resource, _) = group.recommended_kind(kind).with_context(|| format!("no kind {kind} is served"))?;
    Ok(resource)
}

pub async fn topics(client: &Client, namespace: &str) -> Result<Api<KafkaTopic>> {
    let resource = resource(client, "KafkaTopic").await?;
    Ok(Api::namespaced_with(client.clone(), namespace, &resource))
}

pub async fn users(client: &Client, namespace: &str) -> Result<Api<KafkaUser>> {
    let resource = resource(client, "KafkaUser").await?;
    Ok(Api::namespaced_with(client.clone(), namespace, &resource))
}
