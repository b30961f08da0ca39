//! The cache of one kind, and its writing end.

use std::{fmt::Debug, sync::Arc};

use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::NamespaceResourceScope,
    runtime::{
        reflector::{Store, store::Writer},
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use userpipeline_api::names::PipelineId;

use super::{compressed::Compressed, deleted::Deleted};

#[derive(Clone)]
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Compressed<K>>,
    deleted: Deleted<K>,
    absent: watch::Receiver<bool>,
}

pub struct CacheWriter<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub(super) writer: Writer<Compressed<K>>,
    pub(super) deleted: Deleted<K>,
    /// The operator works without the kind.
    absent: watch::Sender<bool>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for CacheWriter<K> {
    fn default() -> Self {
        Self {
            writer: Writer::default(),
            deleted: Deleted::default(),
            absent: watch::Sender::new(false),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> CacheWriter<K> {
    pub fn cache(&self) -> Cache<K> {
        Cache {
            store: self.writer.as_reader(),
            deleted: self.deleted.clone(),
            absent: self.absent.subscribe(),
        }
    }

    /// Fills the cache with one list request instead of a watch.
    pub async fn load(&mut self, client: &Client, namespace: Option<&str>, params: &ListParams) -> Result<(), kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope> + Debug,
    {
        let api: Api<Compressed<K>> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let listed = api.list(params).await?;
        self.fill(listed.items);
        Ok(())
    }

    /// Empties the cache of a kind that is absent. Returns whether it was present.
    pub fn mark_absent(&mut self) -> bool {
        // First, so that no reader takes the empty cache of an absent kind for missing objects.
        let was_absent = self.absent.send_replace(true);
        self.fill(Vec::new());
        !was_absent
    }

    /// After the cache was filled. Returns whether the kind was absent.
    pub(super) fn mark_present(&self) -> bool {
        self.absent.send_replace(false)
    }

    /// Fills the cache with these objects.
    #[cfg(test)]
    pub fn fill_with(&mut self, objects: impl Iterator<Item = serde_json::Value>) {
        self.fill(
            objects
                .map(|object| serde_json::from_value(object).expect("a Kubernetes object"))
                .collect(),
        );
    }

    /// Fills the cache with these objects.
    pub fn fill(&mut self, objects: Vec<Compressed<K>>) {
        self.writer.apply_watcher_event(&Event::Init);
        for object in objects {
            self.writer.apply_watcher_event(&Event::InitApply(object));
        }
        self.writer.apply_watcher_event(&Event::InitDone);
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Cache<K> {
    /// Waits until the cache is filled, or its kind is known to be absent; `false` when the watch ended instead.
    pub async fn is_usable(&self) -> bool {
        let mut absent = self.absent.clone();
        let filled = async { self.store.wait_until_ready().await.is_ok() };
        // A closed channel means only that nothing reports absence any more.
        let absent = async {
            if absent.wait_for(|absent| *absent).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            filled = filled => filled,
            () = absent => true,
        }
    }

    pub fn is_absent(&self) -> bool {
        *self.absent.borrow()
    }

    /// The objects that were deleted recently.
    pub const fn deleted(&self) -> &Deleted<K> {
        &self.deleted
    }

    pub const fn store(&self) -> &Store<Compressed<K>> {
        &self.store
    }

    /// The objects of a namespace that belong to no pipeline, by name.
    pub fn of_no_pipeline(&self, namespace: &str) -> Vec<Arc<K>>
    where
        K: DeserializeOwned,
    {
        let is_found = |object: &Compressed<K>| object.meta().namespace.as_deref() == Some(namespace) && object.pipeline().is_none();
        read(&self.store.state_filter(is_found))
    }

    /// The objects of a pipeline, by name.
    pub fn of_pipeline(&self, id: &PipelineId) -> Vec<Arc<K>>
    where
        K: DeserializeOwned,
    {
        let found = self.store.state_filter(|object| {
            object.meta().namespace.as_deref() == Some(id.namespace.as_str()) && object.pipeline() == Some(id.name.as_str())
        });
        read(&found)
    }
}

fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(found: &[Arc<Compressed<K>>]) -> Vec<Arc<K>> {
    let mut found: Vec<Arc<K>> = found.iter().filter_map(|cached| cached.read().ok().map(Arc::new)).collect();
    found.sort_by_key(|object| object.name_any());
    found
}
