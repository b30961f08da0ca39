//! A fault in any write of a pipeline whose topics Strimzi manages leads to the same end state.

use super::*;

/// What remains in the end, without what differs between two tries.
fn end_state(cluster: &Cluster) -> Value {
    let objects = cluster.objects.lock().unwrap().clone();
    let paths: Vec<&String> = objects.keys().filter(|path| !path.starts_with(PODS)).collect();
    let topics: Vec<_> = [TOPIC, DEAD_LETTERS].iter().filter_map(|path| objects.get(*path)).collect();
    let topics: Vec<Value> = topics
        .iter()
        .map(|topic| json!([topic["spec"], topic["metadata"]["labels"], topic["metadata"]["annotations"]]))
        .collect();
    let status = objects.get(PIPELINE).map_or(Value::Null, |pipeline| pipeline["status"].clone());
    let mut resources = status["topics"]["resources"].clone();
    for resource in resources.as_array_mut().into_iter().flatten() {
        resource["uid"] = Value::Null;
    }
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    // The apiserver would have removed a pipeline that is released.
    let is_gone = status["deletion"]["doneAt"].is_string();
    let conditions = conditions.iter().filter(|_| !is_gone);
    let conditions: Vec<Value> = conditions.map(|c| json!([c["type"], c["status"], c["reason"]])).collect();
    let finalizers = objects.get(PIPELINE).map(|pipeline| pipeline["metadata"]["finalizers"].clone());
    json!({"paths": paths, "topics": topics, "resources": resources, "conditions": conditions, "finalizers": finalizers})
}

/// Creates a pipeline with these existing topics, maybe deletes it, and returns the end state and the number of writes.
async fn play(existing: &Value, policy: &str, is_deleted: bool, fault: Option<(usize, bool)>) -> (Value, usize) {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |pipeline| {
        pipeline["spec"]["deletionPolicy"] = json!(policy);
        pipeline["spec"]["kafka"]["topic"]["adopt"] = json!(true);
    });
    *cluster.fails_after.lock().unwrap() = Some(fault.unwrap_or((usize::MAX, false)));
    settle(&cluster, &client, existing, "a-b").await;
    if is_deleted {
        cluster.change(PIPELINE, |pipeline| {
            pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
        });
        settle(&cluster, &client, existing, "a-b").await;
    }
    let writes = cluster.fails_after.lock().unwrap().map_or(0, |(left, _)| usize::MAX - left);
    (end_state(&cluster), writes)
}

async fn compare(existing: Value, policy: &str, is_deleted: bool) {
    let (expected, writes) = play(&existing, policy, is_deleted, None).await;
    assert!(writes > 10, "{writes}");
    // A trial takes a while: all are made on request.
    let step = if std::env::var("TOPIC_CRASHES").is_ok() { 1 } else { 7 };
    for write in (0..writes).step_by(step) {
        let takes_effect = write % 2 == 0;
        let (found, _) = play(&existing, policy, is_deleted, Some((write, takes_effect))).await;
        assert_eq!(found, expected, "write {write} failed, took effect: {takes_effect}");
    }
}

#[tokio::test]
async fn adoption_survives_a_fault_in_any_write() {
    let topic = |name: &str| json!({"name": name, "id": "a-b", "partitions": 4, "replicas": 1, "config": {"segment.ms": "5"}});
    compare(json!([topic("demo.users"), topic("demo.users.dlq")]), "Retain", false).await;
}

#[tokio::test]
async fn deletion_with_the_data_survives_a_fault_in_any_write() {
    compare(json!([]), "Delete", true).await;
}
