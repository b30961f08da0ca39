//! The check Jobs of a connection.

use std::sync::Arc;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::ConfigMap},
};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use userpipeline_api::report::ConnectionReport;

use super::{
    observed::Observed,
    task_jobs::{TaskJob, check_jobs},
};
use crate::pipeline::{
    cache::Cache,
    children::{ChildCaches, Children},
    model::{ConnectionId, labels},
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
    pub fn cached(connection: &ConnectionId, uid: &str, caches: &ChildCaches) -> Self {
        let observed = Observed {
            children: Children {
                jobs: owned(&caches.jobs, connection, uid),
                // Pods belong to their Jobs.
                pods: labelled(&caches.pods, connection),
                ..Children::default()
            },
            ..Observed::default()
        };
        Self {
            tasks: check_jobs(&observed),
            config_maps: owned(&caches.config_maps, connection, uid),
            jobs: observed.children.jobs,
        }
    }
}

fn owned<K>(cache: &Cache<K>, connection: &ConnectionId, uid: &str) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + 'static,
{
    let mut owned = labelled(cache, connection);
    owned.retain(|object| object.owner_references().iter().any(|owner| owner.uid == uid));
    owned
}

fn labelled<K>(cache: &Cache<K>, connection: &ConnectionId) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + 'static,
{
    let mut objects = cache.of_no_pipeline(&connection.namespace);
    objects.retain(|object| object.labels().get(labels::CONNECTION) == Some(&connection.name));
    objects
}
