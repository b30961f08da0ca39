//! A `Kafka` whose status describes the Kafka of the local cluster, as the Cluster Operator would.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    conditions::{explained, plain, write_status},
    crds,
    resources::{self, Condition},
};
use crate::{
    services::{authority, host_name},
    stores,
};

const VERSIONS: &str = include_str!("../../../local/versions.env");

/// Its listeners, with their ports in the local cluster: `plain` in plain text, `tls` with SCRAM-SHA-512, and `mutual` with a client
/// certificate.
const LISTENERS: [(&str, u16, Option<&str>); 3] = [
    ("plain", 9092, None),
    ("tls", 9093, Some("scram-sha-512")),
    ("mutual", 9095, Some("tls")),
];

pub struct KafkaResource {
    client: Client,
    api: Api<DynamicObject>,
    namespace: String,
    name: String,
}

impl KafkaResource {
    /// Creates it with a status that is Ready, and the Secrets with the certificates of its authorities.
    pub async fn create(client: &Client, namespace: &str, name: &str) -> Result<Self> {
        crds::ensure_installed(client).await?;
        let resource = resources::resource(client, "Kafka").await?;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let listener = |(name, port, authentication): (&str, u16, Option<&str>)| {
            let mut listener = json!({"name": name, "port": port, "type": "internal", "tls": authentication.is_some()});
            if let Some(kind) = authentication {
                listener["authentication"] = json!({"type": kind});
            }
            listener
        };
        let kafka = json!({
            "apiVersion": resource.api_version, "kind": "Kafka", "metadata": {"name": name},
            "spec": {
                "kafka": {"listeners": LISTENERS.map(listener), "authorization": {"type": "simple"}},
                "entityOperator": {"topicOperator": {}, "userOperator": {}}
            }
        });
        api.patch(name, &PatchParams::apply("end-to-end").force(), &Patch::Apply(kafka))
            .await?;
        let created = Self {
            client: client.clone(),
            api,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        created.set_certificates(&[authority(client).await?]).await?;
        Ok(created)
    }

    /// Replaces the certificates of the encrypted listeners, as a renewal of the authority does, and those of its Secrets. The broker's own
    /// are those of [`BrokerCertificate`](crate::broker_certificate::BrokerCertificate).
    pub async fn set_certificates(&self, certificates: &[String]) -> Result<()> {
        let generation = self.set_secrets(&certificates.concat()).await?;
        self.report(certificates, &[plain("Ready")])
            .await
            .with_context(|| format!("certificates of generation {generation}"))
    }

    /// Is Ready no longer, with the same listeners.
    pub async fn set_not_ready(&self, reason: &str, message: &str) -> Result<()> {
        let condition = explained("NotReady", "True", reason, message);
        self.report(&[authority(&self.client).await?], &[condition]).await
    }

    async fn report(&self, certificates: &[String], conditions: &[Condition]) -> Result<()> {
        let host = host_name("kafka");
        let listener = |(name, port, authentication): (&str, u16, Option<&str>)| {
            let address = json!({"host": host, "port": port});
            let mut listener = json!({"name": name, "bootstrapServers": format!("{host}:{port}"), "addresses": [address]});
            if authentication.is_some() {
                listener["certificates"] = json!(certificates);
            }
            listener
        };
        let version = VERSIONS.lines().find_map(|line| line.strip_prefix("KAFKA_VERSION="));
        let status = json!({
            "observedGeneration": self.api.get(&self.name).await?.metadata.generation,
            "clusterId": stores::kafka_admin().await?.cluster_id().await?,
            "kafkaVersion": version, "kafkaNodePools": [{"name": "dual-role"}], "registeredNodeIds": [1],
            "listeners": LISTENERS.map(listener), "conditions": conditions
        });
        Ok(write_status(&self.api, &self.name, &status).await?)
    }

    /// Gives their generation.
    async fn set_secrets(&self, certificates: &str) -> Result<u32> {
        const GENERATION: &str = "strimzi.io/ca-cert-generation";
        let (secrets, by) = (
            Api::<Secret>::namespaced(self.client.clone(), &self.namespace),
            PatchParams::apply("strimzi-cluster-operator"),
        );
        let mut generation = 0;
        for kind in ["cluster", "clients"] {
            let name = format!("{}-{kind}-ca-cert", self.name);
            let old = secrets.get_opt(&name).await?;
            let old = old.and_then(|old| old.annotations().get(GENERATION)?.parse::<u32>().ok());
            generation = old.map_or(0, |old| old + 1);
            let secret: Value = json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"ca.crt": certificates},
                "metadata": {"name": name, "annotations": {GENERATION: generation.to_string()}}
            });
            secrets.patch(&name, &by.clone().force(), &Patch::Apply(secret)).await?;
        }
        Ok(generation)
    }
}
