//! A pipeline whose connection changes while five others of the connection have slots.

use serde_json::{Value, json};

use super::{
    cluster::*,
    connections::{again, change_host, ready, rollout},
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
