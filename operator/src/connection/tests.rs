//! Reconciles a connection against a fake apiserver.

use std::sync::Arc;

use serde_json::{Value, json};

use super::controller::{Context, reconcile};
use crate::{
    metrics::Metrics,
    pipeline::{
        CachedConnection, Caches, ConnectionUses, Installation, example_installation,
        tests::cluster::{CONFIG_MAPS, Cluster, JOBS, PODS, short},
    },
};

const STORES: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/demo/userpipelineconnections/stores";

async fn start(spec: &Value) -> (Arc<Cluster>, kube::Client) {
    let (cluster, client) = Cluster::start().await;
    let metadata = json!({"name": "stores", "namespace": "demo", "uid": "uid-stores", "generation": 1});
    cluster.put(STORES, json!({"metadata": metadata, "spec": spec}));
    (cluster, client)
}

/// What an operator that has just started writes, without Events.
async fn writes(cluster: &Cluster, client: &kube::Client) -> Vec<String> {
    writes_with(cluster, client, cluster.caches(), example_installation()).await
}

async fn writes_with(cluster: &Cluster, client: &kube::Client, caches: Caches, installation: Installation) -> Vec<String> {
    let uses = Arc::new(ConnectionUses::default());
    let context = Context::new(client.clone(), caches, Metrics::new(), uses, installation, "test".into());
    let connection: CachedConnection = serde_json::from_value(cluster.get(STORES)).unwrap();
    reconcile(Arc::new(connection), Arc::new(context)).await.unwrap();
    short(cluster.writes())
}

fn condition(cluster: &Cluster, type_: &str) -> (String, String) {
    let conditions = cluster.get(STORES)["status"]["conditions"].clone();
    let found = conditions.as_array().unwrap().iter().find(|c| c["type"] == type_).unwrap().clone();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

/// The pod of the only Job leaves this report.
fn finish(cluster: &Cluster, report: &Value) {
    let path = cluster.paths(JOBS).pop().unwrap();
    let job = cluster.get(&path);
    let mut labels = job["spec"]["template"]["metadata"]["labels"].clone();
    labels["batch.kubernetes.io/controller-uid"] = job["metadata"]["uid"].clone();
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap().to_string();
    cluster.change(&path, |job| {
        job["status"] = json!({"completionTime": now, "conditions": [{"type": "Complete", "status": "True"}]});
    });
    let state = json!({"terminated": {"exitCode": 0, "finishedAt": now, "message": report.to_string()}});
    let container = json!({"name": "check", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let status = json!({"phase": "Succeeded", "containerStatuses": [container]});
    cluster.put(
        &format!("{PODS}check"),
        json!({"metadata": {"name": "check", "namespace": "demo", "labels": labels}, "status": status}),
    );
}

#[tokio::test]
async fn given_a_connection_then_a_job_checks_it_and_its_report_becomes_the_status() {
    let login = json!({"name": "login"});
    let (cluster, client) = start(&json!({"postgres": {"host": "db", "database": "d", "credentialsSecretRef": login}})).await;

    // A Job, and nothing twice
    let first = writes(&cluster, &client).await;
    assert!(first[0].starts_with("PATCH configmaps/stores-check-"), "{first:?}");
    assert_eq!(first[1..], ["POST demo/jobs", "PATCH stores/status"], "{first:?}");
    assert_eq!(condition(&cluster, "Accepted"), ("True".into(), "Accepted".into()));
    assert_eq!(condition(&cluster, "Checked"), ("Unknown".into(), "Checking".into()));
    assert_eq!(writes(&cluster, &client).await, [""; 0]);
    let config_map = cluster.get(&cluster.paths(CONFIG_MAPS).pop().unwrap());
    assert!(config_map["data"]["pipeline.yaml"].as_str().unwrap().contains("host: db"));

    // Its report is recorded before it is deleted
    let block =
        json!({"block": "postgres", "latencyMilliseconds": 7, "tlsVersion": "TLS 1.3", "certificateNotAfter": "2030-01-01T00:00:00Z"});
    finish(&cluster, &json!({"reason": "Checked", "message": "", "blocks": [block]}));
    assert_eq!(writes(&cluster, &client).await, ["PATCH stores/status"]);
    assert_eq!(condition(&cluster, "Checked"), ("True".into(), "Reachable".into()));
    let check = cluster.get(STORES)["status"]["check"].clone();
    assert_eq!(
        (&check["certificateNotAfter"], &check["generation"]),
        (&json!("2030-01-01T00:00:00Z"), &json!(1))
    );
    assert_eq!(writes(&cluster, &client).await, ["DELETE jobs/stores-check-1-0"]);
    assert_eq!(writes(&cluster, &client).await, [""; 0], "until the next day");

    // And a change is checked again
    cluster.change(STORES, |connection| {
        connection["spec"]["postgres"]["host"] = json!("nowhere");
        connection["metadata"]["generation"] = json!(2);
    });
    writes(&cluster, &client).await;
    assert_eq!(condition(&cluster, "Checked"), ("Unknown".into(), "Checking".into()));
    finish(
        &cluster,
        &json!({"reason": "Checked", "blocks": [{"block": "postgres", "reason": "PostgresUnreachable", "message": "nobody is there"}]}),
    );
    writes(&cluster, &client).await;
    assert_eq!(condition(&cluster, "Checked"), ("False".into(), "PostgresUnreachable".into()));
    for _ in 0..2 {
        writes(&cluster, &client).await;
    }
    assert_eq!(
        (cluster.paths(JOBS).len(), cluster.paths(CONFIG_MAPS).len()),
        (0, 1),
        "the old ConfigMap is gone"
    );
}

#[tokio::test]
async fn given_a_policy_that_deletes_the_job_when_it_ends_then_its_report_counts_and_no_other_job_follows() {
    let (cluster, client) = start(&json!({"kafka": {"bootstrapServers": "k:9092"}})).await;
    writes(&cluster, &client).await;
    finish(
        &cluster,
        &json!({"reason": "Checked", "message": "", "blocks": [{"block": "kafka"}]}),
    );
    let (job, pod) = (cluster.paths(JOBS).pop().unwrap(), format!("{PODS}check"));
    let (ended, its_pod) = (cluster.get(&job), cluster.get(&pod));
    cluster.objects.lock().unwrap().retain(|path, _| *path != job && *path != pod);
    let caches = || {
        let (caches, now) = (cluster.caches(), jiff::Timestamp::now());
        let children = &caches.children;
        children
            .jobs
            .deleted()
            .remember(serde_json::from_value(ended.clone()).unwrap(), now);
        children
            .pods
            .deleted()
            .remember(serde_json::from_value(its_pod.clone()).unwrap(), now);
        caches
    };
    assert_eq!(
        writes_with(&cluster, &client, caches(), example_installation()).await,
        ["PATCH stores/status"]
    );
    assert_eq!(condition(&cluster, "Checked"), ("True".into(), "Reachable".into()));
    assert_eq!(writes_with(&cluster, &client, caches(), example_installation()).await, [""; 0]);
}

#[tokio::test]
async fn given_an_installation_without_checks_then_no_job_runs_and_the_condition_says_so() {
    let (cluster, client) = start(&json!({"kafka": {"bootstrapServers": "k:9092"}})).await;
    let installation = Installation {
        checks_connections: false,
        ..example_installation()
    };
    let writes = writes_with(&cluster, &client, cluster.caches(), installation).await;
    assert_eq!(writes, ["PATCH stores/status"]);
    assert_eq!(condition(&cluster, "Accepted").0, "True");
    assert_eq!(condition(&cluster, "Checked"), ("Unknown".into(), "ChecksDisabled".into()));
}

#[tokio::test]
async fn given_a_connection_that_is_being_deleted_then_it_is_not_checked() {
    let (cluster, client) = start(&json!({"kafka": {"bootstrapServers": "k:9092"}})).await;
    cluster.change(STORES, |connection| {
        connection["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    assert_eq!(writes(&cluster, &client).await, [""; 0]);
}

#[tokio::test]
async fn given_an_invalid_connection_then_it_is_not_checked() {
    let (cluster, client) = start(&json!({"kafka": "nonsense"})).await;
    assert_eq!(writes(&cluster, &client).await, ["PATCH stores/status"]);
    assert_eq!(condition(&cluster, "Accepted"), ("False".into(), "InvalidSpec".into()));
    assert_eq!(condition(&cluster, "Checked"), ("Unknown".into(), "InvalidSpec".into()));
}
