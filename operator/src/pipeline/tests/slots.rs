//! A pipeline whose connection changes while five others of the connection have slots.

use std::{cell::RefCell, sync::Arc};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, UserPipelineConnection};

use super::{
    cluster::*,
    connections::{SOURCE, STORES, again, change_host, newer_with_own_addresses, ready, remove, rollout},
};
use crate::pipeline::{
    cache::{CacheWriter, CachedPipeline},
    connections::ConnectionLookup,
    decide::ResourceIndex,
    example,
};

fn five_others_change(cluster: &Cluster) {
    for n in 0..5 {
        // One without a Deployment: its schema Job fails.
        let mut other = cluster.get(PIPELINE);
        for (field, value) in [("name", format!("other-{n}")), ("uid", format!("uid-{n}"))] {
            other["metadata"][field] = json!(value);
        }
        other["status"]["connectionRollout"] = json!({"since": "2025-01-01T00:00:00Z", "connections": ["stores"]});
        cluster.put(&PIPELINE.replace("/users", &format!("/other-{n}")), other);
    }
}

#[tokio::test]
async fn given_a_changed_connection_while_five_others_roll_out_then_the_pipeline_keeps_what_it_has() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    five_others_change(&cluster);
    change_host(&cluster, "moved");
    let context = cluster.context(&client);
    assert_eq!(again(&cluster, &context).await, ["PATCH users/status"]);
    assert_eq!(rollout(&cluster), Value::Null);
    assert_eq!(cluster.condition("WorkersReady"), ("True".into(), "ConnectionPending".into()));
    assert_eq!(cluster.condition("SchemaReady").0, "True", "it has the schema that it had");
    assert_eq!(cluster.get(PIPELINE)["status"]["connections"][0]["generation"], 1);
    assert_eq!(again(&cluster, &context).await, [""; 0]);

    // An edit does not wait
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["workers"]["replicas"] = json!(3);
        pipeline["metadata"]["generation"] = json!(9);
    });
    let writes = again(&cluster, &context).await;
    assert!(writes.iter().any(|write| write.contains("jobs/users-schema-")), "{writes:?}");
    assert_eq!(cluster.get(PIPELINE)["status"]["connections"][0]["generation"], 2);
}

#[tokio::test]
async fn given_workers_that_are_down_while_five_others_change_then_the_status_says_that_the_change_waits() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    five_others_change(&cluster);
    change_host(&cluster, "moved");
    cluster.change(DEPLOYMENT, |deployment| deployment["status"]["readyReplicas"] = json!(0));
    again(&cluster, &cluster.context(&client)).await;
    assert_eq!(cluster.condition("WorkersReady"), ("False".into(), "Unavailable".into()));
    let conditions = cluster.get(PIPELINE)["status"]["conditions"].to_string();
    assert!(
        conditions.contains("0 of 2 workers are ready. A connection has changed"),
        "{conditions}"
    );
}

#[tokio::test]
async fn given_a_schema_job_that_fails_while_five_others_change_then_a_changed_connection_reaches_it() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    five_others_change(&cluster);
    cluster.change(PIPELINE, |pipeline| {
        let schema = &mut pipeline["status"]["schema"];
        (schema["attemptedHash"], schema["failedAttempts"]) = (json!("other"), json!(3));
    });
    change_host(&cluster, "moved");
    let writes = again(&cluster, &cluster.context(&client)).await;
    assert!(writes.iter().any(|write| write.contains("jobs/users-schema-")), "{writes:?}");
    assert_eq!(cluster.get(PIPELINE)["status"]["connections"][0]["generation"], 2);
}

#[tokio::test]
async fn given_a_pipeline_that_waits_for_a_changed_connection_then_its_tables_at_both_hosts_are_taken() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    five_others_change(&cluster);
    let index = Index::default();
    let taken = async |host: &str| {
        let is_taken = index.has_conflict(&cluster, host);
        let reason = newer_with_own_addresses(&cluster, &client, host).await;
        assert_eq!(reason == "Conflict", is_taken, "after a restart: {host}");
        is_taken
    };
    let all = async || [taken("postgres").await, taken("moved").await, taken("elsewhere").await];
    assert_eq!(all().await, [true, false, false]);
    change_host(&cluster, "moved");
    index.lookup.changed();
    assert_eq!(all().await, [true, true, false], "it has not been reconciled since");
    again(&cluster, &cluster.context(&client)).await;
    assert_eq!(all().await, [true, true, false], "it waits");

    for n in 0..5 {
        remove(&cluster, &PIPELINE.replace("/users", &format!("/other-{n}")));
    }
    for what in ["it has a slot", "its schema Job runs"] {
        again(&cluster, &cluster.context(&client)).await;
        assert_eq!(all().await, [true, true, false], "{what}");
    }
    let job = cluster.paths(JOBS).into_iter().find(|job| job.contains("/users-")).unwrap();
    cluster.finish_job(&job, "users");
    again(&cluster, &cluster.context(&client)).await;
    assert!(rollout(&cluster).is_object());
    assert_eq!(all().await, [true, true, false], "its workers are replaced");
    cluster.roll_out();
    again(&cluster, &cluster.context(&client)).await;
    assert_eq!(rollout(&cluster), Value::Null);
    assert_eq!(all().await, [false, true, false], "it has left");
}

/// The index of an operator that is not restarted.
struct Index {
    resources: ResourceIndex,
    connections: RefCell<CacheWriter<UserPipelineConnection>>,
    config_maps: RefCell<CacheWriter<ConfigMap>>,
    lookup: ConnectionLookup,
}

impl Default for Index {
    fn default() -> Self {
        let (connections, config_maps) = (CacheWriter::default(), CacheWriter::default());
        Self {
            lookup: ConnectionLookup::new(connections.cache(), config_maps.cache()),
            resources: ResourceIndex::default(),
            connections: RefCell::new(connections),
            config_maps: RefCell::new(config_maps),
        }
    }
}

impl Index {
    fn follow(&self, cluster: &Cluster) {
        self.connections
            .borrow_mut()
            .fill_with([cluster.get(STORES), cluster.get(SOURCE)].into_iter());
        let config_maps = cluster.paths(CONFIG_MAPS).into_iter().map(|path| cluster.get(&path));
        self.config_maps.borrow_mut().fill_with(config_maps);
    }

    /// Whether a newer pipeline with the same table at this host would have a conflict with the pipeline of the cluster.
    fn has_conflict(&self, cluster: &Cluster, host: &str) -> bool {
        self.follow(cluster);
        let newer = other(&format!("at-{host}"), "2025-06-01T00:00:00Z", host);
        let older: CachedPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
        self.resources.conflict(&newer, &[Arc::new(older)], &self.lookup).is_some()
    }
}

/// A pipeline with the table `demo_users` at this host.
fn other(name: &str, created: &str, host: &str) -> UserPipeline {
    let mut other = example::pipeline();
    other.metadata.name = Some(name.to_owned());
    other.metadata.uid = Some(name.to_owned());
    other.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
    other.spec.sinks.postgres = Some(serde_json::from_value(json!({"table": "demo_users"})).unwrap());
    host.clone_into(&mut other.spec.postgres.as_mut().unwrap().host);
    other
}

#[tokio::test]
async fn given_a_conflict_then_a_changed_connection_ends_it_although_the_old_version_is_recorded() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let index = Index::default();
    let older: CachedPipeline = serde_json::from_value(json!(other("older", "2024-01-01T00:00:00Z", "postgres"))).unwrap();
    let older = Arc::new(older);
    let conflict = || {
        index.follow(&cluster);
        let cached: CachedPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
        let pipeline = cached.read().unwrap();
        index
            .resources
            .conflict(&pipeline, &[older.clone(), Arc::new(cached)], &index.lookup)
    };
    assert_eq!(conflict().unwrap().what, "table demo_users in PostgreSQL");
    change_host(&cluster, "moved");
    index.lookup.changed();
    assert_eq!(conflict(), None);
}
