//! Encrypted and authenticated connections to every store.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_tests::{
    World,
    cluster::{SERVICES, credentials},
    eventually,
    tls::Authority,
    world::SOON,
};

/// The wires, in any order. The ConfigMap `<wire>-ca` has the authority of the wire's server.
const WIRES: [&str; 4] = ["postgres", "kafka", "cassandra", "registry"];

fn host(service: &str) -> String {
    format!("{service}.{SERVICES}.svc.cluster.local")
}

/// A pipeline that encrypts, verifies and authenticates each connection.
fn encrypted(world: &World) -> Value {
    let tls = |wire: &str| json!({"ca": {"configMapKeyRef": {"name": format!("{wire}-ca"), "key": "ca.crt"}}});
    let mut pipeline = world.pipeline();
    let spec = &mut pipeline["spec"];
    spec["postgres"]["tls"] = tls("postgres");
    spec["kafka"]["bootstrapServers"] = json!(format!("{}:9095", host("kafka")));
    spec["kafka"]["tls"] = tls("kafka");
    spec["kafka"]["auth"] = json!({"scramSha512": {"credentialsSecretRef": {"name": "kafka-credentials"}}});
    spec["schemaRegistry"]["url"] = json!(format!("https://{}:8443/apis/ccompat/v7", host("schema-registry")));
    spec["schemaRegistry"]["tls"] = tls("registry");
    spec["schemaRegistry"]["auth"] = json!({"basic": {"credentialsSecretRef": {"name": "registry-credentials"}}});
    spec["cassandra"]["contactPoints"] = json!([format!("{}:9142", host("cassandra"))]);
    spec["cassandra"]["tls"] = tls("cassandra");
    pipeline
}

async fn set_authority(world: &World, wire: &str, pem: &str) -> Result<()> {
    let name = format!("{wire}-ca");
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": pem}});
    let by = PatchParams::apply("end-to-end").force();
    world.api::<ConfigMap>().patch(&name, &by, &Patch::Apply(config_map)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wire_with_a_foreign_authority_is_refused_by_name_until_its_config_map_is_right() -> Result<()> {
    // Given the credentials of each wire, and a foreign authority for each
    let world = World::new("wires").await?;
    for (name, original) in [
        ("kafka-credentials", "kafka-userpipeline"),
        ("registry-credentials", "schema-registry-userpipeline"),
    ] {
        let (username, password) = credentials(&world.client, SERVICES, original).await?;
        world.set_secret(name, &username, &password).await?;
    }
    let foreign = Authority::new()?.pem();
    for wire in WIRES {
        set_authority(&world, wire, &foreign).await?;
    }
    let own = Api::<ConfigMap>::namespaced(world.client.clone(), SERVICES).get("ca").await?;
    let own = own
        .data
        .unwrap_or_default()
        .remove("ca.crt")
        .context("the authority of the services")?;

    // When a pipeline is applied, Then each wire is refused by name, until its ConfigMap is corrected
    world.apply(&encrypted(&world)).await?;
    let mut left: BTreeSet<&str> = WIRES.into();
    while !left.is_empty() {
        let named = |message: &str| {
            left.iter()
                .find(|wire| message.contains(&format!("ConfigMap `{}-ca`", **wire)))
                .copied()
        };
        let (_, message) = world
            .condition_where("SchemaReady", "False", SOON, |reason, message| {
                reason == "CertificateRefused" && named(message).is_some()
            })
            .await?;
        let wire = named(&message).context("a wire")?;
        set_authority(&world, wire, &own).await?;
        left.remove(wire);
    }
    world.ready().await?;

    // And records pass through all of them
    world.run("encrypted").await?;
    world.drained(200).await?;

    // When Kafka's password is wrong, Then the workers report it, and resume once it is right
    let (username, password) = credentials(&world.client, SERVICES, "kafka-userpipeline").await?;
    world.set_secret("kafka-credentials", &username, "wrong").await?;
    let (_, message) = world
        .condition_where("WorkersReady", "False", SOON * 2, |reason, _| reason == "CredentialsRefused")
        .await?;
    assert!(message.contains("`kafka-credentials`"), "{message}");
    world.set_secret("kafka-credentials", &username, &password).await?;
    eventually("the workers to resume", SOON * 2, async || {
        Ok(world
            .condition("WorkersReady", "True", SOON * 2)
            .await
            .map(drop)
            .map_err(|e| e.to_string()))
    })
    .await?;
    world.clean_up().await
}
