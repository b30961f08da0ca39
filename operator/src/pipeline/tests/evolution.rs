//! A changed record reaches tables first, then workers, then runs.

use serde_json::{Value, json};

use super::cluster::*;

fn record(fields: &[&str]) -> Value {
    let field = |name: &&str| json!({"name": name, "type": "string", "from": format!("/{name}"), "optional": *name != "id"});
    json!({"key": ["id"], "fields": fields.iter().map(field).collect::<Vec<_>>()})
}

fn declare(cluster: &Cluster, generation: i64, fields: &[&str]) {
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["record"] = record(fields);
        pipeline["metadata"]["generation"] = json!(generation);
    });
}

/// The ConfigMaps of runs and workers.
fn config_maps(cluster: &Cluster) -> (String, String) {
    let name = |template: &Value| template["spec"]["volumes"][0]["configMap"]["name"].as_str().unwrap().to_owned();
    let cron_job = cluster.get(&cluster.paths("/apis/batch/v1/namespaces/demo/cronjobs/")[0]);
    let runs = name(&cron_job["spec"]["jobTemplate"]["spec"]["template"]);
    (runs, name(&cluster.get(DEPLOYMENT)["spec"]["template"]))
}

#[tokio::test]
async fn given_an_added_field_then_runs_use_it_once_every_worker_has_it() {
    let (cluster, client) = Cluster::start().await;
    declare(&cluster, 1, &["id"]);
    cluster.ready(&client).await;
    let (runs, workers) = config_maps(&cluster);
    let labels = crate::pipeline::labels::labels("users", crate::pipeline::labels::Component::Worker);
    let old = format!("{PODS}old");
    let template = cluster.get(DEPLOYMENT)["spec"]["template"]["spec"].clone();
    cluster.put(
        &old,
        json!({"metadata": {"name": "old", "namespace": "demo", "labels": labels}, "spec": template, "status": {"phase": "Running"}}),
    );

    // When a field is added, then nothing changes before the tables have it
    declare(&cluster, 2, &["id", "note"]);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(config_maps(&cluster), (runs.clone(), workers.clone()));

    // When they have it, then workers are rolled, and the runs stay as they are
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    let (held, rolled) = config_maps(&cluster);
    assert_ne!(rolled, workers);
    assert_eq!(held, runs);

    // When all are rolled out but for one that is slow to go, then they still do
    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(config_maps(&cluster).0, runs);
    assert_eq!(cluster.condition("ScheduleReady"), ("False".into(), "WaitingForWorkers".into()));
    assert_eq!(cluster.condition("Ready").0, "False");

    // When that is gone, then the runs follow
    cluster.objects.lock().unwrap().remove(&old);
    cluster.reconcile(&client).await.unwrap();
    assert_ne!(config_maps(&cluster).0, runs);
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_another_change_then_runs_do_not_wait_for_workers() {
    let (cluster, client) = Cluster::start().await;
    declare(&cluster, 1, &["id"]);
    cluster.ready(&client).await;
    let before = config_maps(&cluster);
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["source"]["http"]["url"] = json!("http://elsewhere/");
        pipeline["spec"]["workers"]["batch"] = json!({"maxRecords": 7});
        pipeline["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    let after = config_maps(&cluster);
    assert!(after.0 != before.0 && after.1 != before.1);
}
