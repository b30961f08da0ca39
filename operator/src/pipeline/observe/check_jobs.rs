//! The check Jobs of a connection.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::ConfigMap},
};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use userpipeline_api::{names::PipelineId, report::ConnectionReport};

use super::{
    observed::{Observed, RecentlyDeleted, is_of_component},
    refused_pods::RefusedPods,
    task_jobs::{TaskJob, check_jobs},
};
use crate::pipeline::{
    cache::Cache,
    children::{ChildCaches, Children},
    model::{ConnectionId, labels, labels::Component},
};

/// What the operator created for a connection.
#[derive(Clone, Debug, Default)]
pub struct CheckChildren {
    pub jobs: Vec<Arc<Job>>,
    pub config_maps: Vec<Arc<ConfigMap>>,
    pub tasks: Vec<TaskJob<ConnectionReport>>,
}

impl CheckChildren {
    /// The children of the connection with this uid: an earlier one may have had the same name.
    pub async fn observe(connection: &ConnectionId, uid: &str, caches: &ChildCaches, refused_pods: &RefusedPods, now: Timestamp) -> Self {
        let mut observed = Observed {
            children: Children {
                jobs: owned(&caches.jobs, connection, uid),
                // Pods belong to their Jobs.
                pods: labelled(&caches.pods, connection),
                ..Children::default()
            },
            deleted: deleted(connection, uid, caches, now),
            ..Observed::default()
        };
        // What is deleted in between is in both.
        let Observed { children, deleted, .. } = &mut observed;
        deleted
            .jobs
            .retain(|(_, job)| children.jobs.iter().all(|live| live.uid() != job.uid()));
        deleted.pods.retain(|pod| children.pods.iter().all(|live| live.uid() != pod.uid()));
        let id = PipelineId {
            namespace: connection.namespace.clone(),
            name: connection.name.clone(),
        };
        observed.refusals = refused_pods.of(&id, &observed, now).await;
        Self {
            tasks: check_jobs(&observed),
            config_maps: with_component(owned(&caches.config_maps, connection, uid), Component::Check),
            jobs: observed.children.jobs,
        }
    }
}

/// The ConfigMaps with the authorities of this connection, or of an earlier one of the same name.
pub fn authorities_of(connection: &ConnectionId, caches: &ChildCaches) -> Vec<Arc<ConfigMap>> {
    with_component(labelled(&caches.config_maps, connection), Component::Authorities)
}

fn with_component(mut config_maps: Vec<Arc<ConfigMap>>, component: Component) -> Vec<Arc<ConfigMap>> {
    config_maps.retain(|config_map| is_of_component(config_map.as_ref(), component));
    config_maps
}

/// Jobs that a policy deleted when they ended, and their pods.
fn deleted(connection: &ConnectionId, uid: &str, caches: &ChildCaches, now: Timestamp) -> RecentlyDeleted {
    let mut jobs = caches.jobs.deleted().of_no_pipeline(&connection.namespace, now);
    jobs.retain(|(_, job)| is_of(job.as_ref(), connection) && is_owned(job.as_ref(), uid));
    let pods = caches.pods.deleted().of_no_pipeline(&connection.namespace, now);
    let pods = pods.into_iter().map(|(_, pod)| pod);
    RecentlyDeleted {
        jobs,
        pods: pods.filter(|pod| is_of(pod.as_ref(), connection)).collect(),
    }
}

fn is_owned(object: &impl ResourceExt, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

fn is_of(object: &impl ResourceExt, connection: &ConnectionId) -> bool {
    object.labels().get(labels::CONNECTION) == Some(&connection.name)
}

fn owned<K>(cache: &Cache<K>, connection: &ConnectionId, uid: &str) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + 'static,
{
    let mut owned = labelled(cache, connection);
    owned.retain(|object| is_owned(object.as_ref(), uid));
    owned
}

fn labelled<K>(cache: &Cache<K>, connection: &ConnectionId) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + 'static,
{
    let mut objects = cache.of_no_pipeline(&connection.namespace);
    objects.retain(|object| is_of(object.as_ref(), connection));
    objects
}
