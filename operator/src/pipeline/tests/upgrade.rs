//! An upgrade of the operator restarts the workers of a few pipelines at a time.

use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::*;
use crate::pipeline::{Context, cache::CachedPipeline, model::labels, reconcile::reconcile};

const IMAGE: &str = "/spec/template/spec/containers/0/image";
const CONFIG_MAP: &str = "/spec/template/spec/volumes/0/configMap/name";

fn other(n: usize) -> String {
    format!("/apis/apps/v1/namespaces/demo/deployments/other-{n}-worker")
}

/// The workers of five other pipelines are rolling out.
fn others_roll_out(cluster: &Cluster) {
    for n in 0..5 {
        let labels = labels::labels(&format!("other-{n}"), labels::Component::Worker);
        cluster.put(
            &other(n),
            json!({
                "metadata": {"name": format!("other-{n}-worker"), "namespace": "demo", "generation": 2, "labels": labels},
                "spec": {"replicas": 1, "selector": {}, "template": {}},
                "status": {"observedGeneration": 1},
            }),
        );
    }
}

async fn again(cluster: &Cluster, context: &Arc<Context>) -> Vec<String> {
    let resource: CachedPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
    reconcile(Arc::new(resource), context.clone()).await.unwrap();
    short(cluster.writes())
}

fn image(cluster: &Cluster) -> Value {
    cluster.get(DEPLOYMENT).pointer(IMAGE).cloned().unwrap_or_default()
}

#[tokio::test]
async fn given_an_upgrade_while_others_roll_out_then_workers_wait_and_an_edit_does_not() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    others_roll_out(&cluster);

    let upgraded = cluster.context_of(&client, "0.2.0");
    let writes = again(&cluster, &upgraded).await;
    assert!(!writes.iter().any(|write| write.contains("deployments/")), "{writes:?}");
    assert!(
        writes.contains(&"PATCH cronjobs/users-ingest".to_owned()),
        "runs do not wait: {writes:?}"
    );
    assert_eq!(image(&cluster), "userpipeline/stream-worker:0.1.0");
    assert_eq!(cluster.condition("WorkersReady"), ("True".into(), "UpgradePending".into()));
    assert_eq!(cluster.condition("Ready").0, "True");
    assert_eq!(cluster.get(PIPELINE)["status"]["workers"]["summary"], "2/2");
    assert_eq!(again(&cluster, &cluster.context_of(&client, "0.2.0")).await, [""; 0]);

    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["workers"]["batch"] = json!({"maxRecords": 7});
        pipeline["metadata"]["generation"] = json!(2);
    });
    again(&cluster, &upgraded).await;
    assert_eq!(image(&cluster), "userpipeline/stream-worker:0.2.0");
    assert_eq!(cluster.condition("WorkersReady"), ("False".into(), "RollingOut".into()));
}

#[tokio::test]
async fn given_an_upgrade_that_changes_only_the_config_of_workers_then_they_wait_too() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    others_roll_out(&cluster);
    let config_map = |cluster: &Cluster| cluster.get(DEPLOYMENT).pointer(CONFIG_MAP).cloned().unwrap_or_default();
    let desired = config_map(&cluster);
    // As an earlier operator applied it.
    cluster.change(DEPLOYMENT, |deployment| {
        *deployment.pointer_mut(CONFIG_MAP).unwrap() = json!("users-worker-earlier");
        deployment["metadata"]["annotations"][labels::DESIRED_HASH] = json!("earlier");
    });
    let upgraded = cluster.context(&client);
    again(&cluster, &upgraded).await;
    assert_eq!(config_map(&cluster), "users-worker-earlier");
    assert_eq!(cluster.condition("WorkersReady"), ("True".into(), "UpgradePending".into()));

    for n in 0..5 {
        cluster.objects.lock().unwrap().remove(&other(n));
    }
    again(&cluster, &cluster.context(&client)).await;
    assert_eq!(config_map(&cluster), desired);
}

#[tokio::test]
async fn given_an_upgrade_and_a_free_turn_then_workers_roll_out_at_once() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    others_roll_out(&cluster);
    cluster.change(&other(3), |deployment| {
        deployment["status"] = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    again(&cluster, &cluster.context_of(&client, "0.2.0")).await;
    assert_eq!(image(&cluster), "userpipeline/stream-worker:0.2.0");
}

#[tokio::test]
async fn given_an_image_that_another_changed_then_it_is_corrected_at_once() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    others_roll_out(&cluster);
    cluster.change(DEPLOYMENT, |deployment| {
        *deployment.pointer_mut(IMAGE).unwrap() = json!("mirror/stream-worker:0.1.0");
    });
    again(&cluster, &cluster.context(&client)).await;
    assert_eq!(image(&cluster), "userpipeline/stream-worker:0.1.0");
}
