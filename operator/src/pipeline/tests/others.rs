//! The operator among webhooks and other writers of its children.

use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::*;
use crate::pipeline::{Context, cache::CachedPipeline, reconcile::reconcile};

/// Raises the memory limit of workers, and adds an argument. An added toleration is no conflict.
fn webhook(deployment: &mut Value) {
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["containers"][0]["resources"]["limits"]["memory"] = json!("9Gi");
    pod["containers"][0]["args"].as_array_mut().unwrap().push(json!("--proxy"));
    pod["tolerations"] = json!([{"key": "spot", "operator": "Exists"}]);
}

/// Reconciles with an operator that stays.
async fn again(cluster: &Cluster, context: &Arc<Context>) -> Vec<String> {
    let resource: CachedPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
    reconcile(Arc::new(resource), context.clone()).await.unwrap();
    short(cluster.writes())
}

fn message(cluster: &Cluster, type_: &str) -> String {
    let conditions = cluster.get(PIPELINE)["status"]["conditions"].clone();
    let found = conditions.as_array().unwrap().iter().find(|c| c["type"] == type_).unwrap().clone();
    found["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn given_a_webhook_that_changes_a_child_then_it_is_written_once_and_reported() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    *cluster.webhook.lock().unwrap() = Some((DEPLOYMENT, webhook));
    cluster.change(DEPLOYMENT, webhook);

    let context = cluster.context(&client);
    assert_eq!(
        again(&cluster, &context).await,
        ["PATCH deployments/users-worker", "PATCH users/status"]
    );
    assert_eq!(cluster.condition("Modified"), ("True".into(), "Overridden".into()));
    let overridden = message(&cluster, "Modified");
    for field in [
        "containers[worker].resources.limits.memory",
        "spec.template.spec.containers[worker].args",
    ] {
        assert!(overridden.contains(field), "{overridden}");
    }
    assert_eq!(cluster.condition("Ready").0, "True");
    for _ in 0..3 {
        assert_eq!(again(&cluster, &context).await, [""; 0]);
    }

    // A change of the spec is written, as ever.
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["workers"]["replicas"] = json!(4);
        pipeline["metadata"]["generation"] = json!(2);
    });
    let writes = again(&cluster, &context).await;
    assert!(writes.contains(&"PATCH deployments/users-worker".to_owned()), "{writes:?}");
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["replicas"], 4);

    // Without the webhook, a restarted operator corrects the child.
    *cluster.webhook.lock().unwrap() = None;
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Modified"), ("False".into(), "NotModified".into()));
    assert_ne!(
        cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"],
        "9Gi"
    );
}

#[tokio::test]
async fn given_a_field_of_another_manager_then_it_is_reported_once_and_left() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(DEPLOYMENT, |deployment| {
        let env = json!({"f:env": {".": {}, r#"k:{"name":"HTTP_PROXY"}"#: {".": {}, "f:name": {}, "f:value": {}}}});
        let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {r#"k:{"name":"worker"}"#: env}}}}});
        deployment["metadata"]["managedFields"] = json!([{"manager": "kubectl-set", "operation": "Update", "fieldsV1": fields}]);
    });
    cluster.reconcile(&client).await.unwrap();
    let writes = cluster.writes();
    assert_eq!(short(writes.clone()), ["PATCH users/status"]);
    assert_eq!(writes.iter().filter(|write| write.contains("/events")).count(), 1);
    assert_eq!(cluster.condition("Modified"), ("True".into(), "ForeignFields".into()));
    let expected = "Deployment users-worker: spec.template.spec.containers[worker].env[HTTP_PROXY] (kubectl-set)";
    assert!(message(&cluster, "Modified").contains(expected));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
}
