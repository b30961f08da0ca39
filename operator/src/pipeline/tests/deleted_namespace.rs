//! A pipeline whose namespace is deleted while its data would have to be deleted too.

use serde_json::json;

use super::{cluster::*, connections::remove, forged::ready_with_data};
use crate::pipeline::model::FINALIZER;

#[tokio::test]
async fn given_a_deleted_namespace_without_connections_and_configs_then_the_pipeline_is_released() {
    for is_terminating in [false, true] {
        let (cluster, client) = Cluster::start().await;
        ready_with_data(&cluster, &client).await;
        // The namespace controller has deleted everything but the pipeline.
        for path in cluster.paths("/") {
            if path != PIPELINE {
                remove(&cluster, &path);
            }
        }
        *cluster.terminating.lock().unwrap() = is_terminating;
        cluster.change(PIPELINE, |pipeline| {
            pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
        });
        cluster.reconcile(&client).await.unwrap();
        let finalizers = &cluster.get(PIPELINE)["metadata"]["finalizers"];
        if is_terminating {
            assert_eq!(*finalizers, json!([]));
        } else {
            // The connections may come back.
            assert_eq!(*finalizers, json!([FINALIZER]));
            assert_eq!(cluster.condition("Ready"), ("False".into(), "ConnectionMissing".into()));
            assert!(cluster.paths(JOBS).is_empty());
        }
    }
}
