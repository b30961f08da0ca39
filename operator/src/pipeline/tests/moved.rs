//! What is recorded of pipelines that move to connections.

use super::{
    cluster::*,
    connections::{put_connections, use_connections},
};

#[tokio::test]
async fn given_a_pipeline_whose_stores_were_never_recorded_then_its_move_to_connections_runs_a_schema_job_that_records_them() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["status"]["schema"]
            .as_object_mut()
            .unwrap()
            .remove("kafkaCluster")
            .unwrap();
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.paths(JOBS), [""; 0], "with inline addresses");
    put_connections(&cluster, &use_connections(&cluster));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.paths(JOBS).len(), 1);
    cluster.finish_schema_job();
    for _ in 0..2 {
        cluster.reconcile(&client).await.unwrap();
    }
    assert_eq!(cluster.paths(JOBS), [""; 0]);
    assert_eq!(cluster.get(PIPELINE)["status"]["schema"]["kafkaCluster"], "k");
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_blocks_that_a_pipeline_does_not_use_then_they_are_not_stored() {
    let (cluster, client) = Cluster::start().await;
    let connections = use_connections(&cluster);
    put_connections(&cluster, &connections);
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["sinks"].as_object_mut().unwrap().remove("cassandra").unwrap();
    });
    cluster.ready(&client).await;
    let stored = cluster.paths(&format!("{CONFIG_MAPS}users-connections-")).pop().unwrap();
    let text = cluster.get(&stored)["data"].to_string();
    assert!(text.contains("postgres-credentials"), "{text}");
    assert!(!text.contains("cassandra"), "{text}");
}
