//! Whether the deployed operator kept running.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::cluster::OPERATOR_NAMESPACE;

/// The operator's pods at one moment: how often each restarted, and what its container said last.
pub struct OperatorPods(BTreeMap<String, (i32, Option<String>)>);

impl OperatorPods {
    pub async fn observe(client: &Client) -> Result<Self> {
        let pods = Api::<Pod>::namespaced(client.clone(), OPERATOR_NAMESPACE);
        let ours = ListParams::default().labels("app.kubernetes.io/name=userpipeline-operator");
        let pods = pods.list(&ours).await?.items;
        ensure!(!pods.is_empty(), "the operator has no pod");
        let observed = pods.iter().map(|pod| {
            let containers = || pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let restarts = containers().map(|container| container.restart_count).sum();
            (pod.name_any(), (restarts, containers().find_map(last_words)))
        });
        Ok(Self(observed.collect()))
    }

    /// Fails where a pod was replaced or restarted.
    pub fn ensure_kept_running(&self, before: &Self) -> Result<()> {
        let restarts = |pods: &Self| {
            pods.0
                .iter()
                .map(|(name, (restarts, _))| (name.clone(), *restarts))
                .collect::<Vec<_>>()
        };
        ensure!(
            restarts(self) == restarts(before),
            "the operator's pods were {:?} and are {:?}",
            before.0,
            self.0
        );
        Ok(())
    }
}

/// The end of its log, if it failed.
fn last_words(container: &ContainerStatus) -> Option<String> {
    container.last_state.as_ref()?.terminated.as_ref()?.message.clone()
}
