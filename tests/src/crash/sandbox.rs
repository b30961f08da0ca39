//! The namespace of a trial, and what a user does in it.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Namespace},
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use userpipeline_api::{UserPipeline, UserPipelineBackfill, UserPipelineStatus};

use super::{end_state, write_interceptor::WriteInterceptor};
use crate::{
    eventually,
    services::authority,
    strimzi::{
        crds,
        in_memory::{self, InMemoryKafka},
    },
    world::LABEL,
};

const SOON: Duration = Duration::from_secs(90);
/// The operator is idle after this time without a write. It must be longer than the first back-off after a failure.
const QUIET: Duration = Duration::from_millis(1800);

/// The `Kafka` resource of a trial with Strimzi.
pub const STRIMZI_CLUSTER: &str = "events";

/// What a trial has besides a Kubernetes cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Stores that Jobs report on.
    Plain,
    /// A Kafka cluster of Strimzi.
    Strimzi,
    /// The same, but Strimzi's definitions are not served until [`Sandbox::install_strimzi`].
    StrimziLater,
}

pub struct Sandbox {
    pub client: Client,
    pub namespace: String,
    interceptor: Arc<WriteInterceptor>,
    setup: Setup,
    /// The topics of Strimzi's Kafka cluster.
    pub kafka: InMemoryKafka,
}

impl Sandbox {
    pub(super) async fn open(client: Client, interceptor: Arc<WriteInterceptor>, setup: Setup) -> Result<Self> {
        let namespace = format!("crash-{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
        let manifest = json!({"metadata": {"name": namespace, "labels": {LABEL: "true"}}});
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &serde_json::from_value(manifest)?)
            .await?;
        if setup != Setup::Plain {
            in_memory::create_kafka(&client, &namespace, STRIMZI_CLUSTER, &authority(&client).await?).await?;
        }
        interceptor.hide_strimzi(setup == Setup::StrimziLater);
        Ok(Self {
            client,
            namespace,
            interceptor,
            setup,
            kafka: InMemoryKafka::default(),
        })
    }

    pub(super) fn start_strimzi(&self, tasks: &mut JoinSet<()>) {
        if self.setup == Setup::Plain {
            return;
        }
        let (client, namespace) = (|| self.client.clone(), || self.namespace.clone());
        tasks.spawn(report(self.kafka.clone().serve_topics(client(), namespace())));
        tasks.spawn(report(in_memory::serve_users(client(), namespace())));
    }

    /// From now on, the API server serves Strimzi's definitions.
    pub fn install_strimzi(&self) {
        self.interceptor.hide_strimzi(false);
    }

    pub(super) async fn close(self) -> Result<()> {
        if self.setup != Setup::Plain {
            crds::release_topics(&self.client, Some(&self.namespace)).await?;
        }
        self.release_pipelines().await?;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let _ = namespaces.delete(&self.namespace, &DeleteParams::background()).await;
        Ok(())
    }

    /// The trial's operator has ended, and the cluster's one may have no right to what it would delete.
    async fn release_pipelines(&self) -> Result<()> {
        let pipelines = self.api::<UserPipeline>();
        let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        for pipeline in pipelines.list_metadata(&ListParams::default()).await?.items {
            let (name, by) = (pipeline.name_any(), PatchParams::default());
            match pipelines.patch_metadata(&name, &by, &released).await {
                Err(error) if !matches!(&error, kube::Error::Api(status) if status.is_not_found()) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) async fn end_state(&self) -> Result<Value> {
        let mut all = end_state::of(&self.client, &self.namespace).await?;
        if self.setup != Setup::Plain {
            all["strimzi"] = end_state::of_strimzi(&self.client, &self.namespace, &self.kafka).await?;
        }
        Ok(all)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pipeline whose pods fit no node.
    pub fn pipeline() -> Value {
        let nowhere = json!({"nodeSelector": {"userpipeline.dev/no-such-node": "true"}});
        json!({
            "apiVersion": "userpipeline.dev/v1alpha1",
            "kind": "UserPipeline",
            "metadata": {"name": "users"},
            "spec": {
                "schedule": {"cron": "0 0 1 1 *"},
                "source": {"http": {"url": "http://source.example/"}},
                "postgres": {"host": "postgres.example", "database": "users", "credentialsSecretRef": {"name": "p"}},
                "kafka": {"bootstrapServers": "kafka.example:9092"},
                "schemaRegistry": {"url": "http://registry.example"},
                "sinks": {"postgres": {}},
                "pods": {"ingest": nowhere, "workers": nowhere, "tasks": nowhere}
            }
        })
    }

    /// The same pipeline, with its stores in a connection.
    pub fn connected_pipeline() -> Value {
        let mut pipeline = Self::pipeline();
        if let Some(spec) = pipeline["spec"].as_object_mut() {
            spec.retain(|block, _| !["postgres", "kafka", "schemaRegistry"].contains(&block.as_str()));
        }
        pipeline["spec"]["connections"] = json!([{"name": "stores"}]);
        pipeline
    }

    /// The connection of that pipeline.
    pub fn connection() -> Value {
        let spec = &Self::pipeline()["spec"];
        json!({
            "apiVersion": "userpipeline.dev/v1alpha1",
            "kind": "UserPipelineConnection",
            "metadata": {"name": "stores"},
            "spec": {"postgres": spec["postgres"], "kafka": spec["kafka"], "schemaRegistry": spec["schemaRegistry"]}
        })
    }

    pub async fn apply<K>(&self, object: &Value) -> Result<()>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.api::<K>()
            .patch(name, &PatchParams::apply("crash").force(), &Patch::Apply(object))
            .await?;
        Ok(())
    }

    /// Patches the pipeline.
    pub async fn edit(&self, change: Value) -> Result<()> {
        self.api::<UserPipeline>()
            .patch("users", &PatchParams::default(), &Patch::Merge(change))
            .await?;
        Ok(())
    }

    /// Applies a pipeline and waits until it is ready.
    pub async fn ready(&self, pipeline: &Value) -> Result<()> {
        self.apply::<UserPipeline>(pipeline).await?;
        self.settled("Ready").await
    }

    /// Waits until a condition is True for the current spec and the operator is idle.
    pub async fn settled(&self, condition: &str) -> Result<()> {
        self.settled_where(condition, |pipeline, status| {
            let found = status.conditions.iter().find(|c| c.type_ == condition);
            found.is_some_and(|c| c.status == "True" && c.observed_generation == pipeline.metadata.generation)
        })
        .await
    }

    /// Waits until the pipeline is as expected and the operator is idle.
    pub async fn settled_where(&self, what: &str, expected: impl Fn(&UserPipeline, &UserPipelineStatus) -> bool) -> Result<()> {
        self.quiet(what, async || {
            let pipeline = self.api::<UserPipeline>().get("users").await?;
            let status = pipeline.status.clone().unwrap_or_default();
            let tasks = ListParams::default().labels("userpipeline.dev/task");
            let tasks = self.api::<Job>().list(&tasks).await?.items.len();
            Ok(if expected(&pipeline, &status) && tasks == 0 {
                Ok(())
            } else {
                Err(format!("{tasks} tasks, {:?}", status.conditions.first()))
            })
        })
        .await
    }

    /// Waits until the operator has a verdict on the current spec. Returns reason and status of Ready.
    pub async fn observed(&self) -> Result<String> {
        eventually("a Ready condition for the current spec", SOON, async || {
            let pipeline = self.api::<UserPipeline>().get("users").await?;
            let conditions = pipeline.status.unwrap_or_default().conditions;
            let ready = conditions
                .into_iter()
                .find(|c| c.type_ == "Ready" && c.observed_generation == pipeline.metadata.generation);
            Ok(ready.map(|c| format!("{}={}", c.reason, c.status)).ok_or_else(String::new))
        })
        .await
    }

    /// Counts the writes of the given time from now on.
    pub async fn writes_within(&self, time: Duration) -> usize {
        let before = self.interceptor.writes().len();
        tokio::time::sleep(time).await;
        self.interceptor.writes().len() - before
    }

    /// The children, without the values that differ between trials. ConfigMaps are left out, because they outlive their use.
    pub async fn children(&self) -> Result<Value> {
        let mut all = self.end_state().await?;
        if let Some(all) = all.as_object_mut() {
            all.retain(|kind, _| !["configMaps", "pipelines", "connections", "backfills"].contains(&kind.as_str()));
        }
        Ok(all)
    }

    /// Waits until the probe succeeds and the operator is idle.
    pub async fn quiet(&self, what: &str, mut probe: impl AsyncFnMut() -> Result<Result<(), String>>) -> Result<()> {
        eventually(what, SOON, async || {
            let result = probe().await?;
            Ok(match result {
                Ok(()) if self.interceptor.quiet_for() < QUIET => Err("the operator is still writing".to_owned()),
                result => result,
            })
        })
        .await
    }

    /// Waits until the pipeline and its children are gone.
    pub async fn gone(&self) -> Result<()> {
        self.quiet("the pipeline to be gone", async || {
            let pipeline = self.api::<UserPipeline>().get_opt("users").await?;
            let children = ListParams::default().labels("userpipeline.dev/pipeline=users");
            let children =
                self.api::<ConfigMap>().list(&children).await?.items.len() + self.api::<Job>().list(&children).await?.items.len();
            Ok(match pipeline {
                None if children == 0 => Ok(()),
                None => Err(format!("{children} children")),
                Some(pipeline) => Err(format!("{:?}", pipeline.status.map(|status| status.deletion))),
            })
        })
        .await
    }

    /// Deletes the namespace and waits until it is gone.
    pub async fn namespace_gone(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::background()).await?;
        eventually("the namespace to be gone", SOON, async || {
            let left = namespaces.get_opt(&self.namespace).await?;
            Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status))))
        })
        .await
    }

    pub async fn backfilled(&self, name: &str) -> Result<()> {
        self.quiet("the back-fill to be complete", async || {
            let status = self.api::<UserPipelineBackfill>().get(name).await?.status.unwrap_or_default();
            let complete = status.conditions.iter().any(|c| c.type_ == "Complete" && c.status == "True");
            Ok(if complete { Ok(()) } else { Err(format!("{status:?}")) })
        })
        .await
    }

    pub async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        self.api::<K>().delete(name, &DeleteParams::background()).await?;
        Ok(())
    }

    pub async fn uid<K>(&self, name: &str) -> Result<Option<String>>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        Ok(self.api::<K>().get_opt(name).await?.and_then(|object| object.uid()))
    }
}

/// A part of Strimzi that ends makes its trial fail, because nothing answers any more.
async fn report(part: impl Future<Output = Result<()>>) {
    println!("a part of Strimzi ended: {:?}", part.await);
}
