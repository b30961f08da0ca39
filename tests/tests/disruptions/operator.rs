//! The operator is killed, or loses its lease.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use userpipeline_tests::{World, cluster::OPERATOR_NAMESPACE, eventually, world::SOON};

use super::ALONE;

/// The Deployment of the operator, and its lease.
const OPERATOR: &str = "userpipeline-operator";

/// The resourceVersion of each object of the namespace.
async fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    use k8s_openapi::api::{
        apps::v1::Deployment,
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    };
    let mut found = BTreeMap::new();
    macro_rules! insert_versions {
        ($($kind:ty),*) => {$(
            for object in world.api::<$kind>().list(&ListParams::default()).await? {
                found.insert(format!("{}/{}", stringify!($kind), object.name_any()), object.resource_version().unwrap_or_default());
            }
        )*};
    }
    insert_versions!(
        Deployment,
        CronJob,
        Job,
        ConfigMap,
        ServiceAccount,
        PodDisruptionBudget,
        userpipeline_api::UserPipeline
    );
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_operator_writes_nothing_for_an_unchanged_suspended_pipeline() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Given a suspended pipeline, and an idle operator
    let world = World::new("restart").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    pipeline["spec"]["suspend"] = json!(true);
    world.apply(&pipeline).await?;
    world.condition("Suspended", "True", SOON).await?;
    world.ready().await?;
    eventually("the Jobs that are recorded to be gone", SOON, async || {
        let left = world.api::<Job>().list(&ListParams::default()).await?.items.len();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} are left")) })
    })
    .await?;
    let before = versions(&world).await?;
    let others = other_pipelines(&world).await?;

    // When the operator is killed, and its successor has reconciled the pipeline
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=userpipeline-operator");
    let old: Vec<String> = pods.list(&selector).await?.iter().map(ResourceExt::name_any).collect();
    for name in &old {
        pods.delete(name, &kube::api::DeleteParams::default().grace_period(0)).await?;
    }
    let (successor, metrics) = eventually("the successor to reconcile the pipeline", SOON, async || {
        let Some(pod) = pods.list(&selector).await?.items.into_iter().find(|p| !old.contains(&p.name_any())) else {
            return Ok(Err("no successor".to_owned()));
        };
        let metrics = scrape(&world, &pod.name_any()).await?;
        // Set at the end of a pipeline's reconciliation.
        let of_this = |line: &&str| line.starts_with("userpipeline_operator_pipeline_ready") && line.contains(&world.namespace);
        Ok(if metrics.lines().find(of_this).is_some() {
            Ok((pod.name_any(), metrics))
        } else {
            Err("not this one yet".to_owned())
        })
    })
    .await?;

    // Then it has sent no write request for it, and no resourceVersion has changed
    let log = pods.logs(&successor, &kube::api::LogParams::default()).await?;
    let writes: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(&format!("\"namespace\":\"{}\"", world.namespace)))
        .collect();
    assert!(writes.is_empty(), "{writes:#?}");
    if others == 0 {
        assert_eq!(total(&metrics, "userpipeline_operator_writes_total"), 0, "{metrics}");
    } else {
        println!("{others} other pipelines are in the cluster: the operator's count of writes does not tell them apart");
    }
    assert_eq!(versions(&world).await?, before);
    world.clean_up().await
}

/// The number of other pipelines in the cluster. Waits for the namespaces of finished tests to be gone.
async fn other_pipelines(world: &World) -> Result<u64> {
    let all: Api<userpipeline_api::UserPipeline> = Api::all(world.client.clone());
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    eventually("namespaces that are being deleted to be gone", SOON, async || {
        let going: Vec<String> = namespaces
            .list(&ListParams::default())
            .await?
            .iter()
            .filter(|n| n.metadata.deletion_timestamp.is_some())
            .map(ResourceExt::name_any)
            .collect();
        Ok(if going.is_empty() { Ok(()) } else { Err(format!("{going:?}")) })
    })
    .await?;
    Ok(all
        .list(&ListParams::default())
        .await?
        .iter()
        .filter(|p| p.namespace().as_deref() != Some(&world.namespace))
        .count() as u64)
}

async fn scrape(world: &World, pod: &str) -> Result<String> {
    let request = http::Request::get(format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:8080/proxy/metrics")).body(Vec::new())?;
    Ok(world.client.request_text(request).await?)
}

/// The sum of the series of a metric.
fn total(metrics: &str, name: &str) -> u64 {
    let series = metrics.lines().filter(|line| line.starts_with(name));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lease_is_created_again_and_has_one_holder() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Given an operator that leads, and a second one that waits
    let world = World::new("lease").await?;
    let operators: Api<Deployment> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let scale = async |replicas: i32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        operators.patch_scale(OPERATOR, &PatchParams::default(), &patch).await
    };
    scale(2).await?;
    let leader = eventually("two operators, of which one leads", SOON, async || {
        let leading = leading(&world).await?;
        Ok(match leading.iter().filter(|(_, leads)| **leads).collect::<Vec<_>>()[..] {
            [(leader, _)] if leading.len() == 2 => Ok(leader.clone()),
            _ => Err(format!("{leading:?}")),
        })
    })
    .await?;

    // When the lease is deleted, again and again, Then it exists again, and at no time two operators lead
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    for _ in 0..3 {
        leases.delete(OPERATOR, &kube::api::DeleteParams::default()).await?;
        eventually("the lease", Duration::from_secs(20), async || {
            let leading = leading(&world).await?;
            assert!(leading.values().filter(|leads| **leads).count() <= 1, "{leading:?}");
            let holder = leases.get_opt(OPERATOR).await?.and_then(|lease| lease.spec?.holder_identity);
            let is_leading = holder.as_ref().is_some_and(|holder| leading.get(holder) == Some(&true));
            Ok(if is_leading {
                Ok(())
            } else {
                Err(format!("{holder:?} of {leading:?}"))
            })
        })
        .await?;
    }

    // And a pipeline is reconciled
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    println!("led by {leader} before");
    scale(1).await?;
    world.clean_up().await
}

/// The operators, and whether each reports that it leads.
async fn leading(world: &World) -> Result<BTreeMap<String, bool>> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=userpipeline-operator");
    let mut leading = BTreeMap::new();
    for pod in pods.list(&selector).await? {
        let metrics = scrape(world, &pod.name_any()).await?;
        let leads = metrics
            .lines()
            .any(|line| line.contains("leader_election_master_status") && line.ends_with(" 1"));
        leading.insert(pod.name_any(), leads);
    }
    Ok(leading)
}
