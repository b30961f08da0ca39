//! What the watches have seen. Reading costs no request.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Pod, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{Store, store::Writer},
};
use serde::de::DeserializeOwned;
use userpipeline_api::{UserPipeline, names::PipelineId};

use super::kept::Kept;

/// What the watches have seen, by kind.
#[derive(Clone)]
pub struct Caches {
    /// The pipelines themselves.
    pub pipelines: Store<Kept<UserPipeline>>,
    /// Files of the binaries.
    pub config_maps: Store<Kept<ConfigMap>>,
    /// Who the pods are.
    pub accounts: Store<Kept<ServiceAccount>>,
    /// Schema Jobs and runs.
    pub jobs: Store<Kept<Job>>,
    /// Schedules.
    pub cron_jobs: Store<Kept<CronJob>>,
    /// Workers.
    pub deployments: Store<Kept<Deployment>>,
    /// Their budgets.
    pub budgets: Store<Kept<PodDisruptionBudget>>,
    /// All pods of pipelines.
    pub pods: Store<Kept<Pod>>,
}

/// The other ends: what the watches write to.
#[derive(Default)]
pub struct Writers {
    /// The pipelines themselves.
    pub pipelines: Writer<Kept<UserPipeline>>,
    /// Files of the binaries.
    pub config_maps: Writer<Kept<ConfigMap>>,
    /// Who the pods are.
    pub accounts: Writer<Kept<ServiceAccount>>,
    /// Schema Jobs and runs.
    pub jobs: Writer<Kept<Job>>,
    /// Schedules.
    pub cron_jobs: Writer<Kept<CronJob>>,
    /// Workers.
    pub deployments: Writer<Kept<Deployment>>,
    /// Their budgets.
    pub budgets: Writer<Kept<PodDisruptionBudget>>,
    /// All pods of pipelines.
    pub pods: Writer<Kept<Pod>>,
}

impl Writers {
    /// What is read from what they write.
    pub fn caches(&self) -> Caches {
        Caches {
            pipelines: self.pipelines.as_reader(),
            config_maps: self.config_maps.as_reader(),
            accounts: self.accounts.as_reader(),
            jobs: self.jobs.as_reader(),
            cron_jobs: self.cron_jobs.as_reader(),
            deployments: self.deployments.as_reader(),
            budgets: self.budgets.as_reader(),
            pods: self.pods.as_reader(),
        }
    }
}

impl Caches {
    /// Waits until each has been filled once; `false` when a watch has ended instead.
    pub async fn filled(&self) -> bool {
        self.pipelines.wait_until_ready().await.is_ok()
            && self.config_maps.wait_until_ready().await.is_ok()
            && self.accounts.wait_until_ready().await.is_ok()
            && self.jobs.wait_until_ready().await.is_ok()
            && self.cron_jobs.wait_until_ready().await.is_ok()
            && self.deployments.wait_until_ready().await.is_ok()
            && self.budgets.wait_until_ready().await.is_ok()
            && self.pods.wait_until_ready().await.is_ok()
    }
}

/// What a cache holds of a pipeline, by name.
pub fn of_pipeline<K>(store: &Store<Kept<K>>, id: &PipelineId) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + 'static,
{
    let found = store.state_filter(|object| {
        object.meta().namespace.as_deref() == Some(id.namespace.as_str()) && object.pipeline() == Some(id.name.as_str())
    });
    let mut found: Vec<Arc<K>> = found.iter().filter_map(|kept| kept.read().ok().map(Arc::new)).collect();
    found.sort_by_key(|object| object.name_any());
    found
}
