//! Owner references, the finalizer, and deletions in the foreground.

use serde_json::json;

use super::{
    cluster::{CONFIG_MAPS, CRON_JOB, Cluster, DEPLOYMENT, JOBS, PIPELINE},
    short,
};
use crate::pipeline::model::FINALIZER;

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

#[tokio::test]
async fn given_data_to_delete_then_a_finalizer_keeps_the_pipeline_until_a_job_has_deleted_it() {
    let (cluster, client) = Cluster::start().await;
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
    cluster.reconcile(&client).await.unwrap();
    let writes = short(cluster.writes());
    let place = |what: &str| writes.iter().position(|write| write.contains(what)).unwrap();
    assert!(place("userpipelines/users") < place("jobs/users-schema-"), "{writes:?}");
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([FINALIZER]));
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();

    // Writers go first
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    cluster.reconcile(&client).await.unwrap();
    assert!(cluster.paths(CRON_JOB).is_empty() && cluster.paths(DEPLOYMENT).is_empty() && cluster.paths(JOBS).is_empty());
    assert_eq!(cluster.condition("Ready"), ("False".into(), "Deleting".into()));
    cluster.writes();

    // Then a Job deletes the data, and nothing that it needs has an owner
    cluster.reconcile(&client).await.unwrap();
    let job = cluster.paths(JOBS).pop().expect("a deletion Job");
    assert!(job.ends_with("users-deletion-0") && cluster.get(&job)["metadata"].get("ownerReferences").is_none());
    cluster.writes();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0], "it only waits");

    // When the Job succeeds, that is recorded first; then the Job and the finalizer go
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([FINALIZER]));
    *cluster.conflict_once.lock().unwrap() = Some("userpipelines/users");
    cluster.reconcile(&client).await.expect_err("it is retried");
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([FINALIZER]));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([]));
    assert!(cluster.paths(JOBS).is_empty());
}
