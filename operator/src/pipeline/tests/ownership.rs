//! Owner references, and deletions in the foreground.

use serde_json::json;

use super::{
    cluster::{CONFIG_MAPS, CRON_JOB, Cluster, DEPLOYMENT, PIPELINE},
    short,
};

#[tokio::test]
async fn given_children_of_an_earlier_operator_then_they_get_references_that_block_the_deletion_and_no_pod_restarts() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let mut children = cluster.paths(CONFIG_MAPS);
    children.extend([CRON_JOB.to_owned(), DEPLOYMENT.to_owned()]);
    for path in &children {
        cluster.change(path, |child| {
            child["metadata"]["ownerReferences"][0]
                .as_object_mut()
                .unwrap()
                .remove("blockOwnerDeletion");
        });
    }
    let before = cluster.get(DEPLOYMENT);
    cluster.reconcile(&client).await.unwrap();
    let after = cluster.get(DEPLOYMENT);
    assert_eq!(after["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], json!(true));
    assert_eq!(
        (&after["spec"], &after["metadata"]["generation"]),
        (&before["spec"], &before["metadata"]["generation"])
    );
    let writes = short(cluster.writes());
    for path in [CRON_JOB, DEPLOYMENT] {
        let name = path.rsplit_once('/').unwrap().1;
        assert!(writes.iter().any(|write| write.ends_with(name)), "{writes:?}");
    }
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0], "once");
}

#[tokio::test]
async fn given_a_deletion_in_the_foreground_then_what_kubernetes_deletes_is_not_created_again() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
        pipeline["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    });
    cluster.reconcile(&client).await.unwrap();
    for path in [CRON_JOB, DEPLOYMENT] {
        cluster.objects.lock().unwrap().remove(path);
        cluster.reconcile(&client).await.unwrap();
    }
    assert_eq!(cluster.writes(), [""; 0]);
}
