//! A connection of many pipelines changes. Each round is an operator that was just restarted.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use super::cluster::*;
use crate::pipeline::{cache::CachedPipeline, example, reconcile::reconcile};

const PIPELINES: usize = 12;
const AT_ONCE: usize = 5;
const CONNECTIONS: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/demo/userpipelineconnections/";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments/";

fn name(n: usize) -> String {
    format!("p{n}")
}

fn path(n: usize) -> String {
    PIPELINE.replace("/users", &format!("/{}", name(n)))
}

fn status(cluster: &Cluster, n: usize) -> Value {
    cluster.get(&path(n))["status"].clone()
}

/// Pipelines that use the same connections, all Ready.
async fn ready(cluster: &Cluster, client: &kube::Client) {
    let (mut pipeline, connections) = example::with_connections();
    for (name, spec) in connections {
        let metadata = json!({"name": name, "namespace": "demo", "uid": name, "generation": 1});
        cluster.put(
            &format!("{CONNECTIONS}{name}"),
            json!({"metadata": metadata, "spec": spec.unwrap()}),
        );
    }
    cluster.objects.lock().unwrap().remove(PIPELINE);
    pipeline.spec.schedule.as_mut().unwrap().cron = "0 0 1 1 *".into();
    for n in 0..PIPELINES {
        let metadata = &mut pipeline.metadata;
        (metadata.name, metadata.uid) = (Some(name(n)), Some(name(n)));
        cluster.put(&path(n), serde_json::to_value(&pipeline).unwrap());
    }
    for _ in 0..4 {
        Box::pin(round(cluster, client, true)).await;
    }
    assert!((0..PIPELINES).all(|n| is_ready(cluster, n)), "{:#}", status(cluster, 0));
}

fn is_ready(cluster: &Cluster, n: usize) -> bool {
    let status = status(cluster, n);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Every pipeline is reconciled once. Before that, Jobs may succeed, and workers are replaced.
async fn round(cluster: &Cluster, client: &kube::Client, jobs_succeed: bool) {
    for job in cluster.paths(JOBS).into_iter().filter(|_| jobs_succeed) {
        let pipeline = cluster.get(&job)["metadata"]["labels"]["userpipeline.dev/pipeline"].clone();
        cluster.finish_job(&job, pipeline.as_str().unwrap());
    }
    for deployment in cluster.paths(DEPLOYMENTS) {
        cluster.roll_out_workers(&deployment);
    }
    let context = cluster.context(client);
    for n in 0..PIPELINES {
        let resource: CachedPipeline = serde_json::from_value(cluster.get(&path(n))).unwrap();
        reconcile(Arc::new(resource), context.clone()).await.unwrap();
        let slots = (0..PIPELINES)
            .filter(|n| status(cluster, *n)["connectionRollout"].is_object())
            .count();
        assert!(slots <= AT_ONCE, "{slots} slots");
    }
}

fn change_host(cluster: &Cluster, host: &str, generation: i64) {
    cluster.change(&format!("{CONNECTIONS}stores"), |connection| {
        connection["spec"]["postgres"]["host"] = json!(host);
        connection["metadata"]["generation"] = json!(generation);
    });
}

fn version(cluster: &Cluster, n: usize) -> Value {
    status(cluster, n)["connections"][0]["generation"].clone()
}

#[tokio::test]
async fn given_a_changed_connection_of_many_pipelines_then_five_change_at_a_time_and_all_end_ready() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    change_host(&cluster, "moved", 2);
    let mut rounds = 0;
    while !(0..PIPELINES).all(|n| version(&cluster, n) == 2 && status(&cluster, n)["connectionRollout"].is_null()) {
        let before: HashSet<String> = cluster.paths(JOBS).into_iter().collect();
        round(&cluster, &client, true).await;
        assert!(cluster.paths(JOBS).iter().filter(|job| !before.contains(*job)).count() <= AT_ONCE);
        rounds += 1;
        assert!(rounds < 40, "it does not end");
    }
    assert!((0..PIPELINES).all(|n| is_ready(&cluster, n)));
    assert!(rounds > PIPELINES / AT_ONCE, "{rounds} rounds");
}

#[tokio::test]
async fn given_a_mistake_in_a_connection_then_it_reaches_five_pipelines_and_its_correction_all() {
    let (cluster, client) = Cluster::start().await;
    ready(&cluster, &client).await;
    let workers = |cluster: &Cluster| -> Vec<Value> {
        let paths = cluster.paths(DEPLOYMENTS);
        paths.iter().map(|path| cluster.get(path)["spec"].clone()).collect()
    };
    let before = workers(&cluster);
    change_host(&cluster, "nowhere", 2);
    for _ in 0..10 {
        round(&cluster, &client, false).await;
    }
    let reached = (0..PIPELINES).filter(|n| version(&cluster, *n) == 2).count();
    assert_eq!((reached, cluster.paths(JOBS).len()), (AT_ONCE, AT_ONCE));
    assert_eq!(workers(&cluster), before, "no worker has it");

    change_host(&cluster, "postgres", 3);
    for _ in 0..20 {
        round(&cluster, &client, true).await;
    }
    assert!(
        (0..PIPELINES).all(|n| version(&cluster, n) == 3 && is_ready(&cluster, n)),
        "{:#}",
        status(&cluster, 0)
    );
    assert_eq!(workers(&cluster), before, "it is as it was");
}
