//! A pipeline that is deleted and created again with the same name.

use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, UserPipelineStatus};

use super::cluster::*;

#[tokio::test]
async fn the_status_of_a_deleted_pipeline_is_not_written_to_the_next_one_of_its_name() {
    // Given a reconcile that is about to write the status, while the pipeline is deleted and created again
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let old: UserPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["uid"] = json!("another");
        pipeline["status"] = Value::Null;
    });

    // When it writes, Then the new one has no status
    let status = UserPipelineStatus::default();
    cluster.context(&client).status.write(&old, &status).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["status"], Value::Null);
}
