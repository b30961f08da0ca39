//! Servers of the same images as the local services, whose certificate has expired, or that require one of the client.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Pod, PodTemplateSpec, Secret, Service},
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use userpipeline_tests::{
    World,
    cluster::SERVICES,
    tls::{Authority, Identity},
    world::SOON,
};

use crate::accounts::services_authority;

const CASSANDRA_CONFIG: &str = include_str!("../../../local/images/cassandra/cassandra.yaml");
const REQUESTS_NONE: &str = "require_client_auth: false";
/// Cassandra takes a minute to start, and a schema Job is retried less and less often.
const STARTED: std::time::Duration = SOON.saturating_mul(4);

/// A server beside the services: its name, the service that it is like, and its container.
struct Server {
    name: &'static str,
    like: &'static str,
    container: &'static str,
    port: u16,
}

const EXPIRED: [(Server, &str); 4] = [
    (server("expired-postgres", "postgres", "postgres", 5432), "PostgreSQL"),
    (server("expired-kafka", "kafka", "kafka", 9093), "Kafka"),
    // The proxy in front of it has the certificate.
    (
        server("expired-registry", "schema-registry", "tls-proxy", 8443),
        "the schema registry",
    ),
    (server("expired-cassandra", "cassandra", "cassandra", 9042), "Cassandra"),
];
const STRICT: Server = server("strict-cassandra", "cassandra", "cassandra", 9042);

const fn server(name: &'static str, like: &'static str, container: &'static str, port: u16) -> Server {
    Server {
        name,
        like,
        container,
        port,
    }
}

impl Server {
    fn host(&self, world: &World) -> String {
        format!("{}.{}.svc.cluster.local", self.name, world.namespace)
    }

    /// Starts it with a certificate, and with a configuration file instead of the image's.
    async fn start(&self, world: &World, certificate: &Identity, authority: &Authority, file: Option<(&str, &str)>) -> Result<()> {
        let (cert, key) = certificate.pem();
        let pair = [("tls.crt", cert.as_str()), ("tls.key", &key), ("ca.crt", &authority.pem())];
        world.set_secret_of_type(self.name, "kubernetes.io/tls", &pair).await?;
        let pod = self.pod(&template(world, self.like).await?, file)?;
        for secret in secrets(&pod) {
            copy_secret(world, &secret).await?;
        }
        if let Some((_, content)) = file {
            let config = json!({"metadata": {"name": self.name}, "data": {"file": content}});
            world
                .api::<ConfigMap>()
                .create(&PostParams::default(), &serde_json::from_value(config)?)
                .await?;
        }
        let service = json!({
            "metadata": {"name": self.name},
            "spec": {"selector": {"server": self.name}, "ports": [{"port": self.port}], "publishNotReadyAddresses": true}
        });
        world
            .api::<Service>()
            .create(&PostParams::default(), &serde_json::from_value(service)?)
            .await?;
        world
            .api::<Pod>()
            .create(&PostParams::default(), &serde_json::from_value(pod)?)
            .await?;
        Ok(())
    }

    /// The pod of the service with one container, an empty volume, and the own certificate.
    fn pod(&self, template: &PodTemplateSpec, file: Option<(&str, &str)>) -> Result<Value> {
        let mut spec = serde_json::to_value(template.spec.as_ref().context("a spec")?)?;
        spec["securityContext"]["fsGroup"] = spec["securityContext"]["runAsGroup"].clone();
        let containers = spec["containers"].as_array_mut().context("containers")?;
        containers.retain(|container| container["name"] == self.container);
        let container = containers.first_mut().context("the container")?;
        // What it needs to be ready is not what is tested.
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            container.as_object_mut().context("a container")?.remove(probe);
        }
        if let Some((path, _)) = file {
            let mounts = container["volumeMounts"].as_array_mut().context("mounts")?;
            mounts.push(json!({"name": "file", "mountPath": path, "subPath": "file"}));
        }
        let volumes = spec["volumes"].as_array_mut().context("volumes")?;
        for volume in volumes.iter_mut().filter(|volume| volume["name"] == "tls") {
            volume["secret"]["secretName"] = json!(self.name);
        }
        if !volumes.iter().any(|volume| volume["name"] == "data") {
            volumes.push(json!({"name": "data", "emptyDir": {}}));
        }
        if file.is_some() {
            volumes.push(json!({"name": "file", "configMap": {"name": self.name}}));
        }
        Ok(json!({"metadata": {"name": self.name, "labels": {"server": self.name}}, "spec": spec}))
    }
}

async fn template(world: &World, service: &str) -> Result<PodTemplateSpec> {
    let client = || world.client.clone();
    if let Some(found) = Api::<StatefulSet>::namespaced(client(), SERVICES).get_opt(service).await? {
        return Ok(found.spec.context("a spec")?.template);
    }
    let found = Api::<Deployment>::namespaced(client(), SERVICES).get(service).await?;
    Ok(found.spec.context("a spec")?.template)
}

fn secrets(pod: &Value) -> Vec<String> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let names = volumes.filter_map(|volume| volume["secret"]["secretName"].as_str());
    names.map(ToOwned::to_owned).collect()
}

/// Copies a Secret of the services, unless the namespace has one of that name.
async fn copy_secret(world: &World, name: &str) -> Result<()> {
    if world.api::<Secret>().get_opt(name).await?.is_some() {
        return Ok(());
    }
    let original = Api::<Secret>::namespaced(world.client.clone(), SERVICES).get(name).await?;
    let copy = json!({"metadata": {"name": name}, "type": original.type_, "data": original.data});
    world
        .api::<Secret>()
        .create(&PostParams::default(), &serde_json::from_value(copy)?)
        .await?;
    Ok(())
}

/// The pipeline with one of its servers replaced.
fn with_server(world: &World, server: &Server) -> Value {
    let (mut pipeline, host) = (world.pipeline(), server.host(world));
    let spec = &mut pipeline["spec"];
    match server.like {
        "postgres" => spec["postgres"]["host"] = json!(host),
        "kafka" => spec["kafka"]["bootstrapServers"] = json!(format!("{host}:{}", server.port)),
        "cassandra" => spec["cassandra"]["contactPoints"] = json!([host]),
        _ => spec["schemaRegistry"]["url"] = json!(format!("https://{host}:{}/apis/ccompat/v7", server.port)),
    }
    pipeline
}

/// Waits until the schema Job reports this reason for the server. The report on an earlier server stays until then.
async fn refused(world: &World, server: &Server, expected: &str, says: &str) -> Result<String> {
    let host = server.host(world);
    let names_it = |reason: &str, message: &str| reason == expected && message.contains(&host) && message.contains(says);
    Ok(world.condition_where("SchemaReady", "False", STARTED, names_it).await?.1)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-encryption"]
async fn a_server_with_an_expired_certificate_or_one_that_requires_a_certificate_is_refused_by_reason() -> Result<()> {
    // Given a server of each kind whose certificate has expired, and a Cassandra node that requires one of the client
    let world = World::new("expired").await?;
    let authority = services_authority(&world.client).await?;
    let strict = CASSANDRA_CONFIG.replace(REQUESTS_NONE, "require_client_auth: true");
    assert_ne!(strict, CASSANDRA_CONFIG);
    try_join_all(EXPIRED.iter().map(async |(server, _)| {
        let certificate = authority.expired_identity(&server.host(&world))?;
        server.start(&world, &certificate, &authority, None).await
    }))
    .await?;
    let certificate = authority.identity(&STRICT.host(&world))?;
    let file = ("/opt/cassandra/cassandra.yaml", strict.as_str());
    STRICT.start(&world, &certificate, &authority, Some(file)).await?;

    // When a pipeline has one of them, Then it is refused by name, with the reason
    let mut seen = BTreeMap::new();
    for (server, named) in &EXPIRED {
        world.apply(&with_server(&world, server)).await?;
        seen.insert(server.name, refused(&world, server, "CertificateExpired", named).await?);
    }
    world.apply(&with_server(&world, &STRICT)).await?;
    let says = "set spec.cassandra.tls.clientSecretRef";
    seen.insert(STRICT.name, refused(&world, &STRICT, "CertificateRefused", says).await?);
    println!("{seen:#?}");

    // And with the usual servers it becomes ready
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    world.clean_up().await
}
