//! The services of the local cluster, as pipelines and clients on this machine reach them: encrypted, verified, with a login.

use std::{fs, ops::Deref, path::Path};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use userpipeline_api::Certificates;
use userpipeline_stores::{
    Secrets,
    wire::{Verification, Wire, client_config},
};

use crate::cluster::{SERVICES, credentials};

/// The Secrets that a pipeline needs, and those of the namespace `services` that they are copies of.
pub const CREDENTIALS: [(&str, &str); 4] = [
    ("postgres-credentials", "postgres-userpipeline"),
    ("kafka-credentials", "kafka-userpipeline"),
    ("registry-credentials", "schema-registry-userpipeline"),
    ("cassandra-credentials", "cassandra-userpipeline"),
];
/// The Secret with the only role that PostgreSQL admits in plain text, and its original.
pub const PLAIN_CREDENTIALS: (&str, &str) = ("plain-credentials", "postgres-userpipeline-plain");
/// The ConfigMap with the authority of the services' certificates, and its key.
pub const CA: (&str, &str) = ("ca", "ca.crt");

/// The full name of a service in the cluster.
pub fn host_name(service: &str) -> String {
    format!("{service}.{SERVICES}.svc.cluster.local")
}

/// `tls` with the authority in the ConfigMap of this name.
pub fn tls(config_map: &str) -> Value {
    json!({"ca": {"configMapKeyRef": {"name": config_map, "key": CA.1}}})
}

/// The blocks of a spec that reach the services. The ConfigMap of each has the authority of its server.
pub fn blocks() -> Value {
    let secret = |name: &str| json!({"name": name});
    json!({
        "postgres": {
            "host": host_name("postgres"), "database": "userpipeline",
            "credentialsSecretRef": secret("postgres-credentials"), "tls": tls(CA.0)
        },
        "kafka": {
            "bootstrapServers": format!("{}:9093", host_name("kafka")), "topic": {"partitions": 3}, "tls": tls(CA.0),
            "auth": {"scramSha512": {"credentialsSecretRef": secret("kafka-credentials")}}
        },
        "schemaRegistry": {
            "url": format!("https://{}:8443/apis/ccompat/v7", host_name("schema-registry")), "tls": tls(CA.0),
            "auth": {"basic": {"credentialsSecretRef": secret("registry-credentials")}}
        },
        "cassandra": {
            "contactPoints": [host_name("cassandra")], "localDatacenter": "datacenter1",
            "credentialsSecretRef": secret("cassandra-credentials"), "tls": tls(CA.0)
        }
    })
}

/// The pipeline with the listeners in plain text, and this `tls` for each store, if any. It needs [`PLAIN_CREDENTIALS`].
pub fn in_plain_text(mut pipeline: Value, tls: Option<&Value>) -> Value {
    let spec = &mut pipeline["spec"];
    spec["source"]["http"]["url"] = json!(format!("http://{}/api/", host_name("source")));
    spec["postgres"]["credentialsSecretRef"]["name"] = json!(PLAIN_CREDENTIALS.0);
    spec["kafka"]["bootstrapServers"] = json!(format!("{}:9092", host_name("kafka")));
    spec["cassandra"]["contactPoints"] = json!([format!("{}:9142", host_name("cassandra"))]);
    spec["schemaRegistry"] = json!({"url": format!("http://{}:8080/apis/ccompat/v7", host_name("schema-registry"))});
    for block in ["postgres", "kafka", "cassandra"] {
        let Some(block) = spec[block].as_object_mut() else { continue };
        block.remove("auth");
        block.remove("tls");
        block.extend(tls.map(|tls| ("tls".to_owned(), tls.clone())));
    }
    pipeline
}

/// The authority of the services' certificates, in PEM.
pub async fn authority(client: &Client) -> Result<String> {
    let config_map = Api::<ConfigMap>::namespaced(client.clone(), SERVICES).get(CA.0).await?;
    let mut data = config_map.data.unwrap_or_default();
    data.remove(CA.1).context("the authority of the services")
}

/// What a pod mounts: [`CREDENTIALS`], and more Secrets of the services under their own names.
pub struct Mounted(TempDir);

impl Mounted {
    pub async fn new(client: &Client, more: &[&str]) -> Result<Self> {
        let mounted = Self(tempfile::tempdir()?);
        for (name, original) in CREDENTIALS.into_iter().chain(more.iter().map(|name| (*name, *name))) {
            let (username, password) = credentials(client, SERVICES, original).await?;
            mounted.write("secrets", name, "username", &username)?;
            mounted.write("secrets", name, "password", &password)?;
        }
        mounted.write("config-maps", CA.0, CA.1, &authority(client).await?)?;
        Ok(mounted)
    }

    fn write(&self, kind: &str, name: &str, key: &str, text: &str) -> Result<()> {
        let folder = self.0.path().join(kind).join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(key), text)?;
        Ok(())
    }

    /// With the folders `secrets` and `config-maps`.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn secrets(&self) -> Secrets {
        Secrets::in_dir(self.0.path().join("secrets")).with_config_maps(self.0.path().join("config-maps"))
    }

    /// The TLS configuration of a client that requires `name` of its server; without one, the name that it connects to.
    pub fn client_config(&self, name: Option<&'static str>) -> Result<ClientConfig> {
        let certificates: Certificates = serde_json::from_value(tls(CA.0))?;
        let wire = Wire::new("the service", &self.secrets()).with_certificates(Some(&certificates));
        let verification = match name {
            Some(name) => Verification::FixedName(ServerName::try_from(name)?),
            None => Verification::Name,
        };
        Ok(client_config(&wire, &wire.read()?, verification)?)
    }
}

/// A client that reads mounted files again and again.
pub struct WithFiles<T> {
    client: T,
    _files: Mounted,
}

impl<T> WithFiles<T> {
    pub const fn new(client: T, files: Mounted) -> Self {
        Self { client, _files: files }
    }
}

impl<T> Deref for WithFiles<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}
