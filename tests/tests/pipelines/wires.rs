//! Encryption and authentication of the connections to every store.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use userpipeline_api::{TlsMode, UserPipeline};
use userpipeline_tests::{
    World,
    cluster::{SERVICES, credentials},
    eventually,
    services::{PLAIN_CREDENTIALS, authority, in_plain_text, tls},
    stores,
    tls::Authority,
    world::SOON,
};

/// The wires with their blocks, in any order. The ConfigMap `<wire>-ca` has the authority of the wire's server.
const WIRES: [(&str, &str); 4] = [
    ("postgres", "postgres"),
    ("kafka", "kafka"),
    ("cassandra", "cassandra"),
    ("registry", "schemaRegistry"),
];
/// The only role that PostgreSQL admits in plain text.
const PLAIN_ROLE: &str = "userpipeline-plain";

/// A pipeline that has an authority for each connection.
fn encrypted(world: &World) -> Value {
    let mut pipeline = world.pipeline();
    for (wire, block) in WIRES {
        pipeline["spec"][block]["tls"] = tls(&format!("{wire}-ca"));
    }
    pipeline
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wire_with_a_foreign_authority_is_refused_by_name_until_its_config_map_is_right() -> Result<()> {
    // Given a foreign authority for each wire
    let world = World::new("wires").await?;
    let foreign = Authority::new()?.pem();
    for (wire, _) in WIRES {
        world.set_authority(&format!("{wire}-ca"), &foreign).await?;
    }
    let own = authority(&world.client).await?;

    // When a pipeline is applied, Then each wire is refused by name, until its ConfigMap is corrected
    world.apply(&encrypted(&world)).await?;
    let mut left: BTreeSet<&str> = WIRES.into_iter().map(|(wire, _)| wire).collect();
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
        world.set_authority(&format!("{wire}-ca"), &own).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pipeline_is_in_plain_text_only_where_it_requests_that() -> Result<()> {
    // Given stores that are reached at their listeners in plain text
    let world = World::new("plain").await?;
    world.copy_credentials(PLAIN_CREDENTIALS).await?;

    // When the spec omits tls, Then the connection is refused, and the message says what to set
    world.apply(&in_plain_text(world.pipeline(), None)).await?;
    let (_, message) = world
        .condition_where("SchemaReady", "False", SOON, |reason, _| {
            ["CertificateRefused", "TlsMismatch"].contains(&reason)
        })
        .await?;
    assert!(
        message.contains("spec.postgres.tls.ca is not set") || message.contains(".tls: {mode: Disable}"),
        "{message}"
    );
    assert!(world.pods("worker").await?.is_empty());

    // When it counts as a pipeline of an earlier version, Then it is in plain text, and the condition lists what to set
    let older = json!({"status": {"defaultTlsMode": "Disable"}});
    let pipelines = world.api::<UserPipeline>();
    pipelines
        .patch_status("users", &PatchParams::default(), &Patch::Merge(older))
        .await?;
    let lists = |_: &str, message: &str| message.ends_with("set spec.postgres.tls, spec.kafka.tls, spec.cassandra.tls");
    world.condition_where("SchemaReady", "True", SOON * 2, lists).await?;

    // When plain text is requested, Then records pass, and PostgreSQL sees connections without TLS
    world
        .apply(&in_plain_text(world.pipeline(), Some(&json!({"mode": "Disable"}))))
        .await?;
    world.ready().await?;
    world.run("plain").await?;
    world.drained(200).await?;
    let db = stores::postgres_superuser(&world.client).await?;
    let statement = format!(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = '{PLAIN_ROLE}' AND ssl IS NOT DISTINCT FROM"
    );
    assert!(stores::number(&db, &format!("{statement} false")).await? > 0);
    assert_eq!(stores::number(&db, &format!("{statement} true")).await?, 0);

    // And it has the new default from now on
    eventually("the new default", SOON, async || {
        let mode = world.get().await?.status.and_then(|status| status.default_tls_mode);
        Ok(if mode == Some(TlsMode::VerifyFull) {
            Ok(())
        } else {
            Err(format!("{mode:?}"))
        })
    })
    .await?;

    // And no other role has such connections
    let others = format!(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE NOT ssl AND client_addr IS NOT NULL AND usename <> '{PLAIN_ROLE}'"
    );
    assert_eq!(stores::number(&db, &others).await?, 0);
    world.clean_up().await
}
