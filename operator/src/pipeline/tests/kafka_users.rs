//! A pipeline that logs in with a `KafkaUser` of its own. Each reconcile is one of an operator that was just restarted.

use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::*;
use crate::pipeline::example;

const CONNECTIONS: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/demo/userpipelineconnections/";
const USERS: &str = "/apis/kafka.strimzi.io/v1/namespaces/demo/kafkausers/";
const KAFKA: &str = "/apis/kafka.strimzi.io/v1/namespaces/kafka/kafkas/events";

/// The pipeline of the tests, whose Kafka is a cluster of Strimzi.
async fn start() -> (Arc<Cluster>, kube::Client) {
    let (cluster, client) = Cluster::start().await;
    cluster.list_strimzi("kafka/events:demo");
    let kafka = json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": {"name": "events", "namespace": "kafka"},
        "spec": {"kafka": {"listeners": [], "authorization": {"type": "simple"}}},
    });
    cluster.put(KAFKA, kafka);
    let (pipeline, connections) = example::with_connections();
    for (name, spec) in connections {
        let metadata = json!({"name": name, "namespace": "demo", "uid": name, "generation": 1});
        let connection = json!({"metadata": metadata, "spec": spec.unwrap()});
        cluster.put(&format!("{CONNECTIONS}{name}"), connection);
    }
    let strimzi = json!({"cluster": "events", "namespace": "kafka", "listener": "tls"});
    cluster.change(&format!("{CONNECTIONS}stores"), |connection| {
        connection["spec"]["kafka"] = json!({"strimzi": strimzi, "auth": {"strimziUser": {}}, "topic": {"management": "None"}});
        connection["status"] =
            json!({"kafka": {"strimzi": strimzi, "bootstrapServers": "b:9093", "tls": true, "authentication": "scram-sha-512"}});
    });
    cluster.change(PIPELINE, |stored| {
        let cron = stored["spec"]["schedule"]["cron"].clone();
        stored["spec"] = serde_json::to_value(&pipeline.spec).unwrap();
        stored["spec"]["schedule"]["cron"] = cron;
    });
    (cluster, client)
}

fn users(cluster: &Cluster) -> Vec<String> {
    cluster.paths(USERS)
}

/// Strimzi reconciles a user.
fn report(cluster: &Cluster, path: &str, condition: &Value) {
    cluster.change(path, |user| {
        let name = user["metadata"]["name"].clone();
        user["status"] =
            json!({"conditions": [condition], "observedGeneration": user["metadata"]["generation"], "username": name, "secret": name});
    });
}

fn ready() -> Value {
    json!({"type": "Ready", "status": "True"})
}

async fn writes(cluster: &Cluster, client: &kube::Client) -> Vec<String> {
    cluster.reconcile(client).await.unwrap();
    short(cluster.writes())
}

/// Until nothing is written any more. Jobs succeed, workers are replaced, and users become ready.
async fn settle(cluster: &Cluster, client: &kube::Client) {
    for _ in 0..8 {
        let _ = cluster.reconcile(client).await;
        for path in users(cluster) {
            report(cluster, &path, &ready());
        }
        for job in cluster.paths(JOBS) {
            cluster.finish_job(&job, "users");
        }
        if !cluster.paths(DEPLOYMENT).is_empty() {
            cluster.roll_out();
        }
    }
    cluster.writes();
    assert_eq!(writes(cluster, client).await, [""; 0]);
}

#[tokio::test]
async fn given_a_new_pipeline_then_its_schema_waits_for_the_user_and_its_pods_mount_the_secret() {
    // Given a pipeline without a user
    let (cluster, client) = start().await;
    let first = writes(&cluster, &client).await;
    assert!(first.contains(&"POST demo/kafkausers".to_owned()), "{first:?}");
    let [path] = &users(&cluster)[..] else {
        panic!("{:?}", users(&cluster))
    };
    let user = cluster.get(path);
    let name = user["metadata"]["name"].as_str().unwrap();
    insta::assert_yaml_snapshot!(json!({"labels": user["metadata"]["labels"], "spec": user["spec"]}));
    assert_eq!(user["metadata"]["ownerReferences"][0]["kind"], "UserPipeline");
    assert!(cluster.paths(JOBS).is_empty());
    for condition in ["SchemaReady", "WorkersReady"] {
        assert_eq!(cluster.condition(condition), ("False".into(), "KafkaUserPending".into()));
    }

    // When Strimzi refuses it, Then the conditions have its reason
    report(
        &cluster,
        path,
        &json!({"type": "NotReady", "status": "True", "reason": "ExecutionException", "message": "no quota"}),
    );
    assert_eq!(writes(&cluster, &client).await, ["PATCH users/status"]);
    for condition in ["SchemaReady", "WorkersReady"] {
        assert_eq!(cluster.condition(condition), ("False".into(), "ExecutionException".into()));
    }

    // When it is ready, Then the schema Job runs, and pods mount its Secret
    report(&cluster, path, &ready());
    let then = writes(&cluster, &client).await;
    assert!(then.iter().any(|write| write.contains("jobs/users-schema")), "{then:?}");
    settle(&cluster, &client).await;
    assert_eq!(cluster.condition("Ready").0, "True", "{:#}", cluster.get(PIPELINE)["status"]);
    let volumes = cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["volumes"].to_string();
    assert!(volumes.contains(name) && volumes.contains("stores-kafka-ca"), "{volumes}");
}

#[tokio::test]
async fn given_topics_that_strimzi_manages_then_their_inspection_waits_for_the_user_too() {
    // Given a pipeline whose topics Strimzi manages, and a user that is not ready
    let (cluster, client) = start().await;
    cluster.change(&format!("{CONNECTIONS}stores"), |connection| {
        connection["spec"]["kafka"]["topic"]["management"] = json!("Strimzi");
    });
    writes(&cluster, &client).await;
    assert_eq!(cluster.paths(JOBS), [""; 0]);
    assert_eq!(cluster.condition("TopicReady").1, "KafkaUserPending");

    // When it is ready, Then a Job logs in with it and reads which topics exist
    report(&cluster, &users(&cluster)[0], &ready());
    writes(&cluster, &client).await;
    let [job] = &cluster.paths(JOBS)[..] else {
        panic!("{:?}", cluster.paths(JOBS))
    };
    assert!(job.contains("users-inspection"), "{job}");
}

#[tokio::test]
async fn given_a_changed_or_failing_user_then_it_is_corrected_or_reported_and_a_restart_writes_nothing() {
    let (cluster, client) = start().await;
    settle(&cluster, &client).await;
    let path = &users(&cluster)[0];
    let desired = cluster.get(path)["spec"].clone();
    cluster.change(path, |user| user["spec"]["authorization"]["acls"] = json!([]));
    let corrected = writes(&cluster, &client).await;
    assert_eq!(corrected.len(), 1, "{corrected:?}");
    assert_eq!(cluster.get(path)["spec"], desired);

    // A cluster that enforces no ACLs refuses users with any.
    cluster.change(KAFKA, |kafka| kafka["spec"]["kafka"]["authorization"] = Value::Null);
    writes(&cluster, &client).await;
    assert_eq!(cluster.get(path)["spec"], json!({"authentication": {"type": "scram-sha-512"}}));
    settle(&cluster, &client).await;

    report(
        &cluster,
        path,
        &json!({"type": "NotReady", "status": "True", "reason": "Unreachable", "message": "no broker"}),
    );
    assert_eq!(writes(&cluster, &client).await, ["PATCH users/status"]);
    assert_eq!(cluster.condition("WorkersReady"), ("False".into(), "Unreachable".into()));
    report(&cluster, path, &ready());
    writes(&cluster, &client).await;
    assert_eq!(cluster.condition("WorkersReady").0, "True");

    // An operator that does not know Strimzi's resources yet
    *cluster.strimzi_is_known.lock().unwrap() = false;
    assert_eq!(writes(&cluster, &client).await, [""; 0]);
}

#[tokio::test]
async fn given_a_listener_with_another_authentication_then_the_old_user_is_deleted_after_the_workers_have_the_new_one() {
    let (cluster, client) = start().await;
    settle(&cluster, &client).await;
    let old = users(&cluster)[0].clone();
    let old_name = old.rsplit_once('/').unwrap().1.to_owned();
    cluster.change(&format!("{CONNECTIONS}stores"), |connection| {
        connection["status"]["kafka"]["authentication"] = json!("tls");
    });
    // The pipeline takes its slot, and gets the new user.
    for _ in 0..3 {
        let _ = cluster.reconcile(&client).await;
    }
    assert_eq!(users(&cluster).len(), 2);
    let volumes = || cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["volumes"].to_string();
    assert!(volumes().contains(&old_name), "workers have the old one");
    settle(&cluster, &client).await;
    assert_eq!(users(&cluster).len(), 1);
    assert!(!users(&cluster).contains(&old) && !volumes().contains(&old_name));
}

#[tokio::test]
async fn given_a_foreign_user_of_the_same_name_then_it_is_not_changed() {
    let (cluster, client) = start().await;
    writes(&cluster, &client).await;
    let path = users(&cluster).pop().unwrap();
    let foreign = json!({"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaUser", "metadata": {"name": path.rsplit_once('/').unwrap().1, "namespace": "demo", "uid": "foreign"}, "spec": {}});
    cluster.put(&path, foreign.clone());
    assert!(cluster.reconcile(&client).await.is_err());
    assert_eq!(cluster.condition("SchemaReady"), ("False".into(), "NotOurs".into()));
    assert_eq!(cluster.get(&path)["spec"], foreign["spec"]);
}

#[tokio::test]
async fn given_a_deletion_with_its_data_then_the_user_outlives_the_deletion_job() {
    let (cluster, client) = start().await;
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
    settle(&cluster, &client).await;
    let path = users(&cluster).pop().unwrap();
    let metadata = cluster.get(&path)["metadata"].clone();
    assert_eq!(
        metadata["ownerReferences"],
        Value::Null,
        "a deletion in the foreground begins with what has an owner"
    );
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    let mut had_job = false;
    for _ in 0..12 {
        let _ = cluster.reconcile(&client).await;
        for job in cluster.paths(JOBS) {
            had_job |= job.contains("delet");
            assert_eq!(users(&cluster), std::slice::from_ref(&path), "while {job} is there");
            cluster.finish_job(&job, "users");
        }
    }
    assert!(
        had_job && users(&cluster).is_empty(),
        "{:?} {:#}",
        users(&cluster),
        cluster.get(PIPELINE)["status"]
    );
}
