//! Which workers are pods of the pipeline's own Deployment. Anyone who may create pods can give one the labels of a worker.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, ResourceExt};
use userpipeline_api::{UserPipeline, names::PipelineId};

use super::{observed::Observed, pods::controller};

const TIMEOUT: Duration = Duration::from_secs(2);

/// ReplicaSets, read once each, because the operator does not watch them.
pub struct ReplicaSets {
    client: Client,
    /// For each pipeline: the uid of a ReplicaSet with pods, and that of its Deployment.
    known: Mutex<HashMap<PipelineId, BTreeMap<String, String>>>,
}

impl ReplicaSets {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
        }
    }

    /// The live workers that the pipeline's Deployment created. A ReplicaSet that cannot be read counts as foreign until it can.
    pub async fn own_workers<'a>(&self, pipeline: &UserPipeline, observed: &'a Observed) -> Vec<&'a Pod> {
        let id = PipelineId::of(pipeline);
        let uid = pipeline.uid().unwrap_or_default();
        let is_own = |deployment: &&Deployment| controller(*deployment).is_some_and(|owner| owner.uid == uid);
        let Some(deployment) = observed.worker_deployment(&id).filter(is_own).and_then(ResourceExt::uid) else {
            return Vec::new();
        };
        let before = self.known().remove(&id).unwrap_or_default();
        let (mut known, mut own) = (BTreeMap::new(), Vec::new());
        for pod in observed.workers().map(AsRef::as_ref) {
            let Some(set) = controller(pod).filter(|owner| owner.kind == "ReplicaSet") else {
                continue;
            };
            if !known.contains_key(&set.uid) {
                let owner = match before.get(&set.uid) {
                    Some(owner) => Some(owner.clone()),
                    None => self.deployment_of(&id.namespace, set).await,
                };
                known.extend(owner.map(|owner| (set.uid.clone(), owner)));
            }
            if known.get(&set.uid) == Some(&deployment) {
                own.push(pod);
            }
        }
        self.known().insert(id, known);
        own
    }

    /// The uid of the ReplicaSet's Deployment.
    async fn deployment_of(&self, namespace: &str, set: &OwnerReference) -> Option<String> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        let read = tokio::time::timeout(TIMEOUT, api.get_metadata_opt(&set.name)).await.ok()?;
        let found = match read {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%error, name = set.name, namespace, "cannot read a ReplicaSet, so the lag of its workers is unknown");
                return None;
            }
        };
        let owner = controller(&found).filter(|owner| owner.kind == "Deployment")?;
        (found.metadata.uid.as_deref() == Some(set.uid.as_str())).then(|| owner.uid.clone())
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.known().remove(id);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PipelineId, BTreeMap<String, String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
