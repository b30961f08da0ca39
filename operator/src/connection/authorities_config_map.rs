//! Writes the ConfigMap with the authorities of a connection's Kafka listener, which pods mount.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};

use super::authorities::bundle;
use crate::{
    identity::MANAGER,
    metrics::Metrics,
    pipeline::{AUTHORITIES_KEY, Caches, ConnectionId, Owner, authorities_config_map, authorities_of},
};

/// The ConfigMap of this name belongs to something else.
pub struct NotOurs {
    pub name: String,
}

/// Applies it where it is missing or has drifted. It never replaces a ConfigMap that is not of this connection.
pub async fn apply(
    certificates: &[String],
    owner: &Owner,
    caches: &Caches,
    client: &Client,
    metrics: &Metrics,
) -> Result<Result<(), NotOurs>, kube::Error> {
    let mut desired = authorities_config_map(owner, AUTHORITIES_KEY, bundle(certificates));
    let name = desired.name_any();
    let id = ConnectionId {
        namespace: owner.id.namespace.clone(),
        name: owner.id.name.clone(),
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &id.namespace);
    let mut known = authorities_of(&id, &caches.children).into_iter();
    let known = known.find(|live| live.name_any() == name && is_owned(live, owner));
    let live = match known {
        Some(live) if is_current(&live, &desired) => return Ok(Ok(())),
        Some(live) => (*live).clone(),
        None => {
            let params = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            match api.create(&params, &desired).await {
                Ok(_) => {
                    metrics.wrote("ConfigMap", "create");
                    return Ok(Ok(()));
                }
                // A foreign one; or the cache is behind, or labels were removed.
                Err(kube::Error::Api(status)) if status.code == 409 => api.get(&name).await?,
                Err(error) => return Err(error),
            }
        }
    };
    if !is_owned(&live, owner) {
        return Ok(Err(NotOurs { name }));
    }
    if is_current(&live, &desired) {
        return Ok(Ok(()));
    }
    // The uid keeps the write from another ConfigMap of the same name.
    desired.metadata.uid.clone_from(&live.metadata.uid);
    let params = PatchParams::apply(MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&desired)).await?;
    metrics.wrote("ConfigMap", "patch");
    Ok(Ok(()))
}

fn is_owned(config_map: &ConfigMap, owner: &Owner) -> bool {
    config_map.owner_references().iter().any(|reference| reference.uid == owner.uid)
}

fn is_current(live: &ConfigMap, desired: &ConfigMap) -> bool {
    let has_labels = desired.labels().iter().all(|(name, value)| live.labels().get(name) == Some(value));
    has_labels && live.data == desired.data && live.binary_data.is_none()
}
