//! Strimzi's custom resource definitions. They belong to the whole cluster, so all stories that run at the same time share one version.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::Object,
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};

use super::resources::{self, FINALIZER, TopicSpec, TopicStatus};
use crate::eventually;

const DEFINITIONS: [&str; 3] = [
    include_str!("crds/kafka.yaml"),
    include_str!("crds/kafka_topic.yaml"),
    include_str!("crds/kafka_user.yaml"),
];
const SOON: Duration = Duration::from_secs(60);

/// The only version that is served and stored: `V1Beta2` before Strimzi 1.0, `V1` since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V1Beta2,
}

impl Version {
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta2 => "v1beta2",
        }
    }
}

/// The definitions in this version.
pub fn definitions(version: Version) -> Result<Vec<CustomResourceDefinition>> {
    let definition = |yaml: &&str| {
        let mut definition: CustomResourceDefinition = serde_yaml::from_str(yaml)?;
        for served in &mut definition.spec.versions {
            version.name().clone_into(&mut served.name);
        }
        Ok(definition)
    };
    DEFINITIONS.iter().map(definition).collect()
}

/// Installs the definitions in v1, or leaves them in whichever version is installed. Stories may call it at the same time.
pub async fn ensure_installed(client: &Client) -> Result<()> {
    let installed = api(client).get_opt("kafkatopics.kafka.strimzi.io").await?;
    let older = installed.is_some_and(|found| found.spec.versions.iter().any(|version| version.name == Version::V1Beta2.name()));
    install(client, if older { Version::V1Beta2 } else { Version::V1 }).await
}

/// Removes the definitions and all resources, and installs this version. Only for a story that runs alone.
pub async fn replace(client: &Client, version: Version) -> Result<()> {
    remove(client).await?;
    install(client, version).await
}

async fn install(client: &Client, version: Version) -> Result<()> {
    let by = PatchParams::apply("strimzi-cluster-operator").force();
    for definition in definitions(version)? {
        let name = definition.name_any();
        let mut applied = serde_json::to_value(&definition)?;
        applied["apiVersion"] = json!("apiextensions.k8s.io/v1");
        applied["kind"] = json!("CustomResourceDefinition");
        api(client).patch(&name, &by, &Patch::Apply(applied)).await?;
        let established = await_condition(api(client), &name, conditions::is_crd_established());
        tokio::time::timeout(SOON, established)
            .await
            .context("an established definition")??;
    }
    eventually("discovery of Strimzi's kinds", SOON, async || {
        Ok(resources::resource(client, "KafkaUser")
            .await
            .map(drop)
            .map_err(|e| format!("{e:#}")))
    })
    .await
}

/// Removes the definitions with all their resources, of which Kafka keeps the topics. Only for a story that runs alone.
pub async fn remove(client: &Client) -> Result<()> {
    release_topics(client, None).await?;
    for definition in definitions(Version::V1)? {
        let name = definition.name_any();
        match api(client).delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        }
        eventually(&format!("{name} to be gone"), SOON, async || {
            let left = api(client).get_opt(&name).await?;
            Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status))))
        })
        .await?;
    }
    Ok(())
}

/// Takes the Topic Operator's finalizer from all topics, or from those of a namespace, which could otherwise not be deleted where no
/// stand-in runs.
pub async fn release_topics(client: &Client, namespace: Option<&str>) -> Result<()> {
    let Ok(resource) = resources::resource(client, "KafkaTopic").await else {
        return Ok(());
    };
    let topics: Api<Object<TopicSpec, TopicStatus>> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    for topic in topics.list_metadata(&ListParams::default()).await?.items {
        let Some(namespace) = topic
            .namespace()
            .filter(|_| topic.finalizers().iter().any(|name| name == FINALIZER))
        else {
            continue;
        };
        let left: Vec<&String> = topic.finalizers().iter().filter(|name| *name != FINALIZER).collect();
        let patch: Value = json!({"metadata": {"finalizers": left}});
        let topics: Api<Object<TopicSpec, TopicStatus>> = Api::namespaced_with(client.clone(), &namespace, &resource);
        match topics.patch(&topic.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !matches!(&error, kube::Error::Api(status) if status.is_not_found()) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Fails unless exactly this version is served.
pub async fn assert_served(client: &Client, version: Version) -> Result<()> {
    let resource = resources::resource(client, "KafkaTopic").await?;
    ensure!(resource.version == version.name(), "{} is served", resource.version);
    Ok(())
}

fn api(client: &Client) -> Api<CustomResourceDefinition> {
    Api::all(client.clone())
}
