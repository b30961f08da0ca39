//! The watch of one kind in one namespace. While the kind cannot be watched, its view says why.

use std::{collections::BTreeMap, fmt::Debug, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, ListParams},
    core::DynamicResourceScope,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    resources::Kind,
    served::{is_allowed, served},
    view::{Objects, Unavailable, ViewWriter},
};

/// The pauses before the next attempt to watch a kind.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// While it is unavailable.
    pub unavailable: Duration,
    /// After a request that failed.
    pub failed: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            // With the list request, a kind is in use within a minute of its installation.
            unavailable: Duration::from_secs(50),
            failed: Duration::from_secs(5),
        }
    }
}

/// Objects in one page of a list.
const PAGE: u32 = 100;

/// What a watch reports, after its view has it.
pub enum Change<K> {
    /// An object was listed, created, changed or deleted.
    Object(Arc<K>),
    /// All objects became available or unavailable.
    Availability,
}

/// Watches for ever.
pub async fn watch<K>(client: Client, kind: Kind, namespace: String, writer: ViewWriter<K>, retry: Retry, changed: impl Fn(Change<K>))
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    loop {
        let wait = match usable(&client, kind, &namespace).await {
            Ok(Ok(resource)) => {
                follow(&client, &resource, &namespace, &writer, &changed).await;
                retry.failed
            }
            Ok(Err(why)) => {
                if writer.mark_unavailable(why.clone()) {
                    tracing::info!(kind = kind.name(), namespace, "{why}");
                    changed(Change::Availability);
                }
                retry.unavailable
            }
            // It may be served none the less, so what is known stays.
            Err(error) => {
                tracing::warn!(kind = kind.name(), namespace, %error, "asking whether the kind is served failed; it is retried");
                retry.failed
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Fills a view once.
pub async fn load<K>(client: &Client, kind: Kind, namespace: &str, writer: &ViewWriter<K>) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let Some(resource) = served(client, kind).await? else {
        writer.mark_unavailable(Unavailable::NotServed { kind });
        return Ok(());
    };
    let api: Api<K> = Api::namespaced_with(client.clone(), namespace, &resource);
    let listed = api.list(&ListParams::default()).await?.items.into_iter();
    let by_name = listed.map(|object| (object.name_any(), Arc::new(reduced(object)))).collect();
    writer.fill(Objects { resource, by_name });
    Ok(())
}

async fn usable(client: &Client, kind: Kind, namespace: &str) -> Result<Result<ApiResource, Unavailable>, kube::Error> {
    let Some(resource) = served(client, kind).await? else {
        return Ok(Err(Unavailable::NotServed { kind }));
    };
    for verb in ["list", "watch"] {
        if !is_allowed(client, kind, namespace, verb).await? {
            let namespace = namespace.to_owned();
            return Ok(Err(Unavailable::NotAllowed { kind, namespace, verb }));
        }
    }
    Ok(Ok(resource))
}

/// Ends when the kind may have become unavailable.
async fn follow<K>(client: &Client, resource: &ApiResource, namespace: &str, writer: &ViewWriter<K>, changed: &impl Fn(Change<K>))
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<K> = Api::namespaced_with(client.clone(), namespace, resource);
    let mut events = pin!(watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff());
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(object.name_any(), Arc::new(reduced(object)));
            }
            Ok(Event::InitDone) => {
                let by_name = std::mem::take(&mut listed);
                let resource = resource.clone();
                writer.fill(Objects { resource, by_name });
                changed(Change::Availability);
            }
            Ok(Event::Apply(object)) => {
                let object = Arc::new(reduced(object));
                writer.set(object.name_any(), Some(object.clone()));
                changed(Change::Object(object));
            }
            Ok(Event::Delete(object)) => {
                writer.set(object.name_any(), None);
                changed(Change::Object(Arc::new(object)));
            }
            Err(error) if may_be_unavailable(&error) => return,
            Err(error) => tracing::warn!(kind = resource.kind, namespace, %error, "watch failed; it is restarted"),
        }
    }
}

/// Without what the operator never reads.
fn reduced<K: Resource>(mut object: K) -> K {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.annotations
        .iter_mut()
        .for_each(|annotations| annotations.retain(|name, _| !name.starts_with("kubectl.kubernetes.io/")));
    object
}

fn may_be_unavailable(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    matches!(code, 403 | 404)
}
