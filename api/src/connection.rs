//! Connections: where stores and APIs are, and how to reach them, for several pipelines.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Auth, Cassandra, CassandraTls, Certificates, ConnectionCheck, Header, KafkaAuth, KafkaListenerStatus, KafkaTls, Postgres, Proxy,
    RegistryAuth, SecretRef, StrimziListener, TopicManagement,
    kafka::{IS_BOOTSTRAP_SERVERS, IS_REGISTRY_URL},
    source::is_default,
};

/// Addresses of stores and APIs, how to reach them, and which Secrets to use there. Pipelines of the same
/// namespace refer to it in `spec.connections`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "userpipeline.dev",
    version = "v1alpha1",
    kind = "UserPipelineConnection",
    plural = "userpipelineconnections",
    shortname = "upc",
    category = "pipelines",
    namespaced,
    status = "UserPipelineConnectionStatus",
    derive = "PartialEq",
    cel,
    doc = "Addresses of stores and APIs, how to reach them, and which Secrets to use there, for the pipelines of its namespace.",
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status", description = "Whether pipelines can use the connection"),
    printcolumn(name = "Checked", type_ = "string", json_path = ".status.conditions[?(@.type=='Checked')].status", description = "Whether a Job could use all its servers"),
    printcolumn(name = "Pipelines", type_ = "integer", json_path = ".status.pipelines", description = "Number of pipelines that refer to the connection"),
    printcolumn(name = "Postgres", type_ = "string", json_path = ".spec.postgres.host", priority = 1),
    printcolumn(name = "Kafka", type_ = "string", json_path = ".spec.kafka.bootstrapServers", priority = 1),
    printcolumn(name = "Cassandra", type_ = "string", json_path = ".spec.cassandra.contactPoints[0]", description = "The first contact point", priority = 1),
    printcolumn(name = "HTTP", type_ = "string", json_path = ".spec.http.baseUrl", priority = 1),
    printcolumn(name = "Certificate expiry", type_ = "string", json_path = ".status.check.certificateNotAfter", description = "Expiry of the first of the servers' certificates"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.schemaRegistry.url", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].message", priority = 1),
    printcolumn(name = "Check", type_ = "string", json_path = ".status.conditions[?(@.type=='Checked')].message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name must have at most 63 lower-case letters, digits and '-', without dots")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.postgres) || has(self.kafka) || has(self.schemaRegistry) || has(self.cassandra) || has(self.http)")
    .message("spec needs at least one of postgres, kafka, schemaRegistry, cassandra and http"))]
pub struct UserPipelineConnectionSpec {
    /// A PostgreSQL database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// A Kafka cluster, and defaults for topics there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConnection>,
    /// A schema registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<SchemaRegistryConnection>,
    /// A Cassandra cluster, and a default for keyspaces there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<CassandraConnection>,
    /// An HTTP API. Pipelines with `source.http.path` fetch from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConnection>,
}

/// A Kafka cluster, and defaults for topics there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.bootstrapServers) != has(self.strimzi)")
        .message("spec.kafka must have exactly one of bootstrapServers and strimzi"),
    validation = Rule::new("!has(self.strimzi) || !has(self.tls)")
        .message("spec.kafka.tls is not allowed with spec.kafka.strimzi: the listener decides about encryption, and the Kafka resource has its authorities"),
    validation = Rule::new("!has(self.auth) || !has(self.auth.strimziUser) || has(self.strimzi)")
        .message("spec.kafka.auth.strimziUser needs spec.kafka.strimzi, whose listener decides how the user authenticates"),
    validation = Rule::new("!has(self.auth) || !has(self.auth.plain) || (has(self.tls) && self.tls.mode != 'Disable')")
        .message("spec.kafka.auth.plain needs spec.kafka.tls with mode VerifyFull, because it sends the password itself"),
)]
pub struct KafkaConnection {
    /// Bootstrap brokers: `host:port`, several separated by commas. Either these or `strimzi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    #[x_kube(validation = Rule::new(IS_BOOTSTRAP_SERVERS)
        .message("spec.kafka.bootstrapServers must be host:port, or several of them separated by commas"))]
    pub bootstrap_servers: Option<String>,
    /// A Kafka cluster that Strimzi runs in this Kubernetes cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strimzi: Option<StrimziListener>,
    /// Encryption and verification. Without `tls`, traffic is encrypted and the server is verified fully; in a
    /// pipeline that is older than this default, it is plain text (`status.defaultTlsMode`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Authentication. Default: none, or the client certificate of `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<KafkaAuth>,
    /// Settings of topics for which pipelines set nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicDefaults>,
}

/// Settings of topics for which pipelines set nothing else.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicDefaults {
    /// Number of replicas of each partition. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: Option<i32>,
    /// Configs of topics, such as `retention.ms`. Those that a pipeline sets win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub config: BTreeMap<String, String>,
    /// Who creates topics. Default: `Strimzi` where the connection has `strimzi`, otherwise `Direct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<TopicManagement>,
}

/// A schema registry with Confluent's API.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tls) || self.url.startsWith('https://')")
        .message("spec.schemaRegistry.tls needs an https address in spec.schemaRegistry.url"),
    validation = Rule::new("!has(self.auth) || self.url.startsWith('https://')")
        .message("spec.schemaRegistry.auth needs an https address in spec.schemaRegistry.url: credentials are not sent in plain text"),
)]
pub struct SchemaRegistryConnection {
    /// URL of the registry: `https` encrypts and verifies fully, `http` is plain text. A path prefix is
    /// allowed (Apicurio: `https://…/apis/ccompat/v7`). Redirects are not followed.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new(IS_REGISTRY_URL)
        .message("spec.schemaRegistry.url must be an http or https address without user name, query and fragment"))]
    pub url: String,
    /// Authorities and client certificate of an `https` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Certificates>,
    /// Authentication, with an `https` address only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
}

/// A Cassandra cluster, and a default for keyspaces there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CassandraConnection {
    /// Nodes to contact first, each `host` or `host:port`. Default port: 9042.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 260)))]
    pub contact_points: Vec<String>,
    /// Datacenter whose nodes receive the requests.
    #[schemars(length(min = 1, max = 128))]
    pub local_datacenter: String,
    /// Secret of type kubernetes.io/basic-auth, with the keys `username` and `password`.
    pub credentials_secret_ref: SecretRef,
    /// Encryption and verification. Without `tls`, traffic is encrypted and the server is verified fully; in a
    /// pipeline that is older than this default, it is plain text (`status.defaultTlsMode`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<CassandraTls>,
    /// Number of replicas in each datacenter, used when a keyspace is created. Datacenters that a pipeline
    /// sets in `sinks.cassandra.replication` win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub replication: BTreeMap<String, i32>,
}

impl CassandraConnection {
    /// How to reach the cluster.
    pub fn cluster(&self) -> Cassandra {
        Cassandra {
            contact_points: self.contact_points.clone(),
            local_datacenter: self.local_datacenter.clone(),
            credentials_secret_ref: self.credentials_secret_ref.clone(),
            tls: self.tls.clone(),
        }
    }
}

/// An HTTP API.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.auth) || !has(self.headers) || self.headers.all(h, h.name.lowerAscii() != 'authorization')")
    .message("spec.http.auth and a header Authorization exclude each other: remove one of them"))]
pub struct HttpConnection {
    /// URL, http or https, without credentials, query and placeholders. `source.http.path` of a pipeline is
    /// appended to it.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s\\\\\\\\{}]+(/[^?#\\\\s\\\\\\\\{}]*)?$')")
        .message("spec.http.baseUrl must be an http or https address without user name, query, fragment and placeholders"))]
    pub base_url: String,
    /// Authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Client certificate, and authorities in addition to the public ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Certificates,
    /// Other servers to which redirects and `Link` headers may lead, each `host` or `host:port`. A redirect
    /// from https to http is never followed. These servers receive `headers`, but no credentials of `auth`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 260), regex(pattern = r"^[A-Za-z0-9.:\[\]_-]+$")))]
    pub allowed_hosts: Vec<String>,
    /// Headers of each request, before those of the pipeline. Only here can a header come from a Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<Header>,
    /// HTTP proxy for the runs of pipelines that fetch from this API, also for their requests to the schema
    /// registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// Status of a connection, as the operator observed it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPipelineConnectionStatus {
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions. See docs/reference/status-and-events.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of pipelines that refer to the connection.
    #[serde(default)]
    pub pipelines: i32,
    /// The listener of `spec.kafka.strimzi`, as the operator last found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaListenerStatus>,
    /// Result of the last check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<ConnectionCheck>,
}

/// A reference to a connection.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRef {
    /// Name of a `UserPipelineConnection` in the pipeline's namespace.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
        .message("the name of a connection must contain only lower-case letters, digits and '-'"))]
    pub name: String,
}
