//! Takes the lease of the operator in the cluster, so that it stands by during trials.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::{api::coordination::v1::Lease as KubernetesLease, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::cluster::OPERATOR_NAMESPACE;

const NAME: &str = "userpipeline-operator";
const HOLDER: &str = "crash-tests";
const SECONDS: i32 = 15;
const RENEW: Duration = Duration::from_secs(4);

/// It needs no release: it expires soon after this is dropped, and the operator leads again.
pub struct Lease(tokio::task::JoinHandle<()>);

impl Lease {
    pub async fn take(client: Client) -> Result<Self> {
        let leases: Api<KubernetesLease> = Api::namespaced(client, OPERATOR_NAMESPACE);
        renew(&leases).await.context("taking the operator's lease")?;
        // The operator reads its lease before it renews it, and steps down.
        tokio::time::sleep(RENEW * 3).await;
        renew(&leases).await?;
        Ok(Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                let _ = renew(&leases).await;
            }
        })))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn renew(leases: &Api<KubernetesLease>) -> Result<()> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let held = json!({"spec": {"holderIdentity": HOLDER, "leaseDurationSeconds": SECONDS, "renewTime": now, "acquireTime": now}});
    leases.patch(NAME, &PatchParams::default(), &Patch::Merge(held)).await?;
    Ok(())
}
