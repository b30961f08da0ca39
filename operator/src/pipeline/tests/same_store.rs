//! A store that two pipelines reach at different addresses.

use serde_json::{Value, json};
use userpipeline_api::StoreAddress;

use super::cluster::{Cluster, JOBS, PIPELINE, PODS};

const OTHER: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/other/userpipelines/owner";

/// Kafka at this address, as a schema Job identified it.
fn kafka(servers: &str) -> Value {
    json!([StoreAddress::kafka(servers).identified(["k1".to_owned()])])
}

/// A pipeline of another namespace, which uses the consumer group `payments` at another address.
fn put_owner(cluster: &Cluster) {
    let mut owner = cluster.get(PIPELINE);
    owner["metadata"] =
        json!({"name": "owner", "namespace": "other", "uid": "owner", "generation": 1, "creationTimestamp": "2024-01-01T00:00:00Z"});
    owner["spec"]["kafka"] = json!({"bootstrapServers": "10.0.0.7:9092", "groupId": "payments"});
    owner["status"] = json!({"storeIdentities": kafka("10.0.0.7:9092")});
    cluster.put(OTHER, owner);
}

#[tokio::test]
async fn given_a_name_of_others_then_the_first_schema_job_refuses_it_and_the_pipeline_conflicts() {
    let (cluster, client) = Cluster::start().await;
    put_owner(&cluster);
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["kafka"]["groupId"] = json!("payments"));

    // The Job learns where the name is taken.
    cluster.reconcile(&client).await.unwrap();
    let job = cluster.get(&cluster.paths(JOBS)[0]);
    let arguments = job["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    let taken = r#"--taken-names=[{\"store\":\"k1\",\"what\":\"consumer group payments\"}]"#;
    assert!(arguments.contains(taken), "{arguments}");
    assert!(!arguments.contains("owner") && !arguments.contains("other"), "{arguments}");

    // It identifies its stores, and fails.
    cluster.finish_schema_job();
    let path = cluster.paths(JOBS)[0].clone();
    cluster.change(&path, |job| {
        let failed = json!({"type": "Failed", "status": "True", "lastTransitionTime": job["status"]["completionTime"]});
        job["status"] = json!({"conditions": [failed]});
    });
    cluster.change(&format!("{PODS}users-schema"), |pod| {
        let terminated = &mut pod["status"]["containerStatuses"][0]["state"]["terminated"];
        let report = json!({"reason": "Conflict", "message": "taken", "storeIdentities": kafka("kafka:9092")});
        terminated["exitCode"] = json!(2);
        terminated["message"] = json!(report.to_string());
        pod["status"]["phase"] = json!("Failed");
    });
    cluster.reconcile(&client).await.unwrap();
    let status = cluster.get(PIPELINE)["status"].clone();
    assert_eq!(status["storeIdentities"], kafka("kafka:9092"), "{status:#}");
    assert_eq!(cluster.condition("SchemaReady"), ("False".into(), "Conflict".into()));

    // From then on, the index knows.
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready"), ("False".into(), "Conflict".into()));
    let conditions = cluster.get(PIPELINE)["status"]["conditions"].to_string();
    assert!(conditions.contains("a UserPipeline of another namespace"), "{conditions}");
    assert!(!conditions.contains("owner") && !conditions.contains("other/"), "{conditions}");
}
