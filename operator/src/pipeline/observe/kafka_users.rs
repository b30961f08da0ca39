//! The KafkaUsers of a pipeline, and which of them its pods log in with.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::ApiResource};
use userpipeline_api::names::PipelineId;

use super::{
    jobs::job_end,
    observed::{Observed, is_of_component},
    pods,
};
use crate::{
    pipeline::model::{PodConfig, PodConfigRef, RequestedUser, labels, labels::Component},
    strimzi::{KafkaUser, Strimzi, Unavailable},
};

/// The KafkaUsers with the labels of a pipeline, and the version in which they are served.
#[derive(Clone, Debug)]
pub struct KafkaUsers {
    pub resource: ApiResource,
    pub users: Vec<LiveUser>,
}

/// An observed KafkaUser. Two are equal if they are the same version of the same object.
#[derive(Clone, Debug)]
pub struct LiveUser(pub Arc<KafkaUser>);

impl PartialEq for LiveUser {
    fn eq(&self, other: &Self) -> bool {
        let version = |user: &Self| (user.0.uid(), user.0.resource_version());
        version(self) == version(other)
    }
}

/// Those of a pipeline, in its namespace. None where no User Operator of a listed cluster reconciles users of the namespace.
pub fn kafka_users(id: &PipelineId, strimzi: &Strimzi) -> Option<Result<KafkaUsers, Unavailable>> {
    let found = strimzi.users(&id.namespace)?.select(|_, user| is_of_pipeline(user, id));
    Some(found.map(|objects| KafkaUsers {
        resource: objects.resource,
        users: objects.by_name.into_values().map(LiveUser).collect(),
    }))
}

fn is_of_pipeline(user: &KafkaUser, id: &PipelineId) -> bool {
    let label = |name: &str| user.labels().get(name).map(String::as_str);
    label(labels::PIPELINE) == Some(&id.name) && label(labels::PIPELINE_NAMESPACE) == Some(&id.namespace)
}

/// Whether the cluster of a user enforces ACLs. None while its `Kafka` resource is unknown.
pub fn has_acls(user: &RequestedUser, strimzi: &Strimzi) -> Option<bool> {
    let cluster = strimzi.cluster(&user.cluster).ok()?;
    let kafka = cluster.kafkas.get(&user.cluster.name).ok()??;
    Some(kafka.spec.kafka.has_acls())
}

/// The Secrets that pods of the pipeline mount, or may mount later without another write of the operator.
pub fn mounted_secrets(observed: &Observed) -> BTreeSet<String> {
    let live = &observed.children;
    let pods = live.pods.iter().filter(|pod| pods::is_live(pod));
    let pods = pods.filter_map(|pod| PodConfigRef::of_pod(pod.spec.as_ref()?));
    let jobs = live.jobs.iter().filter(|job| job_end(job).is_none());
    let jobs = jobs.filter_map(|job| PodConfigRef::of_template(&job.spec.as_ref()?.template));
    let cron_jobs = live.cron_jobs.iter();
    let cron_jobs =
        cron_jobs.filter_map(|cron_job| PodConfigRef::of_template(&cron_job.spec.as_ref()?.job_template.spec.as_ref()?.template));
    let deployments = live.deployments.iter();
    let deployments = deployments.filter_map(|deployment| PodConfigRef::of_template(&deployment.spec.as_ref()?.template));
    let mounted = pods.chain(jobs).chain(cron_jobs).chain(deployments).map(|config| config.mounts);
    let is_deletion = |config_map: &&Arc<ConfigMap>| is_of_component(config_map.as_ref(), Component::Deletion);
    let deletions = live.config_maps.iter().filter(is_deletion);
    let deletions = deletions
        .filter_map(|config_map| PodConfig::stored(config_map))
        .map(|config| config.mounts);
    mounted.chain(deletions).flat_map(|mounts| mounts.secrets).collect()
}
