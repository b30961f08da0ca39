//! Reconciliations against an apiserver that is just large enough, told by the requests it gets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Json, Response},
};
use kube::runtime::{reflector::store::Writer, watcher::Event};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

const PIPELINE: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/demo/userpipelines/users";
const JOBS: &str = "/apis/batch/v1/namespaces/demo/jobs/";
const CRON_JOB: &str = "/apis/batch/v1/namespaces/demo/cronjobs/users-ingest";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/demo/deployments/users-worker";
const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps/";
const PODS: &str = "/api/v1/namespaces/demo/pods/";

#[derive(Default)]
struct Cluster {
    objects: Mutex<BTreeMap<String, Value>>,
    writes: Mutex<Vec<String>>,
    refused: Mutex<Option<&'static str>>,
    counter: Mutex<u64>,
}

impl Cluster {
    async fn start() -> (Arc<Self>, Client) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let cluster = Arc::new(Self::default());
        cluster.put(PIPELINE, serde_json::to_value(example::pipeline()).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = Router::new().fallback(answer).with_state(cluster.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (cluster, Client::try_from(kube::Config::new(uri)).unwrap())
    }

    fn next(&self) -> u64 {
        let mut counter = self.counter.lock().unwrap();
        *counter += 1;
        *counter + 1000
    }

    fn put(&self, path: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!(self.next().to_string());
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    fn get(&self, path: &str) -> Value {
        self.objects
            .lock()
            .unwrap()
            .get(path)
            .cloned()
            .unwrap_or_else(|| panic!("{path} is missing"))
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path);
        change(&mut object);
        self.put(path, object);
    }

    fn paths(&self, start: &str) -> Vec<String> {
        self.objects
            .lock()
            .unwrap()
            .keys()
            .filter(|path| path.starts_with(start))
            .cloned()
            .collect()
    }

    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let status = self.get(PIPELINE)["status"].clone();
        let found = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["type"] == type_)
            .unwrap()
            .clone();
        (
            found["status"].as_str().unwrap().to_owned(),
            found["reason"].as_str().unwrap().to_owned(),
        )
    }

    fn fill<K>(&self, mut writer: Writer<K>, plural: &str)
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
    {
        writer.apply_watcher_event(&Event::Init);
        for (path, object) in self.objects.lock().unwrap().iter() {
            if path.contains(&format!("/{plural}/")) && object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == MANAGER {
                writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object.clone()).unwrap()));
            }
        }
        writer.apply_watcher_event(&Event::InitDone);
    }

    /// A context that has just started and whose caches have seen all there is.
    fn context(&self, client: &Client) -> Arc<Context> {
        let writers = Writers::default();
        let caches = writers.caches();
        self.fill(writers.config_maps, "configmaps");
        self.fill(writers.accounts, "serviceaccounts");
        self.fill(writers.jobs, "jobs");
        self.fill(writers.cron_jobs, "cronjobs");
        self.fill(writers.deployments, "deployments");
        self.fill(writers.budgets, "poddisruptionbudgets");
        self.fill(writers.pods, "pods");
        let images = Images {
            registry: "userpipeline".into(),
            tag: "0.1.0".into(),
            pull_policy: "IfNotPresent".into(),
        };
        Arc::new(Context::new(client.clone(), caches, Metrics::new(), images, "test".into()).unwrap())
    }

    async fn reconcile(&self, client: &Client) -> Result<Action, ReconcileError> {
        let resource: Guarded = serde_json::from_value(self.get(PIPELINE)).unwrap();
        reconcile(Arc::new(resource), self.context(client)).await
    }

    /// The schema Job that there is ends well.
    fn finish_schema_job(&self) {
        let path = self.paths(JOBS).pop().expect("a schema Job");
        let uid = self.get(&path)["metadata"]["uid"].clone();
        self.change(&path, |job| {
            job["status"] = json!({"completionTime": time(self.next()), "conditions": [{"type": "Complete", "status": "True"}]});
        });
        let mut labels = serde_json::to_value(build::labels::labels("users", build::labels::Component::Schema)).unwrap();
        labels["batch.kubernetes.io/controller-uid"] = uid;
        let message = r#"{"reason":"Applied","message":"","topicReady":true,"partitions":3,"schemaId":7}"#;
        let state = json!({"terminated": {"exitCode": 0, "finishedAt": time(self.next()), "message": message}});
        let status = json!({"phase": "Succeeded", "containerStatuses": [{"name": "schema", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
        self.put(
            &format!("{PODS}schema"),
            json!({"metadata": {"name": "schema", "namespace": "demo", "labels": labels}, "status": status}),
        );
    }

    /// The Deployment's controller has done its work.
    fn roll_out(&self) {
        self.change(DEPLOYMENT, |deployment| {
            let (generation, n) = (deployment["metadata"]["generation"].clone(), deployment["spec"]["replicas"].clone());
            deployment["status"] =
                json!({"observedGeneration": generation, "replicas": n, "updatedReplicas": n, "availableReplicas": n, "readyReplicas": n});
        });
    }

    /// A pipeline that is Ready, and nothing left to do.
    async fn ready(&self, client: &Client) {
        self.reconcile(client).await.unwrap();
        self.finish_schema_job();
        self.reconcile(client).await.unwrap();
        self.roll_out();
        self.reconcile(client).await.unwrap();
        self.reconcile(client).await.unwrap();
        assert_eq!(self.condition("Ready").0, "True", "{:#}", self.get(PIPELINE)["status"]);
        self.writes();
    }

    fn refuse(status: StatusCode, reason: &str, message: &str) -> Response {
        (status, Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": message}))).into_response()
    }

    fn apply(&self, path: &str, body: Value) -> Response {
        let old = self.objects.lock().unwrap().get(path.trim_end_matches("/status")).cloned();
        if let Some(path) = path.strip_suffix("/status") {
            let Some(mut object) = old else {
                return Self::refuse(StatusCode::NOT_FOUND, "NotFound", "not found");
            };
            if object["metadata"]["uid"] != body["metadata"]["uid"] {
                return Self::refuse(StatusCode::CONFLICT, "Conflict", "uid");
            }
            object["status"] = body["status"].clone();
            self.put(path, object);
            return Json(self.get(path)).into_response();
        }
        let mut object = body;
        let fresh = self.next();
        let old =
            old.unwrap_or_else(|| json!({"metadata": {"uid": format!("uid-{fresh}"), "creationTimestamp": time(fresh), "generation": 0}}));
        for key in ["uid", "creationTimestamp"] {
            object["metadata"][key] = old["metadata"][key].clone();
        }
        let changed = i64::from(object["spec"] != old["spec"]);
        object["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap() + changed);
        if let Some(status) = old.get("status") {
            object["status"] = status.clone();
        }
        self.put(path, object);
        Json(self.get(path)).into_response()
    }
}

/// The clock of the cluster: each change takes a second, long ago.
fn time(counter: u64) -> String {
    Timestamp::from_second(1_600_000_000 + i64::try_from(counter).unwrap())
        .unwrap()
        .to_string()
}

async fn answer(State(cluster): State<Arc<Cluster>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if method != Method::GET {
        cluster.writes.lock().unwrap().push(format!("{method} {path}"));
    }
    if method != Method::GET && cluster.refused.lock().unwrap().is_some_and(|refused| path.contains(refused)) {
        return Cluster::refuse(StatusCode::FORBIDDEN, "Forbidden", "quota exceeded");
    }
    if method == Method::GET {
        return match cluster.objects.lock().unwrap().get(&path) {
            Some(object) => Json(object).into_response(),
            None => Cluster::refuse(StatusCode::NOT_FOUND, "NotFound", "not found"),
        };
    }
    if method == Method::PATCH {
        return cluster.apply(&path, body);
    }
    if method == Method::DELETE {
        let Some(object) = cluster.objects.lock().unwrap().get(&path).cloned() else {
            return Cluster::refuse(StatusCode::NOT_FOUND, "NotFound", "not found");
        };
        for key in ["uid", "resourceVersion"] {
            if body["preconditions"][key] != object["metadata"][key] {
                return Cluster::refuse(StatusCode::CONFLICT, "Conflict", "precondition");
            }
        }
        cluster.objects.lock().unwrap().remove(&path);
        return Json(object).into_response();
    }
    (StatusCode::CREATED, Json(body)).into_response()
}

/// Writes without Events, by their last two parts.
fn short(writes: Vec<String>) -> Vec<String> {
    let short = writes.into_iter().filter(|write| !write.contains("/events")).map(|write| {
        let (verb, path) = write.split_once(' ').unwrap();
        let parts: Vec<&str> = path.rsplit('/').take(2).collect();
        format!("{verb} {}/{}", parts[1], parts[0])
    });
    short.collect()
}

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
        "the schema Job's file went with it: {:?}",
        cluster.paths(CONFIG_MAPS)
    );
}

#[tokio::test]
async fn given_nothing_has_changed_then_neither_the_same_nor_a_restarted_operator_writes_anything() {
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;

    let context = cluster.context(&client);
    for _ in 0..3 {
        let resource: Guarded = serde_json::from_value(cluster.get(PIPELINE)).unwrap();
        reconcile(Arc::new(resource), context.clone()).await.unwrap();
    }
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn given_somebody_has_changed_a_child_then_it_is_put_right() {
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
    assert_eq!(short(cluster.writes()), ["PATCH cronjobs/users-ingest", "PATCH users/status"]);
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_a_changed_schema_then_pods_keep_what_they_have_until_it_is_applied() {
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

    // The file of the old workers stays as long as one of them is there.
    let old = before["template"]["spec"]["volumes"][0]["configMap"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let labels = build::labels::labels("users", build::labels::Component::Worker);
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
        pipeline["spec"]["schedule"]["cron"] = json!("*/5 * * * *");
        pipeline["metadata"]["generation"] = json!(3);
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(short(cluster.writes()), ["PATCH users/status"]);
    assert_eq!(cluster.condition("Ready").0, "True");
}

#[tokio::test]
async fn given_one_child_cannot_be_applied_then_the_others_are_and_the_status_says_so() {
    let (cluster, client) = Cluster::start().await;
    cluster.reconcile(&client).await.unwrap();
    cluster.finish_schema_job();
    *cluster.refused.lock().unwrap() = Some("/cronjobs/");
    let error = cluster.reconcile(&client).await.unwrap_err();
    assert!(
        error.to_string().contains("CronJob users-ingest cannot be applied: quota exceeded"),
        "{error}"
    );
    assert_eq!(cluster.paths(DEPLOYMENT).len(), 1);
    assert_eq!(cluster.condition("ScheduleReady"), ("False".into(), "ApplyFailed".into()));
    *cluster.refused.lock().unwrap() = None;
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("ScheduleReady").0, "True");
}

#[tokio::test]
async fn given_an_object_of_somebody_else_then_it_is_left_alone() {
    let (cluster, client) = Cluster::start().await;
    let theirs = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "users-worker", "namespace": "demo", "uid": "theirs"}, "spec": {"selector": {}, "template": {}}});
    cluster.put(DEPLOYMENT, theirs);
    cluster.reconcile(&client).await.unwrap();
    cluster.finish_schema_job();
    assert!(cluster.reconcile(&client).await.is_err());
    assert_eq!(cluster.condition("WorkersReady"), ("False".into(), "NotOurs".into()));
    assert_eq!(cluster.get(DEPLOYMENT)["metadata"]["uid"], "theirs");
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
    assert_eq!(cluster.condition("Suspended").0, "True");
    assert_eq!(cluster.condition("Ready"), ("True".into(), "Suspended".into()));
    cluster.writes();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn given_a_resource_that_does_not_read_then_its_status_says_so_once() {
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
