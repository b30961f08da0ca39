//! Other versions of Strimzi's definitions, and none. They belong to the whole cluster, so this is a test program of its own, which cargo runs
//! when no other one runs, with one test.

use std::time::Duration;

use anyhow::Result;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use userpipeline_api::UserPipelineConnection;
use userpipeline_tests::{
    World, eventually,
    operator_pods::OperatorPods,
    strimzi::{
        Installation, KafkaResource,
        crds::{self, Version},
        resources::{self, CLUSTER_LABEL},
    },
    world::SOON,
};

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_managed_in_whichever_version_is_served() -> Result<()> {
    let world = World::without_secrets("strimzi-versions").await?;
    for version in [Version::V1Beta2, Version::V1] {
        // Given definitions in one version only
        crds::replace(&world.client, version).await?;
        crds::ensure_installed(&world.client).await?;
        crds::assert_served(&world.client, version).await?;
        let strimzi = Installation::start(&world, "kafka").await?;

        // When a topic is applied, Then it is ready
        let api = resources::topics(&world.client, &world.namespace).await?;
        let name = format!("{}.{}", world.namespace, version.name());
        let topic = json!({
            "apiVersion": format!("{}/{}", resources::GROUP, version.name()), "kind": "KafkaTopic",
            "metadata": {"name": name, "labels": {CLUSTER_LABEL: "kafka"}}, "spec": {"partitions": 1, "replicas": 1}
        });
        api.create(&kube::api::PostParams::default(), &serde_json::from_value(topic)?)
            .await?;
        eventually("a topic that is ready", SOON, async || {
            let status = api.get(&name).await?.status.unwrap_or_default();
            let ready = status
                .conditions
                .iter()
                .any(|condition| condition.kind == "Ready" && condition.status == "True");
            Ok(if ready { Ok(()) } else { Err(format!("{status:?}")) })
        })
        .await?;
        // Its finalizer is still there when the definitions are removed.
        drop(strimzi);
    }

    // When the definitions are removed, Then no kind is served
    crds::remove(&world.client).await?;
    eventually("no kind of Strimzi", SOON, async || {
        let found = resources::resource(&world.client, "KafkaTopic").await;
        Ok(found.map_or(Ok(()), |found| Err(found.api_version)))
    })
    .await?;
    userpipeline_tests::strimzi::remove_users(&world.namespace).await?;
    the_operator_notices_definitions_that_come_later(&world).await?;
    world.clean_up().await
}

/// Given no definitions.
async fn the_operator_notices_definitions_that_come_later(world: &World) -> Result<()> {
    // When a connection refers to a cluster, Then the operator says that Strimzi is missing
    world.create_credentials().await?;
    let connection = json!({
        "apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineConnection", "metadata": {"name": "events"},
        "spec": {"kafka": {
            "strimzi": {"cluster": "events", "namespace": "kafka", "listener": "tls"},
            "auth": {"scramSha512": {"credentialsSecretRef": {"name": "kafka-credentials"}}}
        }}
    });
    let connections = world.api::<UserPipelineConnection>();
    let by = PatchParams::apply("end-to-end").force();
    connections.patch("events", &by, &Patch::Apply(&connection)).await?;
    let accepted = async |status: &str, reason: &str, within: Duration| {
        eventually(&format!("Accepted={status} ({reason})"), within, async || {
            let conditions = connections.get("events").await?.status.unwrap_or_default().conditions;
            let met = conditions
                .iter()
                .any(|c| c.type_ == "Accepted" && c.status == status && c.reason == reason);
            Ok(if met { Ok(()) } else { Err(format!("{conditions:?}")) })
        })
        .await
    };
    accepted("False", "StrimziMissing", SOON).await?;

    // And when they are installed, Then it uses the cluster within a minute, without a restart
    let before = OperatorPods::observe(&world.client).await?;
    crds::replace(&world.client, Version::V1).await?;
    KafkaResource::create(&world.client, "kafka", "events").await?;
    accepted("True", "Accepted", Duration::from_secs(60)).await?;
    OperatorPods::observe(&world.client).await?.ensure_kept_running(&before)?;
    crds::remove(&world.client).await
}
