//! The operator's name, and the identity of its cluster.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};

/// The field manager of server-side apply, the controller of Events, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "userpipeline-operator";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot identify the cluster: cannot get the namespace kube-system (the operator needs the right to get it): {0}")]
    Unreadable(#[from] kube::Error),
    #[error("the namespace kube-system has no uid")]
    NoUid,
}

/// The uid of the namespace `kube-system`, which is as old as the cluster. OpenTelemetry uses it as `k8s.cluster.uid`.
pub async fn of_cluster(client: &Client) -> Result<String, IdentityError> {
    let namespace = Api::<Namespace>::all(client.clone()).get_metadata("kube-system").await?;
    namespace.uid().ok_or(IdentityError::NoUid)
}
