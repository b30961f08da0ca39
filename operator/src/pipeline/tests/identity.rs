//! Whose identity pods have, and whose pods are asked for their status.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    cluster::{CRON_JOB, Cluster, DEPLOYMENT, JOBS, PIPELINE, PODS},
    short,
};
use crate::pipeline::{
    model::labels,
    observe::{Observed, ReplicaSets},
};

const ACCOUNT: &str = "/api/v1/namespaces/demo/serviceaccounts/users-pods";
const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/demo/replicasets/";

/// A ServiceAccount that somebody else created, with an identity in a cloud.
fn foreign_account() -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "users-pods", "namespace": "demo", "uid": "foreign",
        "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/payments"}}})
}

#[tokio::test]
async fn given_a_foreign_service_account_then_no_pod_is_created_under_it() {
    let (cluster, client) = Cluster::start().await;
    cluster.put(ACCOUNT, foreign_account());
    assert!(cluster.reconcile(&client).await.is_err(), "it is retried");
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.get(ACCOUNT)["metadata"]["uid"], "foreign");
    for type_ in ["Ready", "SchemaReady", "WorkersReady"] {
        assert_eq!(cluster.condition(type_), ("False".into(), "NotOurs".into()), "{type_}");
    }
    let conditions = cluster.get(PIPELINE)["status"]["conditions"].to_string();
    assert!(
        conditions.contains("ServiceAccount users-pods exists and is not controlled"),
        "{conditions}"
    );

    cluster.objects.lock().unwrap().remove(ACCOUNT);
    cluster.reconcile(&client).await.unwrap();
    assert!(cluster.paths(JOBS)[0].contains("users-schema-"));
}

#[tokio::test]
async fn given_a_foreign_service_account_in_place_of_ours_then_neither_workers_nor_runs_change() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let before = [DEPLOYMENT, CRON_JOB].map(|path| cluster.get(path));
    cluster.put(ACCOUNT, foreign_account());
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["workers"] = json!({"replicas": 3});
        pipeline["spec"]["schedule"]["cron"] = json!("@daily");
        pipeline["metadata"]["generation"] = json!(2);
    });
    assert!(cluster.reconcile(&client).await.is_err());
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!([DEPLOYMENT, CRON_JOB].map(|path| cluster.get(path)), before);
    assert_eq!(cluster.condition("Ready"), ("False".into(), "NotOurs".into()));
}

#[tokio::test]
async fn given_a_pod_with_the_label_of_a_job_then_its_report_is_ignored() {
    let (cluster, client) = Cluster::start().await;
    cluster.reconcile(&client).await.unwrap();
    cluster.finish_schema_job();
    let path = format!("{PODS}users-schema");
    let mut forged = cluster.get(&path);
    forged["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    assert!(forged["metadata"]["labels"][labels::JOB_UID].is_string());
    cluster.put(&path, forged);
    cluster.reconcile(&client).await.unwrap();
    let schema = cluster.get(PIPELINE)["status"]["schema"].clone();
    assert!(
        schema["appliedHash"].is_string() && schema["schemaId"].is_null(),
        "the Job counts, the report does not: {schema}"
    );
}

/// An object whose controller has this kind and uid.
fn controlled(name: &str, uid: &str, kind: &str, owner: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "demo", "uid": uid, "labels": labels::labels("users", labels::Component::Worker),
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "users-worker-1", "uid": owner, "controller": true}]}})
}

#[tokio::test]
async fn only_pods_of_our_own_replica_sets_are_asked_for_their_status() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let deployment = cluster.get(DEPLOYMENT)["metadata"]["uid"].clone();
    let set = |name: &str, uid: &str, owner: &Value| {
        let set = controlled(name, uid, "Deployment", owner);
        cluster.put(&format!("{REPLICA_SETS}{name}"), set);
    };
    set("users-worker-1", "own-set", &deployment);
    set("users-worker-2", "forged-set", &json!("another"));
    let pods = [
        ("own", Some(("users-worker-1", "own-set"))),
        ("without-controller", None),
        ("of-a-forged-set", Some(("users-worker-2", "forged-set"))),
        ("of-a-set-that-is-gone", Some(("users-worker-1", "earlier-set"))),
        ("of-a-missing-set", Some(("users-worker-9", "own-set"))),
    ];
    for (name, set) in pods {
        let mut pod = controlled(name, name, "ReplicaSet", &json!(set.map(|(_, uid)| uid)));
        match set {
            Some((name, _)) => pod["metadata"]["ownerReferences"][0]["name"] = json!(name),
            None => drop(pod["metadata"].as_object_mut().unwrap().remove("ownerReferences")),
        }
        pod["status"] = json!({"phase": "Running", "podIP": "127.0.0.1"});
        cluster.put(&format!("{PODS}{name}"), pod);
    }
    let mut of_job = controlled("of-a-job", "of-a-job", "Job", &json!("own-set"));
    of_job["status"] = json!({"phase": "Running", "podIP": "127.0.0.1"});
    cluster.put(&format!("{PODS}of-a-job"), of_job);

    let context = cluster.context(&client);
    let pipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
    let observed = Observed::cached(&pipeline, &context.caches.children, jiff::Timestamp::now());
    assert_eq!(
        observed.workers().count(),
        6,
        "all of them are waited for when a pipeline is suspended"
    );
    let sets = ReplicaSets::new(client.clone());
    let names = |pods: Vec<&Pod>| -> Vec<String> { pods.into_iter().filter_map(|pod| pod.metadata.name.clone()).collect() };
    assert_eq!(names(sets.own_workers(&pipeline, &observed).await), ["own"]);

    // A Deployment that is not controlled by the pipeline has no workers of it.
    cluster.change(DEPLOYMENT, |deployment| {
        deployment["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    });
    let context = cluster.context(&client);
    let observed = Observed::cached(&pipeline, &context.caches.children, jiff::Timestamp::now());
    assert_eq!(names(sets.own_workers(&pipeline, &observed).await), [""; 0]);
}
