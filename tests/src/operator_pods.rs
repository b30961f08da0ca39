//! Whether the deployed operator kept running.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::cluster::OPERATOR_NAMESPACE;

/// How often containers restarted, by pod.
type Restarts = BTreeMap<String, i32>;

/// The operator's pods at one moment.
pub struct OperatorPods {
    operator: Restarts,
    controller_manager: Restarts,
}

impl OperatorPods {
    pub async fn observe(client: &Client) -> Result<Self> {
        let operator = restarts(client, OPERATOR_NAMESPACE, "app.kubernetes.io/name=userpipeline-operator").await?;
        let controller_manager = restarts(client, "kube-system", "component=kube-controller-manager").await?;
        ensure!(!operator.is_empty(), "the operator has no pod");
        Ok(Self {
            operator,
            controller_manager,
        })
    }

    /// Fails where a pod was replaced, or restarted more often than Kubernetes' own controller manager. Both stop when they cannot
    /// renew their leases for ten seconds, which a stalled disk under the apiserver is enough for.
    pub fn ensure_kept_running(&self, before: &Self) -> Result<()> {
        let pods = |restarts: &Restarts| restarts.keys().cloned().collect::<Vec<_>>();
        ensure!(
            pods(&self.operator) == pods(&before.operator),
            "the operator had the pods {:?} and has {:?}",
            before.operator,
            self.operator
        );
        let since = |now: &Restarts, before: &Restarts| now.values().sum::<i32>() - before.values().sum::<i32>();
        let operator = since(&self.operator, &before.operator);
        let controller_manager = since(&self.controller_manager, &before.controller_manager);
        ensure!(
            operator <= controller_manager,
            "the operator restarted {operator} times, the controller manager {controller_manager} times"
        );
        Ok(())
    }
}

async fn restarts(client: &Client, namespace: &str, labels: &str) -> Result<Restarts> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default().labels(labels)).await?.items;
    let counts = pods.iter().map(|pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        (pod.name_any(), statuses.map(|container| container.restart_count).sum())
    });
    Ok(counts.collect())
}
