//! Pipelines that take their addresses from connections.

use std::sync::Arc;

use serde_json::{Value, json};
use userpipeline_api::{Connections, UserPipelineConnectionSpec};

use super::cluster::*;
use crate::pipeline::{
    Context,
    cache::CachedPipeline,
    example,
    model::{FINALIZER, labels},
    reconcile::reconcile,
};

pub const STORES: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/demo/userpipelineconnections/stores";
pub const SOURCE: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/demo/userpipelineconnections/source";
const HOST: &str = "/spec/postgres/host";

fn put_connection(cluster: &Cluster, path: &str, spec: &UserPipelineConnectionSpec) {
    let name = path.rsplit_once('/').unwrap().1;
    cluster.put(
        path,
        json!({"metadata": {"name": name, "namespace": "demo", "uid": format!("uid-{name}"), "generation": 1}, "spec": spec}),
    );
}

/// Edits the pipeline so that it uses connections.
pub fn use_connections(cluster: &Cluster) -> Connections {
    let (moved, connections) = example::with_connections();
    cluster.change(PIPELINE, |pipeline| {
        let cron = pipeline["spec"]["schedule"]["cron"].clone();
        pipeline["spec"] = serde_json::to_value(&moved.spec).unwrap();
        pipeline["spec"]["schedule"]["cron"] = cron;
        pipeline["metadata"]["generation"] = json!(pipeline["metadata"]["generation"].as_i64().unwrap() + 1);
    });
    connections
}

pub fn put_connections(cluster: &Cluster, connections: &Connections) {
    for (path, name) in [(STORES, "stores"), (SOURCE, "source")] {
        put_connection(cluster, path, connections[name].as_ref().unwrap());
    }
}

pub fn change_host(cluster: &Cluster, host: &str) {
    cluster.change(STORES, |connection| {
        *connection.pointer_mut(HOST).unwrap() = json!(host);
        connection["metadata"]["generation"] = json!(connection["metadata"]["generation"].as_i64().unwrap() + 1);
    });
}

/// The pipeline is Ready with its connections.
pub async fn ready(cluster: &Cluster, client: &kube::Client) {
    let connections = use_connections(cluster);
    put_connections(cluster, &connections);
    cluster.ready(client).await;
}

pub async fn again(cluster: &Cluster, context: &Arc<Context>) -> Vec<String> {
    let resource: CachedPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
    reconcile(Arc::new(resource), context.clone()).await.unwrap();
    short(cluster.writes())
}

pub fn rollout(cluster: &Cluster) -> Value {
    cluster.get(PIPELINE)["status"]["connectionRollout"].clone()
}

#[tokio::test]
async fn given_a_ready_pipeline_that_is_moved_to_equal_connections_then_they_are_stored_and_nothing_else_changes() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let connections = use_connections(&cluster);
    put_connections(&cluster, &connections);
    cluster.reconcile(&client).await.unwrap();
    let writes = short(cluster.writes());
    assert_eq!(writes[0], "PATCH users/status", "the digest");
    assert!(writes[1].starts_with("PATCH configmaps/users-connections-"), "{writes:?}");
    assert_eq!(writes[2..], ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready").0, "True");
    let versions = cluster.get(PIPELINE)["status"]["connections"].clone();
    assert_eq!(versions[0], json!({"name": "stores", "uid": "uid-stores", "generation": 1}));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn given_a_connection_that_never_existed_then_children_stay_until_it_does() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let connections = use_connections(&cluster);
    put_connection(&cluster, SOURCE, connections["source"].as_ref().unwrap());
    let before = cluster.get(DEPLOYMENT);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready"), ("False".into(), "ConnectionMissing".into()));
    assert_eq!(
        (cluster.condition("Stalled").0, cluster.condition("Reconciling").0),
        ("False".into(), "True".into())
    );
    assert_eq!(cluster.get(DEPLOYMENT), before);

    put_connections(&cluster, &connections);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready").0, "True");
    assert_eq!(cluster.get(DEPLOYMENT), before);
}

pub fn remove(cluster: &Cluster, path: &str) {
    cluster.objects.lock().unwrap().remove(path).unwrap();
}

pub fn edit(cluster: &Cluster, field: &str, value: Value) {
    cluster.change(PIPELINE, |pipeline| {
        *pipeline.pointer_mut(field).unwrap() = value;
        pipeline["metadata"]["generation"] = json!(pipeline["metadata"]["generation"].as_i64().unwrap() + 1);
    });
}

#[tokio::test]
async fn given_a_deleted_connection_then_edits_take_effect_with_its_last_version() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let before = cluster.get(DEPLOYMENT)["spec"]["template"].clone();
    remove(&cluster, STORES);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready"), ("False".into(), "ConnectionMissing".into()));
    assert_eq!(cluster.condition("Stalled").0, "False");

    // It can be scaled, and suspended, and nothing else changes
    edit(&cluster, "/spec/workers/replicas", json!(3));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["replicas"], 3);
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["suspend"] = json!(true));
    edit(&cluster, "/spec/workers/replicas", json!(2));
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["replicas"], 0);
    assert_eq!(cluster.condition("Ready").1, "ConnectionMissing");
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["template"], before);
    assert_eq!(cluster.get(PIPELINE)["status"]["connections"][0]["uid"], "uid-stores");

    // And where it names no connection that is missing, the stored ones are not used
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["suspend"] = json!(false));
    put_connections(&cluster, &example::with_connections().1);
    edit(&cluster, "/spec/workers/replicas", json!(2));
    cluster.reconcile(&client).await.unwrap();
    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready"), ("True".into(), "Ready".into()));
}

#[tokio::test]
async fn given_a_connection_that_changed_while_the_pipeline_waited_then_its_deletion_leaves_the_version_in_use() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let before = cluster.get(DEPLOYMENT)["spec"]["template"].clone();
    change_host(&cluster, "moved");
    // The slot is recorded, and nothing is applied yet
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["status"]["connections"][0]["generation"], 2);
    remove(&cluster, STORES);
    cluster.writes();
    for _ in 0..2 {
        cluster.reconcile(&client).await.unwrap();
    }
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["template"], before);
    assert_eq!(cluster.get(PIPELINE)["status"]["connections"][0]["generation"], 1);
    assert_eq!(cluster.paths(JOBS), [""; 0]);
}

/// The reason of the condition Ready of a newer pipeline that has the same table in PostgreSQL at this host.
pub async fn newer_with_own_addresses(cluster: &Cluster, client: &kube::Client, host: &str) -> String {
    let newer = PIPELINE.replace("/users", "/newer");
    let mut other = serde_json::to_value(example::pipeline()).unwrap();
    for (field, value) in [
        ("name", "newer"),
        ("uid", "uid-newer"),
        ("creationTimestamp", "2025-06-01T00:00:00Z"),
    ] {
        other["metadata"][field] = json!(value);
    }
    // The name that the older one derives
    other["spec"]["sinks"]["postgres"] = json!({"table": "demo_users"});
    other["spec"]["postgres"]["host"] = json!(host);
    cluster.put(&newer, other);
    let resource: CachedPipeline = serde_json::from_value(cluster.get(&newer)).unwrap();
    reconcile(Arc::new(resource), cluster.context(client)).await.unwrap();
    let conditions = cluster.get(&newer)["status"]["conditions"].clone();
    let ready = conditions.as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    ready["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn given_a_restart_while_a_connection_is_missing_then_newer_pipelines_still_conflict() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    for path in [STORES, SOURCE] {
        remove(&cluster, path);
    }
    let reason = newer_with_own_addresses(&cluster, &client, "postgres").await;
    assert_eq!(reason, "Conflict");
}

#[tokio::test]
async fn given_a_pipeline_that_no_longer_uses_connections_then_none_is_stored() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let stored = || cluster.paths(&format!("{CONFIG_MAPS}users-connections-")).len();
    assert_eq!(stored(), 1);
    change_host(&cluster, "moved");
    edit(&cluster, "/spec/workers/replicas", json!(3));
    for _ in 0..2 {
        cluster.reconcile(&client).await.unwrap();
    }
    assert_eq!(stored(), 1, "the one in use");
    let cron = cluster.get(PIPELINE)["spec"]["schedule"]["cron"].clone();
    let mut own = serde_json::to_value(example::pipeline().spec).unwrap();
    own["schedule"]["cron"] = cron;
    edit(&cluster, "/spec", own);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(stored(), 0);
}

#[tokio::test]
async fn given_a_connection_that_lost_a_block_then_edits_take_effect_with_its_last_version() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let before = cluster.get(STORES);
    cluster.change(STORES, |connection| {
        connection["spec"].as_object_mut().unwrap().remove("postgres");
        connection["metadata"]["generation"] = json!(2);
    });
    edit(&cluster, "/spec/workers/replicas", json!(3));
    for _ in 0..2 {
        cluster.reconcile(&client).await.unwrap();
        assert_eq!(cluster.condition("Ready"), ("False".into(), "ConnectionInvalid".into()));
    }
    let conditions = cluster.get(PIPELINE)["status"]["conditions"].to_string();
    assert!(conditions.contains("stores: has no postgres any more"), "{conditions}");
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["replicas"], 3);

    // Where another connection has it, that one is used
    let mut other = before.clone();
    other["metadata"]["name"] = json!("other");
    other["spec"] = json!({"postgres": before["spec"]["postgres"]});
    cluster.put(&STORES.replace("/stores", "/other"), other);
    edit(
        &cluster,
        "/spec/connections",
        json!([{"name": "stores"}, {"name": "source"}, {"name": "other"}]),
    );
    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready").0, "True", "{:#}", cluster.get(PIPELINE)["status"]);
}

#[tokio::test]
async fn given_a_connection_that_cannot_be_read_then_its_pipelines_say_so() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    cluster.change(STORES, |connection| connection["spec"]["kafka"] = json!("nonsense"));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready"), ("False".into(), "ConnectionInvalid".into()));
}

#[tokio::test]
async fn given_a_changed_connection_then_a_slot_is_recorded_first_and_kept_until_the_workers_have_it() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let before = cluster.get(DEPLOYMENT)["spec"].clone();
    change_host(&cluster, "moved");
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert!(rollout(&cluster)["since"].is_string());
    assert_eq!(cluster.condition("WorkersReady"), ("True".into(), "ConnectionPending".into()));

    // The schema Job, and the workers when it has succeeded
    cluster.reconcile(&client).await.unwrap();
    assert_eq!((cluster.paths(JOBS).len(), &cluster.get(DEPLOYMENT)["spec"]), (1, &before));
    assert_eq!(cluster.condition("SchemaReady"), ("False".into(), "Applying".into()));
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    assert_ne!(cluster.get(DEPLOYMENT)["spec"], before);
    assert!(rollout(&cluster).is_object(), "the workers do not have it yet");
    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(rollout(&cluster), Value::Null);
    assert_eq!(cluster.condition("Ready"), ("True".into(), "Ready".into()));
}

#[tokio::test]
async fn given_a_changed_api_then_runs_get_it_at_once_and_no_worker_restarts() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    cluster.change(SOURCE, |connection| {
        connection["spec"]["http"]["baseUrl"] = json!("http://other");
        connection["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    let writes = short(cluster.writes());
    assert!(writes[1].starts_with("PATCH configmaps/users-connections-"), "{writes:?}");
    assert!(writes[2].starts_with("PATCH configmaps/users-ingest-"), "{writes:?}");
    assert_eq!(writes[3..], ["PATCH cronjobs/users-ingest", "PATCH users/status"]);
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_data_to_delete_then_the_deletion_job_reads_where_it_is_although_the_connections_are_gone() {
    let (cluster, client) = Cluster::start().await;
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
    let connections = use_connections(&cluster);
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
    put_connections(&cluster, &connections);
    cluster.reconcile(&client).await.unwrap();
    let writes = short(cluster.writes());
    let place = |what: &str| writes.iter().position(|write| write.contains(what)).unwrap();
    assert!(place("configmaps/users-deletion-") < place("jobs/users-schema-"), "{writes:?}");
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    let stored = cluster.paths(&format!("{CONFIG_MAPS}users-deletion-"));
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(cluster.get(&stored[0])["metadata"].get("ownerReferences"), None);

    for path in [STORES, SOURCE] {
        cluster.objects.lock().unwrap().remove(path);
    }
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    let job = cluster.get(&format!("{JOBS}users-deletion-0"));
    let volumes = job["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let name = stored[0].rsplit_once('/').unwrap().1;
    assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == name), "{volumes:?}");
    assert!(
        volumes
            .iter()
            .any(|volume| volume["secret"]["secretName"] == "cassandra-credentials")
    );
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([]));
    assert!(cluster.paths(&stored[0]).is_empty());
}

#[tokio::test]
async fn given_data_that_is_retained_after_all_then_nothing_without_an_owner_stays() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    for (policy, generation, expected) in [("Delete", 3, 1), ("Retain", 4, 0)] {
        cluster.change(PIPELINE, |pipeline| {
            pipeline["spec"]["deletionPolicy"] = json!(policy);
            pipeline["metadata"]["generation"] = json!(generation);
        });
        cluster.reconcile(&client).await.unwrap();
        assert_eq!(cluster.paths(&format!("{CONFIG_MAPS}users-deletion-")).len(), expected, "{policy}");
        let finalizers = if policy == "Delete" { json!([FINALIZER]) } else { json!([]) };
        assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], finalizers);
    }
    let writes = short(cluster.writes());
    let place = |what: &str| writes.iter().rposition(|write| write.contains(what)).unwrap();
    assert!(
        place("DELETE configmaps/users-deletion-") < place("PATCH userpipelines/users"),
        "{writes:?}"
    );
}

#[tokio::test]
async fn given_a_changed_connection_then_the_deletion_config_is_the_old_one_until_the_schema_is_applied() {
    let (cluster, client) = Cluster::start().await;
    let connections = use_connections(&cluster);
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
    put_connections(&cluster, &connections);
    cluster.ready(&client).await;
    let stored = |cluster: &Cluster| cluster.paths(&format!("{CONFIG_MAPS}users-deletion-"));
    let old = stored(&cluster);
    change_host(&cluster, "moved");
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(stored(&cluster), old, "only the slot is recorded");
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(stored(&cluster).len(), 2);
    let hash = cluster.get(PIPELINE)["status"]["schema"]["appliedHash"].clone();
    assert_eq!(cluster.get(&old[0])["metadata"]["labels"][labels::SCHEMA_HASH], hash);
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    let new = stored(&cluster);
    assert!(new.len() == 1 && new != old, "{new:?}");
}
