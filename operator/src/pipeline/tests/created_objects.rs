//! The record of what a pipeline created: who fills it, and who receives it.

use serde_json::{Value, json};

use super::cluster::{Cluster, JOBS, PIPELINE, PODS};
use crate::pipeline::model::labels;

fn topic() -> Value {
    json!({"kind": "Topic", "store": "k", "name": "demo.users"})
}

/// The only schema Job succeeds with this in its report.
fn finish(cluster: &Cluster, more: &Value) {
    cluster.finish_schema_job();
    cluster.change(&format!("{PODS}users-schema"), |pod| {
        let message = &mut pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"];
        let mut report: Value = serde_json::from_str(message.as_str().unwrap()).unwrap();
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        *message = json!(report.to_string());
    });
}

/// The arguments of the only Job of a task.
fn arguments(cluster: &Cluster, task: &str) -> Vec<String> {
    let jobs = cluster.paths(&format!("{JOBS}users-{task}-"));
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let container = cluster.get(&jobs[0])["spec"]["template"]["spec"]["containers"][0].clone();
    serde_json::from_value(container["args"].clone()).unwrap()
}

fn recorded(cluster: &Cluster) -> Value {
    cluster.get(PIPELINE)["status"]["createdObjects"].clone()
}

fn edit(cluster: &Cluster, partitions: i32) {
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["kafka"]["topic"] = json!({"partitions": partitions});
        pipeline["metadata"]["generation"] = json!(partitions);
    });
}

#[tokio::test]
async fn given_a_schema_job_that_creates_a_topic_then_the_next_one_receives_the_record() {
    let (cluster, client) = Cluster::start().await;
    cluster.reconcile(&client).await.unwrap();
    let first = arguments(&cluster, "schema");
    assert!(first.contains(&"--created-objects=[]".to_owned()), "{first:?}");
    assert!(
        !first.contains(&"--fill-created-objects".to_owned()),
        "a new pipeline has created nothing: {first:?}"
    );
    finish(&cluster, &json!({"createdObjects": [topic()]}));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(recorded(&cluster), json!([topic()]));
    cluster.reconcile(&client).await.unwrap();
    edit(&cluster, 12);
    cluster.reconcile(&client).await.unwrap();
    let second = arguments(&cluster, "schema");
    assert!(
        second.contains(&format!(
            "--created-objects=[{}]",
            r#"{"kind":"Topic","store":"k","name":"demo.users"}"#
        )),
        "{second:?}"
    );
}

#[tokio::test]
async fn given_a_pipeline_that_is_older_than_the_record_then_one_schema_job_fills_it() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        drop(pipeline["status"].as_object_mut().unwrap().remove("createdObjects"));
    });
    cluster.reconcile(&client).await.unwrap();
    let fills = arguments(&cluster, "schema");
    assert!(fills.contains(&"--fill-created-objects".to_owned()), "{fills:?}");
    assert_eq!(recorded(&cluster), Value::Null);
    finish(&cluster, &json!({"createdObjects": [topic()], "hasAllClaimed": true}));
    for _ in 0..3 {
        cluster.reconcile(&client).await.unwrap();
    }
    assert_eq!(recorded(&cluster), json!([topic()]));
    assert!(cluster.paths(JOBS).is_empty(), "once");
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_a_deletion_then_its_job_receives_the_record_and_has_the_version_of_the_operator() {
    let (cluster, client) = Cluster::start().await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["deletionPolicy"] = json!("Delete");
        pipeline["spec"]["image"] = json!({"version": "0.0.9"});
    });
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["status"]["createdObjects"] = json!([topic()]);
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    let deletes = arguments(&cluster, "deletion");
    assert!(
        deletes.contains(&format!(
            "--created-objects=[{}]",
            r#"{"kind":"Topic","store":"k","name":"demo.users"}"#
        )),
        "{deletes:?}"
    );
    let job = cluster.get(&format!("{JOBS}users-deletion-0"));
    let image = job["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(
        image, "userpipeline/stream-worker:0.1.0",
        "an older version deletes what claims list"
    );
    assert_eq!(job["metadata"]["labels"][labels::PIPELINE], "users");
}
