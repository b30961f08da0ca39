//! ConfigMaps that others write with the operator's labels: whoever may write ConfigMaps may not choose which Secrets a pod mounts,
//! or to which host it sends them.

use serde_json::{Value, json};

use super::{
    cluster::*,
    connections::{STORES, change_host, edit, put_connections, ready, remove, use_connections},
};
use crate::pipeline::model::labels;

/// Everything but the caches' own fields of the object that the operator stored last, with another name and content.
fn forge(cluster: &Cluster, stored: &str, name: &str, change: impl Fn(&str) -> String) {
    let mut forged = cluster.get(stored);
    forged["metadata"]["name"] = json!(name);
    forged["metadata"]["uid"] = json!("forged");
    forged["metadata"]["creationTimestamp"] = json!("2030-01-01T00:00:00Z");
    for text in forged["data"].as_object_mut().unwrap().values_mut() {
        let changed = change(text.as_str().unwrap());
        assert_ne!(*text, changed);
        *text = json!(changed);
    }
    cluster.put(&format!("{CONFIG_MAPS}{name}"), forged);
}

pub async fn ready_with_data(cluster: &Cluster, client: &kube::Client) {
    let connections = use_connections(cluster);
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
    put_connections(cluster, &connections);
    cluster.ready(client).await;
}

async fn delete(cluster: &Cluster, client: &kube::Client) -> Value {
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    cluster.reconcile(client).await.unwrap();
    cluster.reconcile(client).await.unwrap();
    cluster.get(&format!("{JOBS}users-deletion-0"))["spec"]["template"]["spec"]["volumes"].clone()
}

#[tokio::test]
async fn given_a_forged_deletion_config_then_the_deletion_job_reads_the_operators() {
    let (cluster, client) = Cluster::start().await;
    ready_with_data(&cluster, &client).await;
    let stored = cluster.paths(&format!("{CONFIG_MAPS}users-deletion-")).pop().unwrap();
    forge(&cluster, &stored, "users-deletion-0", |text| {
        text.replace("postgres-credentials", "stolen")
    });
    let volumes = delete(&cluster, &client).await.to_string();
    assert!(!volumes.contains("stolen") && !volumes.contains("users-deletion-0\""), "{volumes}");
    assert!(volumes.contains("postgres-credentials"), "{volumes}");
}

#[tokio::test]
async fn given_a_second_key_beside_the_operators_text_then_the_config_map_is_ignored() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let stored = cluster.paths(&format!("{CONFIG_MAPS}users-connections-")).pop().unwrap();
    cluster.change(&stored, |config_map| {
        let text = config_map["data"]["connections.yaml"].as_str().unwrap().to_owned();
        config_map["data"] = json!({"a": text, "connections.yaml": text.replace("host: postgres", "host: evil")});
    });
    remove(&cluster, STORES);
    edit(&cluster, "/spec/workers/replicas", json!(3));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready"), ("False".into(), "ConnectionMissing".into()));
    assert_nothing_evil(&cluster, &stored);
}

#[tokio::test]
async fn given_forged_connections_then_a_missing_one_is_as_the_operator_stored_it() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let stored = cluster.paths(&format!("{CONFIG_MAPS}users-connections-")).pop().unwrap();
    forge(&cluster, &stored, "users-connections-0", |text| {
        text.replace("host: postgres", "host: evil")
    });
    remove(&cluster, STORES);
    edit(&cluster, "/spec/workers/replicas", json!(3));
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["replicas"], 3, "the edit takes effect");
    assert_nothing_evil(&cluster, "users-connections-0");
}

/// No ConfigMap but the forged one has the host.
fn assert_nothing_evil(cluster: &Cluster, forged: &str) {
    for path in cluster.paths(CONFIG_MAPS).iter().filter(|path| !path.ends_with(forged)) {
        assert!(!cluster.get(path)["data"].to_string().contains("evil"), "{path}");
    }
}

#[tokio::test]
async fn given_the_deletion_config_of_an_earlier_pipeline_then_it_does_not_block_the_next_one() {
    let (cluster, client) = Cluster::start().await;
    ready_with_data(&cluster, &client).await;
    let stored = cluster.paths(&format!("{CONFIG_MAPS}users-deletion-")).pop().unwrap();
    cluster.change(&stored, |config_map| {
        config_map["metadata"]["labels"][labels::PIPELINE_UID] = json!("earlier");
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready").0, "True", "{:#}", cluster.get(PIPELINE)["status"]);
    let own = cluster.get(PIPELINE)["metadata"]["uid"].clone();
    assert_eq!(cluster.get(&stored)["metadata"]["labels"][labels::PIPELINE_UID], own);
}

#[tokio::test]
async fn given_what_is_to_be_read_back_then_its_digest_is_recorded_before_it_is_written() {
    let (cluster, client) = Cluster::start().await;
    ready_with_data(&cluster, &client).await;
    change_host(&cluster, "moved");
    cluster.reconcile(&client).await.unwrap();
    cluster.writes();
    cluster.reconcile(&client).await.unwrap();
    let writes = short(cluster.writes());
    let place = |what: &str| writes.iter().position(|write| write.contains(what)).unwrap();
    assert_eq!(place("users/status"), 0, "{writes:?}");
    assert!(place("configmaps/users-deletion-") < place("jobs/users-schema-"), "{writes:?}");
    let digests = cluster.get(PIPELINE)["status"]["configDigests"].clone();
    assert_eq!(digests.as_array().unwrap().len(), 4, "of both versions: {digests}");
}
