//! Reconciles a connection against a fake apiserver.

mod strimzi;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    check::spread,
    controller::{Context, reconcile},
};
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

fn context(client: kube::Client, caches: Caches, installation: Installation) -> Arc<Context> {
    let uses = Arc::new(ConnectionUses::default());
    Arc::new(Context::new(client, caches, Metrics::new(), uses, installation, "test".into()))
}

async fn writes_with(cluster: &Cluster, client: &kube::Client, caches: Caches, installation: Installation) -> Vec<String> {
    let connection: CachedConnection = serde_json::from_value(cluster.get(STORES)).unwrap();
    let context = context(client.clone(), caches, installation);
    reconcile(Arc::new(connection), context).await.unwrap();
    short(cluster.writes())
}

fn condition(cluster: &Cluster, type_: &str) -> (String, String) {
    let conditions = cluster.get(STORES)["status"]["conditions"].clone();
    let found = conditions.as_array().unwrap().iter().find(|c| c["type"] == type_).unwrap().clone();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

/// The path of the ConfigMap with the current host.
fn checked_config(cluster: &Cluster) -> String {
    let is_current = |path: &String| cluster.get(path)["data"].to_string().contains("nowhere");
    cluster.paths(CONFIG_MAPS).into_iter().find(is_current).unwrap()
}

/// The pod of the only Job leaves this report.
fn finish(cluster: &Cluster, report: &Value) {
    let path = cluster.paths(JOBS).pop().unwrap();
    let job = cluster.get(&path);
    let mut labels = job["spec"]["template"]["metadata"]["labels"].clone();
    labels["batch.kubernetes.io/controller-uid"] = job["metadata"]["uid"].clone();
    let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "check", "uid": job["metadata"]["uid"], "controller": true}]);
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap().to_string();
    cluster.change(&path, |job| {
        job["status"] = json!({"completionTime": now, "conditions": [{"type": "Complete", "status": "True"}]});
    });
    let state = json!({"terminated": {"exitCode": 0, "finishedAt": now, "message": report.to_string()}});
    let container = json!({"name": "check", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let status = json!({"phase": "Succeeded", "containerStatuses": [container]});
    cluster.put(
        &format!("{PODS}check"),
        json!({"metadata": {"name": "check", "namespace": "demo", "labels": labels, "ownerReferences": owners}, "status": status}),
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
    writes(&cluster, &client).await;

    // And a delete that is refused with 409 is attempted again
    let old = cluster
        .paths(CONFIG_MAPS)
        .into_iter()
        .find(|path| *path != checked_config(&cluster))
        .unwrap();
    *cluster.conflict_once.lock().unwrap() = Some(old.leak());
    let connection: CachedConnection = serde_json::from_value(cluster.get(STORES)).unwrap();
    let context = context(client.clone(), cluster.caches(), example_installation());
    assert!(reconcile(Arc::new(connection), context).await.is_err());
    writes(&cluster, &client).await;
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
async fn given_settings_of_check_pods_then_the_pods_of_checks_have_them() {
    let (cluster, client) = start(&json!({"kafka": {"bootstrapServers": "k:9092"}})).await;
    let settings = json!({"tolerations": [{"key": "dedicated"}], "labels": {"team": "data"}, "priorityClassName": "low"});
    let installation = Installation {
        check_pods: serde_json::from_value(settings).unwrap(),
        ..example_installation()
    };
    writes_with(&cluster, &client, cluster.caches(), installation).await;
    let template = cluster.get(&cluster.paths(JOBS).pop().unwrap())["spec"]["template"].clone();
    assert_eq!(template["metadata"]["labels"]["team"], "data");
    assert_eq!(
        (&template["spec"]["tolerations"][0]["key"], &template["spec"]["priorityClassName"]),
        (&json!("dedicated"), &json!("low"))
    );
}

#[tokio::test]
async fn given_a_nonce_then_the_connection_is_checked_again_once() {
    let (cluster, client) = start(&json!({"kafka": {"bootstrapServers": "k:9092"}})).await;
    let report = json!({"reason": "Checked", "message": "", "blocks": [{"block": "kafka"}]});
    let check = async |nonce: Option<&str>| {
        finish(&cluster, &report);
        assert_eq!(writes(&cluster, &client).await, ["PATCH stores/status"]);
        assert_eq!(cluster.get(STORES)["status"]["check"]["nonce"], json!(nonce));
        assert_eq!(writes(&cluster, &client).await, ["DELETE jobs/stores-check-1-0"]);
        assert_eq!(writes(&cluster, &client).await, [""; 0]);
    };
    writes(&cluster, &client).await;
    check(None).await;
    for nonce in ["a", "b"] {
        cluster.change(STORES, |connection| {
            connection["metadata"]["annotations"] = json!({"userpipeline.dev/check-now": nonce});
        });
        let begun = writes(&cluster, &client).await;
        assert!(begun.contains(&"POST demo/jobs".to_owned()), "{begun:?}");
        check(Some(nonce)).await;
    }
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

#[tokio::test]
async fn given_a_check_job_whose_pod_is_refused_then_the_condition_says_why() {
    let (cluster, client) = start(&json!({"kafka": {"bootstrapServers": "k:9092"}})).await;
    writes(&cluster, &client).await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {}, "lastTimestamp": "2025-01-01T00:00:01Z", "message": "Error creating: no quota"});
    let events = json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": [event]});
    cluster.put("/api/v1/namespaces/demo/events", events);
    assert_eq!(writes(&cluster, &client).await, ["PATCH stores/status"]);
    let conditions = cluster.get(STORES)["status"]["conditions"].to_string();
    let says = "FailedCreate: the pod of Job stores-check-1-0 cannot be created: no quota";
    assert!(conditions.contains(says), "{conditions}");
}

/// A connection of this name, and its last check.
fn checked(name: &str, check: &Value) -> Arc<CachedConnection> {
    let connection = json!({
        "metadata": {"name": name, "namespace": "demo", "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"kafka": {"bootstrapServers": "k:9092"}}, "status": {"check": check},
    });
    Arc::new(serde_json::from_value(connection).unwrap())
}

#[tokio::test]
async fn given_many_connections_then_five_are_checked_at_a_time() {
    let (cluster, client) = Cluster::start().await;
    let context = context(client, cluster.caches(), example_installation());
    for name in ["a", "b", "c", "d", "e", "f"] {
        let connection = checked(name, &Value::Null);
        cluster.put(
            &STORES.replace("/stores", &format!("/{name}")),
            json!({"metadata": {"uid": format!("uid-{name}")}}),
        );
        reconcile(connection, context.clone()).await.unwrap();
    }
    let jobs = || {
        cluster
            .paths(JOBS)
            .iter()
            .map(|path| path.rsplit_once('/').unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    let five = ["a", "b", "c", "d", "e"].map(|name| format!("{name}-check-1-0"));
    assert_eq!(jobs(), five);

    // When one of them is recorded, the sixth follows
    let now = jiff::Timestamp::now().to_string();
    reconcile(checked("c", &json!({"generation": 1, "checkedAt": now})), context.clone())
        .await
        .unwrap();
    reconcile(checked("f", &Value::Null), context).await.unwrap();
    assert_eq!(jobs().last().unwrap(), "f-check-1-0");
}

#[tokio::test]
async fn given_connections_that_were_checked_at_the_same_time_then_their_daily_checks_are_not() {
    let (cluster, client) = Cluster::start().await;
    let context = context(client, cluster.caches(), example_installation());
    let a_day_ago = jiff::Timestamp::now() - std::time::Duration::from_secs(24 * 3600 + 1);
    let later = |name: &&&str| spread(&format!("uid-{name}")).as_secs() > 60;
    let name = ["a", "b", "c"].iter().find(later).unwrap();
    let check = json!({"generation": 1, "checkedAt": a_day_ago.to_string()});
    cluster.put(
        &STORES.replace("/stores", &format!("/{name}")),
        json!({"metadata": {"uid": format!("uid-{name}")}}),
    );
    reconcile(checked(name, &check), context).await.unwrap();
    assert_eq!(cluster.paths(JOBS), [""; 0]);
}
