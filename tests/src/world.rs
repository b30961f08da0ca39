//! The world of one test: a namespace that enforces restricted Pod Security, credentials, a seed, and unique derived names.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Namespace, Secret},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, UserPipelineConnection, names, names::PipelineId};

use crate::{
    cluster, eventually, examples,
    services::{CA, CREDENTIALS, authority, blocks, host_name, tls},
};

/// The label of every namespace that tests and benches create. `sweep` selects by it.
pub const LABEL: &str = "userpipeline.dev/end-to-end";
/// How long a healthy cluster may take for anything that a test waits for.
pub const SOON: Duration = Duration::from_secs(120);

#[derive(Clone)]
pub struct World {
    pub client: Client,
    pub namespace: String,
    /// For the stand-in source.
    pub seed: String,
}

impl World {
    /// Creates a namespace with the credentials that a pipeline needs.
    pub async fn new(test: &str) -> Result<Self> {
        let world = Self::without_secrets(test).await?;
        world.create_credentials().await?;
        Ok(world)
    }

    /// Creates a namespace without credentials.
    pub async fn without_secrets(test: &str) -> Result<Self> {
        let client = cluster::connect().await?;
        let namespace = format!("e2e-{test}-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
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

    /// Copies the credentials of the local services, and their authority.
    pub async fn create_credentials(&self) -> Result<()> {
        for secret in CREDENTIALS {
            self.copy_credentials(secret).await?;
        }
        self.set_authority(CA.0, &authority(&self.client).await?).await
    }

    /// Creates the connections of the examples, which reach the local services.
    pub async fn create_connections(&self) -> Result<()> {
        let by = PatchParams::apply("end-to-end").force();
        for connection in examples::connections(&self.namespace)? {
            let name = connection["metadata"]["name"].as_str().context("a name")?;
            let connections = self.api::<UserPipelineConnection>();
            connections.patch(name, &by, &Patch::Apply(&connection)).await?;
        }
        Ok(())
    }

    /// Copies a Secret of the local services under another name.
    pub async fn copy_credentials(&self, (name, original): (&str, &str)) -> Result<()> {
        let (username, password) = cluster::credentials(&self.client, cluster::SERVICES, original).await?;
        self.set_secret(name, &username, &password).await
    }

    /// Creates or changes a ConfigMap with an authority's certificate.
    pub async fn set_authority(&self, config_map: &str, pem: &str) -> Result<()> {
        let content =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config_map}, "data": BTreeMap::from([(CA.1, pem)])});
        let by = PatchParams::apply("end-to-end").force();
        self.api::<ConfigMap>().patch(config_map, &by, &Patch::Apply(content)).await?;
        Ok(())
    }

    pub async fn set_secret(&self, name: &str, username: &str, password: &str) -> Result<()> {
        self.set_secret_of_type(name, "kubernetes.io/basic-auth", &[("username", username), ("password", password)])
            .await
    }

    pub async fn set_secret_of_type(&self, name: &str, kind: &str, content: &[(&str, &str)]) -> Result<()> {
        let content: BTreeMap<_, _> = content.iter().copied().collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": content});
        self.api::<Secret>()
            .patch(name, &PatchParams::apply("end-to-end").force(), &Patch::Apply(secret))
            .await?;
        Ok(())
    }

    /// A pipeline named `users` with the smallest useful spec. Its schedule starts no run during a test.
    pub fn pipeline(&self) -> Value {
        let mut pipeline = json!({
            "apiVersion": "userpipeline.dev/v1alpha1",
            "kind": "UserPipeline",
            "metadata": {"name": "users", "namespace": self.namespace},
            "spec": {
                "schedule": {"cron": "0 0 1 1 *"},
                "source": {"http": {
                    "url": format!("https://{}/api/", host_name("source")), "tls": tls(CA.0),
                    "query": [{"name": "results", "value": "200"}, {"name": "seed", "value": self.seed}],
                    "pagination": {"type": "Repeat"}, "runDuration": "5s", "maxRecordsPerRun": 400
                }},
                "sinks": {"cassandra": {"replication": {"datacenter1": 1}}, "postgres": {}},
                "pods": {"ingest": small_pod("512Mi"), "workers": small_pod("256Mi"), "tasks": small_pod("256Mi")}
            }
        });
        for (name, block) in blocks().as_object().into_iter().flatten() {
            pipeline["spec"][name] = block.clone();
        }
        pipeline
    }

    /// The same for records of its own, from a source of its own.
    pub fn pipeline_of(&self, record: &Value, source: &str) -> Value {
        let mut pipeline = self.pipeline();
        pipeline["spec"]["record"] = record.clone();
        pipeline["spec"]["source"] = json!({"http": {
            "url": source, "pagination": {"type": "Repeat"}, "runDuration": "30s", "maxRecordsPerRun": 100_000
        }});
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

    pub async fn get(&self) -> Result<UserPipeline> {
        Ok(self.api::<UserPipeline>().get("users").await?)
    }

    /// Waits until a condition has a status for the current spec. Returns its reason and message.
    pub async fn condition(&self, kind: &str, status: &str, within: Duration) -> Result<(String, String)> {
        self.condition_where(kind, status, within, |_, _| true).await
    }

    /// Like [`World::condition`], with a predicate on reason and message.
    pub async fn condition_where(
        &self,
        kind: &str,
        status: &str,
        within: Duration,
        expected: impl Fn(&str, &str) -> bool,
    ) -> Result<(String, String)> {
        eventually(&format!("{kind}={status} of {}", self.namespace), within, async || {
            let pipeline = self.get().await?;
            let generation = pipeline.metadata.generation;
            let conditions = pipeline.status.unwrap_or_default().conditions;
            let Some(found) = conditions.iter().find(|c| c.type_ == kind) else {
                return Ok(Err(format!("no such condition among {:?}", summary(&conditions))));
            };
            let current = found.status == status && found.observed_generation == generation && expected(&found.reason, &found.message);
            Ok(if current {
                Ok((found.reason.clone(), found.message.clone()))
            } else {
                Err(format!("generation {generation:?}, {:?}", summary(&conditions)))
            })
        })
        .await
    }

    pub async fn ready(&self) -> Result<()> {
        self.condition("Ready", "True", SOON).await.map(drop)
    }

    /// Starts a run as `kubectl create job --from=cronjob/…` does. Returns the name of the Job.
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

    /// Starts a run and waits until it succeeds.
    pub async fn run(&self, job: &str) -> Result<()> {
        self.start_run(job).await?;
        self.finished(job, "Complete").await
    }

    pub async fn delete_job(&self, job: &str) -> Result<()> {
        self.api::<Job>().delete(job, &DeleteParams::background()).await?;
        eventually(&format!("Job {job} to be gone"), SOON, async || {
            let left = self.api::<Job>().get_opt(job).await?;
            Ok(if left.is_none() { Ok(()) } else { Err("still there".to_owned()) })
        })
        .await
    }

    /// `expected`: `Complete` or `Failed`.
    pub async fn finished(&self, job: &str, expected: &str) -> Result<()> {
        eventually(&format!("Job {job} to be {expected}"), SOON, async || {
            let status = self.api::<Job>().get(job).await?.status.unwrap_or_default();
            let ended: Vec<String> = status
                .conditions
                .unwrap_or_default()
                .into_iter()
                .filter(|c| c.status == "True")
                .map(|c| c.type_)
                .collect();
            Ok(if ended.iter().any(|c| c == expected) {
                Ok(())
            } else {
                Err(format!("{ended:?}, active {:?}, failed {:?}", status.active, status.failed))
            })
        })
        .await
    }

    /// Waits until at least this many offsets are stored and the lag is 0.
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

    pub async fn workers(&self) -> Result<Deployment> {
        Ok(self.api::<Deployment>().get(&names::workers("users")).await?)
    }

    pub fn id(&self) -> PipelineId {
        PipelineId {
            namespace: self.namespace.clone(),
            name: "users".to_owned(),
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Cleans up after a test that passed. A failed test leaves everything for inspection until the next `make test`.
    pub async fn clean_up(self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .map_err(|e| anyhow!("deleting {}: {e}", self.namespace))?;
        Ok(())
    }
}

/// Requests little CPU, so that the pods of many stories fit on one node. The memory is the default.
fn small_pod(memory_limit: &str) -> Value {
    json!({"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": memory_limit}}})
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
