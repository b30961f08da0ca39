//! New pipelines verify fully where the spec omits `tls`. Older ones stay as they are.

use serde_json::{Value, json};

use super::cluster::*;

/// What each pod that is created from now on reads.
fn configs(cluster: &Cluster) -> Vec<String> {
    let paths = cluster.paths(CONFIG_MAPS);
    let text = |path: &String| cluster.get(path)["data"].to_string();
    paths.iter().map(text).collect()
}

fn recorded_mode(cluster: &Cluster) -> Value {
    cluster.get(PIPELINE)["status"]["defaultTlsMode"].clone()
}

fn schema_message(cluster: &Cluster) -> String {
    let conditions = cluster.get(PIPELINE)["status"]["conditions"].clone();
    let found = conditions.as_array().unwrap().iter().find(|c| c["type"] == "SchemaReady").unwrap();
    found["message"].as_str().unwrap().to_owned()
}

fn set_tls(cluster: &Cluster, generation: i64, tls: &Value) {
    cluster.change(PIPELINE, |pipeline| {
        for block in ["postgres", "kafka", "cassandra"] {
            pipeline["spec"][block]["tls"] = tls.clone();
        }
        pipeline["metadata"]["generation"] = json!(generation);
    });
}

#[tokio::test]
async fn given_a_new_pipeline_then_its_pods_verify_from_the_first_reconcile_on() {
    let (cluster, client) = Cluster::start().await;
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(recorded_mode(&cluster), "VerifyFull");
    assert_eq!(configs(&cluster).len(), 1);
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    for config in configs(&cluster) {
        assert!(!config.contains("Disable"), "{config}");
    }
    assert_eq!(schema_message(&cluster), "topic, subject and tables match the spec");
}

#[tokio::test]
async fn given_an_older_pipeline_then_an_upgrade_writes_only_its_status_which_names_the_fields_to_set() {
    let (cluster, client) = Cluster::start().await;
    // As an earlier operator left it: pods in plain text, and no record of the mode.
    cluster.change(PIPELINE, |pipeline| pipeline["status"] = json!({"defaultTlsMode": "Disable"}));
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["status"].as_object_mut().unwrap().remove("defaultTlsMode");
    });

    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(recorded_mode(&cluster), "Disable");
    assert_eq!(cluster.condition("SchemaReady"), ("True".into(), "Applied".into()));
    let message = schema_message(&cluster);
    assert!(
        message.contains("set spec.postgres.tls, spec.kafka.tls, spec.cassandra.tls"),
        "{message}"
    );
    for config in configs(&cluster) {
        assert!(config.contains("Disable"), "{config}");
    }
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);

    // Once a schema Job has succeeded with `tls` everywhere, the new default holds, also where `tls` is removed again.
    set_tls(&cluster, 2, &json!({}));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(recorded_mode(&cluster), "Disable");
    cluster.finish_schema_job();
    for _ in 0..2 {
        cluster.reconcile(&client).await.unwrap();
    }
    assert_eq!(recorded_mode(&cluster), "VerifyFull");
    set_tls(&cluster, 3, &Value::Null);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(recorded_mode(&cluster), "VerifyFull");
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    let deployment = cluster.get(DEPLOYMENT);
    let config_map = deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
        .as_str()
        .unwrap();
    let config = cluster.get(&format!("{CONFIG_MAPS}{config_map}"))["data"].to_string();
    assert!(!config.contains("Disable"), "{config}");
}
