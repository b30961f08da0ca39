//! The authority of a Kafka cluster of Strimzi is replaced while records flow.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    ResourceExt,
    api::{ListParams, LogParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_api::{UserPipelineConnection, names};
use userpipeline_tests::{
    World,
    broker_certificate::BrokerCertificate,
    eventually,
    services::{authority, blocks},
    strimzi::KafkaResource,
    test_source::TestSource,
    tls::Authority,
    world::SOON,
};

use crate::load::{self, PAGE, WORKERS, items, members, pods, rows};

/// The cluster that the chart's values list (`local/operator.sh`).
const NAMESPACE: &str = "kafka";
const CLUSTER: &str = "events";
const RUN: &str = "steady";
/// Enough until the broker has its new certificate.
const PAGES: usize = 300;
/// Kubernetes updates mounted files within about two minutes.
const ARRIVES: Duration = Duration::from_secs(240);
/// After all pages.
const EXPIRES: Duration = Duration::from_secs(330);

/// The connection `stores`, with the listener `tls` of the cluster.
async fn connect(world: &World) -> Result<()> {
    let mut spec = blocks();
    let login = json!({"scramSha512": {"credentialsSecretRef": {"name": "kafka-credentials"}}});
    spec["kafka"] = json!({"strimzi": {"cluster": CLUSTER, "namespace": NAMESPACE, "listener": "tls"}, "auth": login});
    let connection =
        json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineConnection", "metadata": {"name": "stores"}, "spec": spec});
    let by = PatchParams::apply("end-to-end").force();
    world
        .api::<UserPipelineConnection>()
        .patch("stores", &by, &Patch::Apply(&connection))
        .await?;
    Ok(())
}

fn pipeline(world: &World, source: &TestSource) -> Value {
    let mut pipeline = load::pipeline(world, source, PAGES);
    let spec = &mut pipeline["spec"];
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|block, _| blocks().get(block).is_none());
    }
    spec["connections"] = json!([{"name": "stores"}]);
    // No Topic Operator is needed, whose own connection would have to follow the authority.
    spec["kafka"] = json!({"topic": {"partitions": 3, "management": "Direct"}});
    pipeline
}

/// Without line breaks, which differ.
fn unwrapped(pem: &str) -> String {
    pem.split_whitespace().collect()
}

/// Waits until status and ConfigMap of the connection have exactly these authorities.
async fn trusts(world: &World, expected: &[&str], within: Duration) -> Result<()> {
    let expected: BTreeSet<String> = expected.iter().map(|pem| unwrapped(pem)).collect();
    eventually(&format!("{} trusted authorities", expected.len()), within, async || {
        let connection = world.api::<UserPipelineConnection>().get("stores").await?;
        let found = connection.status.unwrap_or_default().kafka.context("a listener")?;
        let in_status: BTreeSet<String> = found.certificates.iter().map(|pem| unwrapped(pem)).collect();
        let config_map = world.api::<ConfigMap>().get(&names::kafka_authorities("stores")).await?;
        let bundle = unwrapped(config_map.data.unwrap_or_default().values().next().context("a bundle")?);
        let length: usize = expected.iter().map(String::len).sum();
        let in_bundle = expected.iter().all(|pem| bundle.contains(pem)) && bundle.len() == length;
        Ok(if in_status == expected && in_bundle {
            Ok(())
        } else {
            Err(format!(
                "{} in the status, {} characters in the ConfigMap",
                in_status.len(),
                bundle.len()
            ))
        })
    })
    .await
}

/// Waits until workers and run have connected again with other files.
async fn arrived(world: &World, members_before: &BTreeSet<String>) -> Result<()> {
    let of_run = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={RUN}"));
    eventually("the authorities to be used", ARRIVES, async || {
        let members = members(world).await?;
        if members.len() != WORKERS || !members.is_disjoint(members_before) {
            return Ok(Err(format!("the members of the group are {members:?}")));
        }
        let pods = world.api::<Pod>();
        let pod = pods.list(&of_run).await?.items.into_iter().next().context("the pod of the run")?;
        let log = pods.logs(&pod.name_any(), &LogParams::default()).await?;
        let has_changed = log.contains("credentials or certificates have changed");
        Ok(if has_changed {
            Ok(())
        } else {
            Err("the run has the old ones".to_owned())
        })
    })
    .await
}

async fn stored(world: &World) -> Result<i64> {
    Ok(world.get().await?.status.unwrap_or_default().totals.unwrap_or_default().stored)
}

/// The run goes on with a broker that has another certificate, and every record is stored.
async fn everything_is_stored(world: &World) -> Result<()> {
    load::assert_active(world, RUN).await?;
    let before = stored(world).await?;
    eventually("more records", SOON, async || {
        let now = stored(world).await?;
        Ok(if now > before { Ok(()) } else { Err(format!("{now} stored")) })
    })
    .await?;
    load::completed(world, RUN).await?;
    let total = PAGE * PAGES;
    world.drained(i64::try_from(total)?).await?;
    let rows = rows(world).await?;
    ensure!(rows == [total; 3], "{rows:?} rows of {total} records");
    println!("{total} records, {rows:?} rows: 0 lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-encryption"]
async fn the_authority_of_a_kafka_cluster_is_replaced_at_500_rows_a_second_without_a_lost_row() -> Result<()> {
    // Given a Kafka cluster of Strimzi with two authorities, one of which expires soon, and a pipeline under load
    let world = World::new("authority").await?;
    let kafka = KafkaResource::create(&world.client, NAMESPACE, CLUSTER).await?;
    let (old, expiring, new) = (
        authority(&world.client).await?,
        Authority::expiring(EXPIRES)?.pem(),
        Authority::new()?,
    );
    let created = Instant::now();
    kafka.set_certificates(&[old.clone(), expiring.clone()]).await?;
    connect(&world).await?;
    let source = TestSource::start(&world.client).await?;
    for page in 0..PAGES {
        source.serve(&items(page));
    }
    world.apply(&pipeline(&world, &source)).await?;
    world.ready().await?;
    trusts(&world, &[&old, &expiring], SOON).await?;
    let workers = pods(&world, "worker").await?;
    load::start_run(&world, RUN).await?;

    // When the Kafka resource has only another authority, Then workers and run trust the earlier ones as well
    let members = members(&world).await?;
    kafka.set_certificates(&[new.pem()]).await?;
    trusts(&world, &[&old, &expiring, &new.pem()], SOON).await?;
    arrived(&world, &members).await?;
    println!("the authorities arrived {:.0?} after the start", created.elapsed());

    // When the broker presents a certificate of the new one, Then everything is stored, in the first attempt and without a restart
    BrokerCertificate::during(&world.client, async |broker: &BrokerCertificate| {
        broker.replace(&new).await?;
        everything_is_stored(&world).await
    })
    .await?;
    let job = world.api::<Job>().get(RUN).await?.status.context("the Job's status")?;
    ensure!(job.failed.unwrap_or_default() == 0, "attempts of the run failed: {job:?}");
    let now = pods(&world, "worker").await?;
    ensure!(now == workers, "workers were replaced or restarted: {workers:?}, {now:?}");

    // And the old authority, of which the broker has a certificate again, is still trusted; the other one only until it has expired
    source.serve(&items(PAGES));
    world.run("after").await?;
    world.drained(i64::try_from(PAGE * (PAGES + 1))?).await?;
    trusts(&world, &[&old, &new.pem()], EXPIRES.saturating_sub(created.elapsed()) + SOON).await?;
    ensure!(created.elapsed() >= EXPIRES, "trusted for only {:?}", created.elapsed());
    world.clean_up().await
}
