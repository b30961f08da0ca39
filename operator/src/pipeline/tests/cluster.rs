//! A fake apiserver: it stores objects, applies, deletes with preconditions, and records writes.

mod answer;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{Method, StatusCode},
    response::{IntoResponse, Json, Response},
};
use jiff::Timestamp;
use kube::{Client, runtime::controller::Action};
use serde_json::{Value, json};

use crate::{
    identity::MANAGER,
    metrics::Metrics,
    pipeline::{
        Caches, Context, Images, Installation, Writers,
        cache::{CacheWriter, CachedPipeline},
        children::{ChildKind, VisitWriters},
        example,
        model::labels,
        reconcile::reconcile,
        reconcile_error::ReconcileError,
    },
    strimzi::ListedCluster,
};

pub const PIPELINE: &str = "/apis/userpipeline.dev/v1alpha1/namespaces/demo/userpipelines/users";
pub const JOBS: &str = "/apis/batch/v1/namespaces/demo/jobs/";
pub const CRON_JOB: &str = "/apis/batch/v1/namespaces/demo/cronjobs/users-ingest";
pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/demo/deployments/users-worker";
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps/";
pub const KAFKA_TOPICS: &str = "/apis/kafka.strimzi.io/v1/namespaces/kafka/kafkatopics/";
pub const PODS: &str = "/api/v1/namespaces/demo/pods/";

/// Fills the caches with the managed objects of their kinds.
struct Fill<'a>(&'a BTreeMap<String, Value>);

impl VisitWriters for Fill<'_> {
    fn visit<K: ChildKind>(&mut self, mut writer: CacheWriter<K>) {
        let of_kind = format!("/{}/", K::plural(&()));
        let objects = self.0.iter().filter(|(path, _)| path.contains(&of_kind)).map(|(_, object)| object);
        let managed = objects.filter(|object| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == MANAGER);
        writer.fill_with(managed.cloned());
    }
}

/// A path, and what becomes of an object that is applied to it.
type Webhook = (&'static str, fn(&mut Value));

#[derive(Default)]
pub struct Cluster {
    pub objects: Mutex<BTreeMap<String, Value>>,
    writes: Mutex<Vec<String>>,
    pub refused: Mutex<Option<&'static str>>,
    /// The namespace is being deleted, so nothing can be created in it.
    pub terminating: Mutex<bool>,
    /// The next write to a path with this suffix is answered with 409.
    pub conflict_once: Mutex<Option<&'static str>>,
    /// Changes each object that is applied to this path, as a mutating webhook does.
    pub webhook: Mutex<Option<Webhook>>,
    /// After so many writes, one fails once. Whether it takes effect nonetheless.
    pub fails_after: Mutex<Option<(usize, bool)>>,
    /// The Kafka clusters that the chart lists.
    pub strimzi: Mutex<Vec<ListedCluster>>,
    /// Whether Strimzi's resources were listed.
    pub strimzi_is_known: Mutex<bool>,
    counter: Mutex<u64>,
}

impl Cluster {
    pub async fn start() -> (Arc<Self>, Client) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let cluster = Arc::new(Self::default());
        cluster.put(PIPELINE, serde_json::to_value(example::pipeline()).unwrap());
        // The clock is real: no tick may pass during a test, because the status has the time of the next one.
        cluster.change(PIPELINE, |pipeline| pipeline["spec"]["schedule"]["cron"] = json!("0 0 1 1 *"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = Router::new().fallback(answer::answer).with_state(cluster.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (cluster, Client::try_from(kube::Config::new(uri)).unwrap())
    }

    fn next(&self) -> u64 {
        let mut counter = self.counter.lock().unwrap();
        *counter += 1;
        *counter + 1000
    }

    pub fn put(&self, path: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!(self.next().to_string());
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    pub fn get(&self, path: &str) -> Value {
        self.objects
            .lock()
            .unwrap()
            .get(path)
            .cloned()
            .unwrap_or_else(|| panic!("{path} is missing"))
    }

    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path);
        change(&mut object);
        self.put(path, object);
    }

    pub fn paths(&self, start: &str) -> Vec<String> {
        self.objects
            .lock()
            .unwrap()
            .keys()
            .filter(|path| path.starts_with(start))
            .cloned()
            .collect()
    }

    pub fn writes(&self) -> Vec<String> {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }

    pub fn condition(&self, type_: &str) -> (String, String) {
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

    /// The chart lists this Kafka cluster, such as `kafka/events`, and Strimzi's resources were listed.
    pub fn list_strimzi(&self, cluster: &str) {
        self.strimzi.lock().unwrap().push(cluster.parse().unwrap());
        *self.strimzi_is_known.lock().unwrap() = true;
    }

    /// The context of an operator that has just started and filled its caches.
    pub fn context(&self, client: &Client) -> Arc<Context> {
        self.context_of(client, "0.1.0")
    }

    /// Caches that have just been filled.
    pub fn caches(&self) -> Caches {
        let writers = Writers::new(&self.strimzi.lock().unwrap());
        let caches = writers.caches();
        if *self.strimzi_is_known.lock().unwrap() {
            writers.strimzi_views.fill(|namespace, plural| {
                let paths = self.paths(&format!("/apis/kafka.strimzi.io/v1/namespaces/{namespace}/{plural}/"));
                paths.iter().map(|path| self.get(path)).collect()
            });
        }
        let Writers {
            mut pipelines,
            mut connections,
            children,
            ..
        } = writers;
        let all = |plural: &str| {
            let paths = self.paths("/apis/userpipeline.dev/");
            let of_kind = paths.iter().filter(|path| path.contains(&format!("/{plural}/")));
            of_kind.map(|path| self.get(path)).collect::<Vec<_>>()
        };
        pipelines.fill_with(all("userpipelines").into_iter());
        connections.fill_with(all("userpipelineconnections").into_iter());
        let objects = self.objects.lock().unwrap().clone();
        children.each(&mut Fill(&objects));
        caches
    }

    /// The context of an operator of this version.
    pub fn context_of(&self, client: &Client, version: &str) -> Arc<Context> {
        let installation = Installation {
            images: Images {
                tag: version.to_owned(),
                ..example::images()
            },
            ..example::installation()
        };
        Arc::new(Context::new(client.clone(), self.caches(), Metrics::new(), installation, "test".into()).unwrap())
    }

    pub async fn reconcile(&self, client: &Client) -> Result<Action, ReconcileError> {
        let resource: CachedPipeline = serde_json::from_value(self.get(PIPELINE)).unwrap();
        reconcile(Arc::new(resource), self.context(client)).await
    }

    /// The only Job succeeds.
    pub fn finish_schema_job(&self) {
        let path = self.paths(JOBS).pop().expect("a schema Job");
        self.finish_job(&path, "users");
    }

    /// A Job of this pipeline succeeds.
    pub fn finish_job(&self, path: &str, pipeline: &str) {
        let message = r#"{"reason":"Applied","message":"","topicReady":true,"partitions":3,"schemaId":7,"kafkaCluster":"k"}"#;
        self.finish_job_with(path, pipeline, "schema", message);
    }

    /// A Job of this pipeline succeeds with a report of this container.
    pub fn finish_job_with(&self, path: &str, pipeline: &str, container: &str, message: &str) {
        let uid = self.get(path)["metadata"]["uid"].clone();
        self.change(path, |job| {
            job["status"] = json!({"completionTime": time(self.next()), "conditions": [{"type": "Complete", "status": "True"}]});
        });
        let mut labels = serde_json::to_value(labels::labels(pipeline, labels::Component::Schema)).unwrap();
        labels["app.kubernetes.io/component"] = json!(container);
        labels["batch.kubernetes.io/controller-uid"] = uid.clone();
        let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "users-schema", "uid": uid, "controller": true}]);
        let state = json!({"terminated": {"exitCode": 0, "finishedAt": time(self.next()), "message": message}});
        let status = json!({"phase": "Succeeded", "containerStatuses": [{"name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
        let name = format!("{pipeline}-{container}");
        self.put(
            &format!("{PODS}{name}"),
            json!({"metadata": {"name": name, "namespace": "demo", "labels": labels, "ownerReferences": owners}, "status": status}),
        );
    }

    /// The Deployment's controller finishes the rollout.
    pub fn roll_out(&self) {
        self.roll_out_workers(DEPLOYMENT);
    }

    /// The same for this Deployment.
    pub fn roll_out_workers(&self, path: &str) {
        self.change(path, |deployment| {
            let (generation, n) = (deployment["metadata"]["generation"].clone(), deployment["spec"]["replicas"].clone());
            deployment["status"] =
                json!({"observedGeneration": generation, "replicas": n, "updatedReplicas": n, "availableReplicas": n, "readyReplicas": n});
        });
    }

    /// Makes the pipeline Ready and settled.
    pub async fn ready(&self, client: &Client) {
        self.reconcile(client).await.unwrap();
        self.finish_schema_job();
        self.reconcile(client).await.unwrap();
        self.roll_out();
        self.reconcile(client).await.unwrap();
        self.reconcile(client).await.unwrap();
        assert_eq!(self.condition("Ready").0, "True", "{:#}", self.get(PIPELINE)["status"]);
        self.writes();
    }

    /// The fault of this request.
    fn fault(&self, method: &Method) -> Option<bool> {
        let mut fails_after = self.fails_after.lock().unwrap();
        let (left, takes_effect) = fails_after.as_mut().filter(|_| *method != Method::GET)?;
        if let Some(fewer) = left.checked_sub(1) {
            *left = fewer;
            return None;
        }
        let takes_effect = *takes_effect;
        *fails_after = None;
        Some(takes_effect)
    }

    fn refuse(status: StatusCode, reason: &str, message: &str) -> Response {
        (status, Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": message}))).into_response()
    }

    fn refuse_terminating() -> Response {
        let details = json!({"causes": [{"reason": "NamespaceTerminating", "message": "namespace demo is being terminated", "field": "metadata.namespace"}]});
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "forbidden", "details": details});
        (StatusCode::FORBIDDEN, Json(status)).into_response()
    }

    /// Of one namespace or of all, whatever the labels.
    fn list(&self, path: &str) -> Response {
        let (group, plural) = path.rsplit_once('/').unwrap();
        let of_kind = |at: &&String| at.starts_with(group) && at.rsplit('/').nth(1) == Some(plural);
        let items: Vec<Value> = self.paths("/").iter().filter(of_kind).map(|at| self.get(at)).collect();
        Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})).into_response()
    }

    fn apply(&self, path: &str, body: Value) -> Response {
        let old = self.objects.lock().unwrap().get(path.trim_end_matches("/status")).cloned();
        if let Some(path) = path.strip_suffix("/status") {
            let Some(mut object) = old else {
                return Self::refuse(StatusCode::NOT_FOUND, "NotFound", "not found");
            };
            // A JSON patch. Server-side apply of a status does not compare the uid.
            if object["metadata"]["uid"] != body[0]["value"] {
                return Self::refuse(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "a test failed");
            }
            object["status"] = body[1]["value"].clone();
            self.put(path, object);
            return Json(self.get(path)).into_response();
        }
        if old.is_none() && *self.terminating.lock().unwrap() {
            return Self::refuse_terminating();
        }
        if path == PIPELINE {
            let finalizers = body["metadata"]["finalizers"].clone();
            self.change(path, |pipeline| pipeline["metadata"]["finalizers"] = finalizers);
            return Json(self.get(path)).into_response();
        }
        let mut object = body;
        let fresh = self.next();
        let old =
            old.unwrap_or_else(|| json!({"metadata": {"uid": format!("uid-{fresh}"), "creationTimestamp": time(fresh), "generation": 0}}));
        for key in ["uid", "creationTimestamp"] {
            object["metadata"][key] = old["metadata"][key].clone();
        }
        if let Some((_, change)) = self.webhook.lock().unwrap().filter(|(of, _)| *of == path) {
            change(&mut object);
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

/// The cluster's clock: a second for each change, long ago.
fn time(counter: u64) -> String {
    Timestamp::from_second(1_600_000_000 + i64::try_from(counter).unwrap())
        .unwrap()
        .to_string()
}

/// Writes without Events, by their last two parts.
pub fn short(writes: Vec<String>) -> Vec<String> {
    let short = writes.into_iter().filter(|write| !write.contains("/events")).map(|write| {
        let (verb, path) = write.split_once(' ').unwrap();
        let parts: Vec<&str> = path.rsplit('/').take(2).collect();
        format!("{verb} {}/{}", parts[1], parts[0])
    });
    short.collect()
}
