//! What the operator reads of Strimzi's resources. Everything else in them is ignored.

use std::collections::BTreeMap;

use kube::core::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub type Kafka = Object<KafkaSpec, KafkaStatus>;
pub type KafkaTopic = Object<KafkaTopicSpec, KafkaTopicStatus>;
pub type KafkaUser = Object<KafkaUserSpec, KafkaUserStatus>;

/// A kind of Strimzi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Kafka,
    KafkaTopic,
    KafkaUser,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::KafkaTopic => "KafkaTopic",
            Self::KafkaUser => "KafkaUser",
        }
    }

    pub const fn plural(self) -> &'static str {
        match self {
            Self::Kafka => "kafkas",
            Self::KafkaTopic => "kafkatopics",
            Self::KafkaUser => "kafkausers",
        }
    }
}

/// A condition in Strimzi's statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StrimziCondition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaSpec {
    pub kafka: KafkaClusterSpec,
    pub entity_operator: Option<EntityOperator>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaClusterSpec {
    pub listeners: Vec<ListenerSpec>,
    /// None where every user may do everything.
    pub authorization: Option<Authorization>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    #[serde(rename = "type")]
    pub type_: String,
    /// Of `type: custom`: whether ACLs can be set through Kafka's admin API.
    pub supports_admin_api: bool,
}

impl KafkaClusterSpec {
    /// Whether the User Operator sets the ACLs of users. Elsewhere it refuses a user that has any.
    pub fn has_acls(&self) -> bool {
        let authorization = self.authorization.as_ref();
        authorization.is_some_and(|authorization| match authorization.type_.as_str() {
            "simple" => true,
            "custom" => authorization.supports_admin_api,
            _ => false,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerSpec {
    pub name: String,
    pub tls: bool,
    pub authentication: Option<Authentication>,
}

/// The authentication of a listener or a KafkaUser: `tls`, `scram-sha-512` and others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authentication {
    #[serde(rename = "type")]
    pub type_: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntityOperator {
    pub topic_operator: Option<WatchedNamespace>,
    pub user_operator: Option<WatchedNamespace>,
}

/// The namespace whose resources an operator of Strimzi reconciles. Default: that of the `Kafka` resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WatchedNamespace {
    pub watched_namespace: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaStatus {
    pub conditions: Vec<StrimziCondition>,
    pub observed_generation: Option<i64>,
    pub cluster_id: Option<String>,
    pub listeners: Vec<ListenerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerStatus {
    pub name: String,
    pub bootstrap_servers: Option<String>,
    /// The authorities of the brokers' certificates, in PEM; of TLS listeners only.
    pub certificates: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaTopicSpec {
    /// Default: the name of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Values may be texts, numbers and booleans.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaTopicStatus {
    pub conditions: Vec<StrimziCondition>,
    pub observed_generation: Option<i64>,
    pub topic_name: Option<String>,
    /// Kafka's id of the topic. Paused and unmanaged topics have none here.
    pub topic_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaUserSpec {
    pub authentication: Option<Authentication>,
    /// With the ACLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaUserStatus {
    pub conditions: Vec<StrimziCondition>,
    pub observed_generation: Option<i64>,
    pub username: Option<String>,
    /// Name of the Secret with the credentials.
    pub secret: Option<String>,
}

impl KafkaTopicSpec {
    /// The topic of the resource with this name.
    pub fn topic<'a>(&'a self, resource: &'a str) -> &'a str {
        self.topic_name.as_deref().unwrap_or(resource)
    }
}
