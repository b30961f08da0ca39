//! Reconciles against a fake apiserver, judged by the requests that it receives.

pub(crate) mod cluster;
mod connections;
mod created_objects;
mod default_tls;
mod deleted_namespace;
mod evolution;
mod fields;
mod forged;
mod identity;
mod kafka_users;
mod moved;
mod others;
mod ownership;
mod plan;
mod recreated;
mod same_store;
mod shared_connection;
mod slots;
mod topics;
mod upgrade;

use cluster::{CONFIG_MAPS, CRON_JOB, Cluster, DEPLOYMENT, JOBS, PIPELINE, PODS, short};
use serde_json::json;

use std::sync::Arc;

use super::{cache::CachedPipeline, model::labels, reconcile::reconcile};

#[tokio::test]
async fn given_a_new_pipeline_then_the_schema_goes_first_and_the_rest_follows_its_success() {
    let (cluster, client) = Cluster::start().await;

    cluster.reconcile(&client).await.unwrap();
    let writes = short(cluster.writes());
    assert_eq!(writes.len(), 4, "{writes:?}");
    assert!(
        writes[0].contains("serviceaccounts/users-pods")
            && writes[1].contains("configmaps/users-schema-")
            && writes[2].contains("jobs/users-schema-"),
        "{writes:?}"
    );
    assert_eq!(writes[3], "PATCH users/status");
    assert_eq!(cluster.condition("Ready"), ("False".into(), "Applying".into()));
    assert!(cluster.paths(CRON_JOB).is_empty() && cluster.paths(DEPLOYMENT).is_empty());

    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("SchemaReady").0, "True");
    assert_eq!(cluster.condition("Ready"), ("False".into(), "RollingOut".into()));
    assert_eq!(cluster.paths(JOBS).len(), 1, "it is deleted when the record is read back");

    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    assert!(cluster.paths(JOBS).is_empty());
    assert_eq!(cluster.condition("Ready"), ("True".into(), "Ready".into()));

    cluster.reconcile(&client).await.unwrap();
    assert_eq!(
        cluster.paths(CONFIG_MAPS).len(),
        2,
        "the ConfigMap of the schema Job is deleted, too: {:?}",
        cluster.paths(CONFIG_MAPS)
    );
}

#[tokio::test]
async fn given_nothing_has_changed_then_neither_the_same_nor_a_restarted_operator_writes_anything() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;

    let context = cluster.context(&client);
    for _ in 0..3 {
        let resource: CachedPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
        reconcile(Arc::new(resource), context.clone()).await.unwrap();
    }
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn given_outdated_caches_then_nothing_is_written_twice() {
    let (cluster, client) = Cluster::start().await;
    let context = cluster.context(&client);
    let stale: CachedPipeline = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
    let stale = Arc::new(stale);
    reconcile(stale.clone(), context.clone()).await.unwrap();
    assert_eq!(short(cluster.writes()).len(), 4);
    for _ in 0..3 {
        reconcile(stale.clone(), context.clone()).await.unwrap();
    }
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn given_a_changed_child_then_it_is_corrected() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(DEPLOYMENT, |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
    });
    cluster.reconcile(&client).await.unwrap();
    assert!(short(cluster.writes()).contains(&"PATCH deployments/users-worker".to_owned()));
    assert_eq!(
        cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["image"],
        "userpipeline/stream-worker:0.1.0"
    );
}

#[tokio::test]
async fn given_a_changed_cron_then_only_the_schedule_is_written() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["schedule"]["cron"] = json!("@daily");
        pipeline["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    let writes = short(cluster.writes());
    assert!(writes[0].starts_with("PATCH configmaps/users-ingest-"), "{writes:?}");
    assert_eq!(writes[1..], ["PATCH cronjobs/users-ingest", "PATCH users/status"]);
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_a_changed_schema_then_pods_keep_their_configs_until_it_is_applied() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let before = cluster.get(DEPLOYMENT)["spec"].clone();
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["deadLetter"] = json!({"topic": "other.dlq"});
        pipeline["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(DEPLOYMENT)["spec"], before);
    assert_eq!(cluster.condition("Ready").0, "False");
    assert_eq!(cluster.paths(JOBS).len(), 1);

    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    assert_ne!(cluster.get(DEPLOYMENT)["spec"], before);

    // The ConfigMap of the old workers stays while one of them exists.
    let old = before["template"]["spec"]["volumes"][0]["configMap"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let labels = labels::labels("users", labels::Component::Worker);
    let pod = format!("{PODS}old");
    cluster.put(&pod, json!({"metadata": {"name": "old", "namespace": "demo", "labels": labels}, "spec": before["template"]["spec"], "status": {"phase": "Running"}}));
    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.paths(&format!("{CONFIG_MAPS}{old}")).len(), 1);
    cluster.objects.lock().unwrap().remove(&pod);
    cluster.reconcile(&client).await.unwrap();
    assert!(cluster.paths(&format!("{CONFIG_MAPS}{old}")).is_empty());
}

#[tokio::test]
async fn given_an_invalid_spec_then_only_the_status_is_written_and_a_corrected_one_is_ready_again() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["schedule"]["cron"] = json!("61 * * * *");
        pipeline["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready"), ("False".into(), "InvalidSpec".into()));
    assert_eq!(cluster.condition("Stalled").0, "True");

    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["schedule"]["cron"] = json!("0 0 1 1 *");
        pipeline["metadata"]["generation"] = json!(3);
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_one_child_cannot_be_applied_then_the_others_are_and_the_status_reports_it() {
    let (cluster, client) = Cluster::start().await;
    cluster.reconcile(&client).await.unwrap();
    cluster.finish_schema_job();
    *cluster.refused.lock().unwrap() = Some("/cronjobs/");
    let error = cluster.reconcile(&client).await.unwrap_err();
    assert!(
        error.to_string().contains("cannot apply CronJob users-ingest: quota exceeded"),
        "{error}"
    );
    assert_eq!(cluster.paths(DEPLOYMENT).len(), 1);
    assert_eq!(cluster.condition("ScheduleReady"), ("False".into(), "ApplyFailed".into()));
    *cluster.refused.lock().unwrap() = None;
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("ScheduleReady").0, "True");
}

#[tokio::test]
async fn given_a_foreign_object_of_the_same_name_then_it_is_not_changed() {
    let (cluster, client) = Cluster::start().await;
    let foreign = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "users-worker", "namespace": "demo", "uid": "foreign"}, "spec": {"selector": {}, "template": {}}});
    cluster.put(DEPLOYMENT, foreign);
    cluster.reconcile(&client).await.unwrap();
    cluster.finish_schema_job();
    assert!(cluster.reconcile(&client).await.is_err());
    assert_eq!(cluster.condition("WorkersReady"), ("False".into(), "NotOurs".into()));
    assert_eq!(cluster.get(DEPLOYMENT)["metadata"]["uid"], "foreign");
    assert_eq!(cluster.paths(CRON_JOB).len(), 1);
}

#[tokio::test]
async fn given_a_pipeline_is_suspended_then_it_is_drained_ready_and_silent() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["suspend"] = json!(true);
        pipeline["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Suspended"), ("False".into(), "Draining".into()));
    assert_eq!(cluster.get(DEPLOYMENT)["spec"]["replicas"], 0);
    assert_eq!(cluster.get(CRON_JOB)["spec"]["suspend"], true);
    cluster.roll_out();
    cluster.reconcile(&client).await.unwrap();
    assert!(
        cluster.paths(JOBS)[0].starts_with(&format!("{JOBS}users-drain-")),
        "{:?}",
        cluster.paths(JOBS)
    );
    assert_eq!(cluster.condition("Suspended"), ("False".into(), "Draining".into()));
    cluster.finish_schema_job();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Suspended"), ("True".into(), "Drained".into()));
    assert_eq!(cluster.condition("Ready"), ("True".into(), "Suspended".into()));
    assert_eq!(cluster.paths(JOBS).len(), 1, "it is deleted when the record is read back");
    cluster.reconcile(&client).await.unwrap();
    assert!(cluster.paths(JOBS).is_empty());
    cluster.writes();
    assert_eq!((cluster.reconcile(&client).await.is_ok(), cluster.writes()), (true, vec![]));
}

#[tokio::test]
async fn given_an_unreadable_resource_then_its_status_reports_it_once() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["kafka"] = json!("nonsense");
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready"), ("False".into(), "Unreadable".into()));
    assert_eq!(cluster.get(PIPELINE)["status"]["topic"], "demo.users");
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn given_the_pipeline_is_being_deleted_then_nothing_is_written() {
    let (cluster, client) = Cluster::start().await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn given_catch_up_then_the_operator_starts_each_run_once_and_suspends_the_cron_job() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["schedule"]["cron"] = json!("*/5 * * * *");
        pipeline["spec"]["schedule"]["catchUp"] = json!({"enabled": true, "maxActiveRuns": 2});
        pipeline["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(CRON_JOB)["spec"]["suspend"], true);
    assert_eq!(
        cluster.paths(JOBS),
        [format!("{JOBS}users-ingest-28928165"), format!("{JOBS}users-ingest-28928170")]
    );
    let status = cluster.get(PIPELINE)["status"].clone();
    assert_eq!(status["schedule"]["backlog"], 1000, "the pipeline was created long ago");
    assert_eq!(
        cluster.condition("DataFresh"),
        ("Unknown".into(), "NotDueYet".into()),
        "no run was due before the change"
    );

    // One run is not in the cache yet, and later one is a foreign Job.
    cluster.writes();
    let context = cluster.context(&client);
    let resource: Arc<CachedPipeline> = Arc::new(serde_json::from_value(cluster.get(PIPELINE)).unwrap());
    let first = format!("{JOBS}users-ingest-28928165");
    let job = cluster.objects.lock().unwrap().remove(&first).unwrap();
    let stale = cluster.context(&client);
    cluster.put(&first, job);
    reconcile(resource.clone(), stale).await.unwrap();
    reconcile(resource.clone(), context).await.unwrap();
    assert_eq!(cluster.paths(JOBS).len(), 2);
    cluster.change(&first, |job| {
        job["metadata"]["labels"] = json!({"mine": "yes"});
    });
    let error = cluster.reconcile(&client).await.unwrap_err();
    assert!(error.to_string().contains("Job users-ingest-28928165 exists"), "{error}");
    assert_eq!(cluster.condition("ScheduleReady"), ("False".into(), "NotOurs".into()));
}

#[tokio::test]
async fn given_a_requested_run_then_its_job_is_created_once() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["runNow"] = json!({"nonce": "first"});
        pipeline["metadata"]["generation"] = json!(2);
    });
    cluster.reconcile(&client).await.unwrap();
    let jobs = cluster.paths(JOBS);
    assert_eq!(jobs.len(), 1);
    assert_eq!(cluster.get(&jobs[0])["metadata"]["labels"]["userpipeline.dev/nonce"], "first");
    cluster.reconcile(&client).await.unwrap();
    cluster.writes();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
    assert_eq!(cluster.get(PIPELINE)["status"]["runNow"]["nonce"], "first");
}

#[tokio::test]
async fn given_an_older_pipeline_with_the_same_table_then_the_newer_one_changes_nothing_until_it_is_gone() {
    let (cluster, client) = Cluster::start().await;
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["landing"]["table"] = json!("shared");
    });
    let older = PIPELINE.replace("/users", "/older");
    let mut other = cluster.get(PIPELINE);
    other["metadata"]["name"] = json!("older");
    other["metadata"]["uid"] = json!("older");
    other["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    cluster.put(&older, other);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready"), ("False".into(), "Conflict".into()));
    let ready = cluster.get(PIPELINE)["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        ready.contains("table shared in PostgreSQL is already used by the older UserPipeline demo/older"),
        "{ready}"
    );

    cluster.objects.lock().unwrap().remove(&older);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready"), ("False".into(), "Applying".into()));
}
