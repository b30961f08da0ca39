//! Which Kubernetes cluster this is.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The namespace cannot be read.
    #[error("which cluster this is cannot be told: the operator needs the right to get the namespace kube-system: {0}")]
    Unreadable(#[from] kube::Error),
    /// It has no uid.
    #[error("the namespace kube-system has no uid")]
    Nameless,
}

/// The uid of the namespace `kube-system`: it is as old as the cluster, and what others tell clusters apart by, too
/// (OpenTelemetry's `k8s.cluster.uid`).
pub async fn of_cluster(client: &Client) -> Result<String, IdentityError> {
    let namespace = Api::<Namespace>::all(client.clone()).get_metadata("kube-system").await?;
    namespace.uid().ok_or(IdentityError::Nameless)
}
