//! What a listener in the network reads.

use std::{collections::BTreeSet, net::Ipv4Addr};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    capture::{Capture, Streams},
    cluster::{SERVICES, credentials},
    eventually,
    services::{CREDENTIALS, PLAIN_CREDENTIALS, in_plain_text},
    source,
    world::SOON,
};

/// There is one capture at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
/// Ports of the source, PostgreSQL, Kafka, the schema registry and Cassandra, as pods connect to them.
const ENCRYPTED: [u16; 5] = [443, 5432, 9093, 8443, 9042];
/// More than a handshake.
const SOME_DATA: usize = 10_000;

/// Everything that the pods of a pipeline send and receive, from the schema Job until all records are stored.
async fn captured(world: &World, pipeline: &Value) -> Result<Streams> {
    let capture = Capture::start().await?;
    world.apply(pipeline).await?;
    // Its pod is gone when the pipeline is ready.
    let mut addresses = eventually("the address of the schema Job's pod", SOON, async || {
        let found = pod_addresses(world).await?;
        Ok(if found.is_empty() { Err("none".to_owned()) } else { Ok(found) })
    })
    .await?;
    world.ready().await?;
    world.run("captured").await?;
    world.drained(200).await?;
    addresses.extend(pod_addresses(world).await?);
    ensure!(addresses.len() >= 3, "a schema Job, a run and a worker: {addresses:?}");
    Ok(capture.stop().await?.of(&addresses))
}

async fn pod_addresses(world: &World) -> Result<BTreeSet<Ipv4Addr>> {
    let pods = world.api::<Pod>().list(&ListParams::default()).await?;
    Ok(pods.items.into_iter().filter_map(|pod| pod.status?.pod_ip?.parse().ok()).collect())
}

/// The e-mail addresses of the records.
async fn values(world: &World) -> Result<Vec<String>> {
    let users = source::served_users(&world.seed).await?;
    ensure!(users.len() >= 200, "{} users", users.len());
    let email = |user: &Value| user["email"].as_str().map(str::to_owned).context("an e-mail address");
    users.iter().map(email).collect()
}

/// The passwords of the pipeline, as they are and as HTTP sends them.
async fn passwords(world: &World) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for (_, original) in CREDENTIALS {
        let (username, password) = credentials(&world.client, SERVICES, original).await?;
        texts.push(STANDARD.encode(format!("{username}:{password}")));
        texts.push(password);
    }
    Ok(texts)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-encryption"]
async fn the_traffic_of_a_pipeline_contains_neither_values_nor_passwords() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Given a capture of the network
    let world = World::new("captured").await?;

    // When a pipeline that verifies fully is created, runs, and stores its records
    let streams = captured(&world, &world.pipeline()).await?;

    // Then the capture has the traffic to each service
    for port in ENCRYPTED {
        let bytes = streams.bytes(port);
        println!("port {port}: {bytes} bytes");
        ensure!(
            bytes > if port == 8443 { 1000 } else { SOME_DATA },
            "only {bytes} bytes of port {port} were captured"
        );
    }

    // And in none of it is a value or a password, nor, on the way to the services, the name of the topic
    for (what, texts) in [("values", values(&world).await?), ("passwords", passwords(&world).await?)] {
        let found = streams.containing(&texts);
        ensure!(found.is_empty(), "{what} of the pipeline are readable in {found:?}");
    }
    let found = streams.containing(&[names::topic(&world.id())]);
    ensure!(
        !found.iter().any(|flow| ENCRYPTED.iter().any(|port| flow.has_port(*port))),
        "the topic is readable in {found:?}"
    );
    world.clean_up().await
}

/// Without this test, the one above could find nothing because it looks in the wrong place.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-encryption"]
async fn the_same_capture_of_a_pipeline_in_plain_text_contains_them() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Given a pipeline that requests plain text
    let world = World::new("readable").await?;
    world.copy_credentials(PLAIN_CREDENTIALS).await?;

    // When it does the same
    let streams = captured(&world, &in_plain_text(world.pipeline(), Some(&json!({"mode": "Disable"})))).await?;

    // Then its values are readable on the way from the source, to PostgreSQL and to Cassandra
    let found = streams.containing(&values(&world).await?);
    for port in [80, 5432, 9142] {
        ensure!(
            found.iter().any(|flow| flow.has_port(port)),
            "no value at port {port}, only in {found:?}"
        );
    }
    // And Cassandra's password, and the name of the topic, whose messages are compressed
    let found = streams.containing(&passwords(&world).await?);
    ensure!(found.iter().any(|flow| flow.has_port(9142)), "no password at port 9142: {found:?}");
    let found = streams.containing(&[names::topic(&world.id())]);
    ensure!(found.iter().any(|flow| flow.has_port(9092)), "no topic at port 9092: {found:?}");
    world.clean_up().await
}
