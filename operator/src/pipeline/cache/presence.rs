//! Kinds whose CustomResourceDefinition may not be installed.

use std::time::Duration;

use kube::{Client, Resource};
use tokio::sync::watch;

/// The time between two probes for an absent kind.
const PROBE_ABSENT: Duration = Duration::from_secs(60);
/// Between two attempts where the apiserver does not answer.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The operator waits for the kind.
    Required,
    /// The operator works without the kind where the apiserver does not serve it.
    #[allow(dead_code, reason = "no child has an optional kind yet")]
    Optional,
}

/// Returns once the apiserver serves `K`, and reports through `absent` while it does not.
pub async fn until_served<K: Resource<DynamicType = ()>>(client: &Client, absent: &watch::Sender<bool>) {
    loop {
        let wait = match is_served::<K>(client).await {
            Ok(true) => {
                absent.send_replace(false);
                return;
            }
            Ok(false) => {
                if !absent.send_replace(true) {
                    tracing::info!(kind = %K::kind(&()), "the apiserver does not serve this optional kind; working without it");
                }
                PROBE_ABSENT
            }
            // Unknown is not absent: a decision without the kind would be wrong if it is served.
            Err(error) => {
                tracing::warn!(%error, kind = %K::kind(&()), "cannot discover whether the apiserver serves this kind; retrying");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn is_served<K: Resource<DynamicType = ()>>(client: &Client) -> Result<bool, kube::Error> {
    let served = if K::group(&()).is_empty() {
        client.list_core_api_resources(&K::version(&())).await
    } else {
        client.list_api_group_resources(&K::api_version(&())).await
    };
    match served {
        Ok(served) => Ok(served.resources.iter().any(|resource| resource.name == K::plural(&()))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}
