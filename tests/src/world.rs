//! A story's own world: a namespace that enforces restricted Pod Security, credentials, a seed, and derived names that
//! nobody else has.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{Namespace, Pod, Secret},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use userpipeline_api::{UserPipeline, names, names::PipelineId};

use crate::{cluster, eventually};

/// The label of every namespace that tests and benches make, by which `sweep` finds those that are left.
pub const LABEL: &str = "userpipeline.dev/end-to-end";
/// How long a healthy cluster may take for anything that a story waits for.
pub const SOON: Duration = Duration::from_secs(120);

/// A story's own world.
#[derive(Clone)]
pub struct World {
    /// The local cluster.
    pub client: Client,
    /// The story's namespace.
    pub namespace: String,
    /// The story's seed at the source.
    pub seed: String,
}

impl World {
    /// A fresh namespace with the credentials that a pipeline needs.
    pub async fn new(story: &str) -> Result<Self> {
        let world = Self::without_secrets(story).await?;
        world.give_credentials().await?;
        Ok(world)
    }

    /// A fresh namespace without credentials.
    pub async fn without_secrets(story: &str) -> Result<Self> {
        let client = cluster::connect().await?;
        let namespace = format!("e2e-{story}-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
        let manifest = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {
                LABEL: "true",
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest"
            }}
        });
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &serde_json::from_value(manifest)?)
            .await?;
        Ok(Self {
            client,
            seed: namespace.clone(),
            namespace,
        })
    }

    /// The credentials of the local stores.
    pub async fn give_credentials(&self) -> Result<()> {
        for (name, original) in [
            ("postgres-credentials", "postgres-userpipeline"),
            ("cassandra-credentials", "cassandra-userpipeline"),
        ] {
            let (username, password) = cluster::credentials(&self.client, cluster::SERVICES, original).await?;
            self.set_secret(name, &username, &password).await?;
        }
        Ok(())
    }

    /// Makes or changes a Secret with user name and password.
    pub async fn set_secret(&self, name: &str, username: &str, password: &str) -> Result<()> {
        self.keep_secret(name, "kubernetes.io/basic-auth", &[("username", username), ("password", password)])
            .await
    }

    /// Makes or changes a Secret of any type.
    pub async fn keep_secret(&self, name: &str, kind: &str, content: &[(&str, &str)]) -> Result<()> {
        let content: BTreeMap<_, _> = content.iter().copied().collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": content});
        self.api::<Secret>()
            .patch(name, &PatchParams::apply("end-to-end").force(), &Patch::Apply(secret))
            .await?;
        Ok(())
    }

    /// A pipeline named `users`: the smallest useful spec, without scheduled runs; a story starts its runs by hand.
    pub fn pipeline(&self) -> Value {
        json!({
            "apiVersion": "userpipeline.dev/v1alpha1",
            "kind": "UserPipeline",
            "metadata": {"name": "users", "namespace": self.namespace},
            "spec": {
                "schedule": {"cron": "0 0 1 1 *"},
                "source": {"http": {
                    "url": "http://source.services.svc.cluster.local/api/",
                    "query": [{"name": "results", "value": "200"}, {"name": "seed", "value": self.seed}],
                    "runDuration": "5s", "maxRecordsPerRun": 400
                }},
                "postgres": {"host": "postgres.services.svc.cluster.local", "database": "userpipeline", "credentialsSecretRef": {"name": "postgres-credentials"}},
                "kafka": {"bootstrapServers": "kafka.services.svc.cluster.local:9092", "topic": {"partitions": 3}},
                "schemaRegistry": {"url": "http://schema-registry.services.svc.cluster.local:8080/apis/ccompat/v7"},
                "cassandra": {"contactPoints": ["cassandra.services.svc.cluster.local"], "localDatacenter": "datacenter1", "credentialsSecretRef": {"name": "cassandra-credentials"}},
                "sinks": {"cassandra": {"replication": {"datacenter1": 1}}, "postgres": {}}
            }
        })
    }

    /// The same for records of its own, from a source of its own.
    pub fn pipeline_of(&self, record: &Value, source: &str) -> Value {
        let mut pipeline = self.pipeline();
        pipeline["spec"]["record"] = record.clone();
        pipeline["spec"]["source"] = json!({"http": {"url": source, "runDuration": "30s", "maxRecordsPerRun": 100_000}});
        pipeline
    }

    /// Applies the pipeline, as `kubectl apply --server-side` does.
    pub async fn apply(&self, pipeline: &Value) -> Result<UserPipeline> {
        let name = pipeline["metadata"]["name"].as_str().context("a name")?;
        Ok(self
            .api::<UserPipeline>()
            .patch(name, &PatchParams::apply("end-to-end").force(), &Patch::Apply(pipeline))
            .await?)
    }

    /// Applies a pipeline that may not read as one, and gives its generation.
    pub async fn apply_raw(&self, pipeline: &Value) -> kube::Result<Option<i64>> {
        let path = format!(
            "/apis/userpipeline.dev/v1alpha1/namespaces/{}/userpipelines/users?fieldManager=end-to-end&force=true",
            self.namespace
        );
        let request = http::Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(pipeline.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        // Only its metadata: the rest may nest more deeply than a parser reads.
        let applied: Metadata = self.client.request(request).await?;
        Ok(applied.metadata.generation)
    }

    /// Waits until the operator has reported on a generation; gives the message of `Ready` where the spec is refused.
    pub async fn settled(&self, generation: Option<i64>) -> Result<Option<String>> {
        let path = format!("/apis/userpipeline.dev/v1alpha1/namespaces/{}/userpipelines/users", self.namespace);
        eventually("the operator's report on the spec", SOON, async || {
            let found: Reported = self.client.request(http::Request::get(&path).body(Vec::new())?).await?;
            let ready = found.status.conditions.into_iter().find(|c| c.type_ == "Ready");
            Ok(match ready {
                Some(ready) if ready.observed_generation == generation => {
                    let refused = matches!(ready.reason.as_str(), "InvalidSpec" | "Unreadable");
                    Ok(refused.then_some(ready.message))
                }
                other => Err(format!("{other:?}")),
            })
        })
        .await
    }

    /// The pipeline as it is now.
    pub async fn get(&self) -> Result<UserPipeline> {
        Ok(self.api::<UserPipeline>().get("users").await?)
    }

    /// Waits until a condition has a status that was observed for the spec as it is now; gives its reason and message.
    pub async fn condition(&self, kind: &str, status: &str, within: Duration) -> Result<(String, String)> {
        self.condition_where(kind, status, within, |_, _| true).await
    }

    /// The same, and the reason and message must be as wanted.
    pub async fn condition_where(
        &self,
        kind: &str,
        status: &str,
        within: Duration,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<(String, String)> {
        eventually(&format!("{kind}={status} of {}", self.namespace), within, async || {
            let pipeline = self.get().await?;
            let generation = pipeline.metadata.generation;
            let conditions = pipeline.status.unwrap_or_default().conditions;
            let Some(found) = conditions.iter().find(|c| c.type_ == kind) else {
                return Ok(Err(format!("no such condition among {:?}", summary(&conditions))));
            };
            let current = found.status == status && found.observed_generation == generation && wanted(&found.reason, &found.message);
            Ok(if current {
                Ok((found.reason.clone(), found.message.clone()))
            } else {
                Err(format!("generation {generation:?}, {:?}", summary(&conditions)))
            })
        })
        .await
    }

    /// Waits until the pipeline is ready.
    pub async fn ready(&self) -> Result<()> {
        self.condition("Ready", "True", SOON).await.map(drop)
    }

    /// Starts a run as `kubectl create job --from=cronjob/…` does, and gives the Job's name.
    pub async fn start_run(&self, job: &str) -> Result<String> {
        let cron_job = self.api::<CronJob>().get(&names::cron_job("users")).await?;
        let owner = OwnerReference {
            controller: Some(true),
            ..cron_job.owner_ref(&()).context("a name and a uid")?
        };
        let template = cron_job.spec.context("a spec")?.job_template;
        let mut metadata = template.metadata.unwrap_or_default();
        metadata.name = Some(job.to_owned());
        metadata.owner_references = Some(vec![owner]);
        metadata
            .annotations
            .get_or_insert_default()
            .insert("cronjob.kubernetes.io/instantiate".to_owned(), "manual".to_owned());
        let manual = Job {
            metadata,
            spec: template.spec,
            status: None,
        };
        Ok(self.api::<Job>().create(&PostParams::default(), &manual).await?.name_any())
    }

    /// Starts a run and waits until it has succeeded.
    pub async fn run(&self, job: &str) -> Result<()> {
        self.start_run(job).await?;
        self.finished(job, "Complete").await
    }

    /// Deletes a Job with its pods.
    pub async fn delete_job(&self, job: &str) -> Result<()> {
        self.api::<Job>().delete(job, &DeleteParams::background()).await?;
        eventually(&format!("Job {job} to be gone"), SOON, async || {
            let there = self.api::<Job>().get_opt(job).await?;
            Ok(if there.is_none() { Ok(()) } else { Err("still there".to_owned()) })
        })
        .await
    }

    /// Waits until a Job has ended as wanted: `Complete` or `Failed`.
    pub async fn finished(&self, job: &str, wanted: &str) -> Result<()> {
        eventually(&format!("Job {job} to be {wanted}"), SOON, async || {
            let status = self.api::<Job>().get(job).await?.status.unwrap_or_default();
            let ended: Vec<String> = status
                .conditions
                .unwrap_or_default()
                .into_iter()
                .filter(|c| c.status == "True")
                .map(|c| c.type_)
                .collect();
            Ok(if ended.iter().any(|c| c == wanted) {
                Ok(())
            } else {
                Err(format!("{ended:?}, active {:?}, failed {:?}", status.active, status.failed))
            })
        })
        .await
    }

    /// Waits until at least so many offsets are stored and none is left behind.
    pub async fn drained(&self, at_least: i64) -> Result<()> {
        eventually("everything stored and no lag", SOON, async || {
            let status = self.get().await?.status.unwrap_or_default();
            let stored = status.totals.as_ref().map_or(0, |t| t.stored);
            Ok(if stored >= at_least && status.lag == Some(0) {
                Ok(())
            } else {
                Err(format!("stored {stored} of {at_least}, lag {:?}", status.lag))
            })
        })
        .await
    }

    /// The pods of a part of the pipeline: `ingest`, `worker` or `schema`.
    pub async fn pods(&self, component: &str) -> Result<Vec<Pod>> {
        let selector = ListParams::default().labels(&format!("userpipeline.dev/pipeline=users,app.kubernetes.io/component={component}"));
        Ok(self.api::<Pod>().list(&selector).await?.items)
    }

    /// A figure of a worker's metrics, summed over its series that have `label` in them.
    pub async fn metric(&self, pod: &Pod, name: &str, label: &str) -> Result<f64> {
        let path = format!("/api/v1/namespaces/{}/pods/{}:8080/proxy/metrics", self.namespace, pod.name_any());
        let text = self.client.request_text(http::Request::get(path).body(Vec::new())?).await?;
        let series = text
            .lines()
            .filter(|line| line.starts_with(&format!("userpipeline_worker_{name}")) && line.contains(label));
        Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Runs a command in a pod, as `kubectl exec` does: whether it ended well, and what it printed.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<(bool, String)> {
        let mut process = self.api::<Pod>().exec(pod, command.to_vec(), &AttachParams::default()).await?;
        let (mut printed, mut errors) = (String::new(), String::new());
        if let Some(mut stdout) = process.stdout() {
            stdout.read_to_string(&mut printed).await?;
        }
        if let Some(mut stderr) = process.stderr() {
            stderr.read_to_string(&mut errors).await?;
        }
        let status = process.take_status().context("how the command ended")?.await.unwrap_or_default();
        let done = status.status.as_deref() == Some("Success");
        Ok((done, printed + &errors))
    }

    /// Ends a pod at once, as a lost node does.
    pub async fn kill(&self, pod: &str) -> Result<()> {
        self.api::<Pod>().delete(pod, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// The workers' Deployment.
    pub async fn workers(&self) -> Result<Deployment> {
        Ok(self.api::<Deployment>().get(&names::workers("users")).await?)
    }

    /// The pipeline's id, from which its names derive.
    pub fn id(&self) -> PipelineId {
        PipelineId {
            namespace: self.namespace.clone(),
            name: "users".to_owned(),
        }
    }

    /// Kubernetes objects of the story's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Clears up after a story that went well; one that failed leaves everything for inspection, until the next `make test`.
    pub async fn leave(self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .map_err(|e| anyhow!("deleting {}: {e}", self.namespace))?;
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Metadata {
    metadata: Generation,
}

#[derive(serde::Deserialize)]
struct Generation {
    generation: Option<i64>,
}

#[derive(serde::Deserialize)]
struct Reported {
    #[serde(default)]
    status: Conditions,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Conditions {
    conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
}

fn summary(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> Vec<String> {
    conditions
        .iter()
        .map(|c| {
            format!(
                "{}={} ({}: {}) for generation {:?}",
                c.type_, c.status, c.reason, c.message, c.observed_generation
            )
        })
        .collect()
}
