//! The cache of one kind, and its writing end.

use std::{fmt::Debug, sync::Arc};

use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::NamespaceResourceScope,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use userpipeline_api::names::PipelineId;

use super::{compressed::Compressed, deleted::Deleted, unowned::Unowned};

#[derive(Clone)]
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Compressed<K>>,
    deleted: Deleted<K>,
    unowned: Unowned,
    absent: watch::Receiver<bool>,
}

pub struct CacheWriter<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub(super) writer: Writer<Compressed<K>>,
    pub(super) deleted: Deleted<K>,
    unowned: Unowned,
    /// The operator works without the kind.
    absent: watch::Sender<bool>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for CacheWriter<K> {
    fn default() -> Self {
        Self {
            writer: Writer::default(),
            deleted: Deleted::default(),
            unowned: Unowned::default(),
            absent: watch::Sender::new(false),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> CacheWriter<K> {
    pub fn cache(&self) -> Cache<K> {
        Cache {
            store: self.writer.as_reader(),
            deleted: self.deleted.clone(),
            unowned: self.unowned.clone(),
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
        self.apply(&Event::Init);
        for object in objects {
            self.apply(&Event::InitApply(object));
        }
        self.apply(&Event::InitDone);
    }

    /// Follows a watch.
    pub(super) fn apply(&mut self, event: &Event<Compressed<K>>) {
        self.unowned.follow(event);
        self.writer.apply_watcher_event(event);
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

    /// The objects of a namespace that belong to no pipeline, by name. Does not look at the others.
    pub fn of_no_pipeline(&self, namespace: &str) -> Vec<Arc<K>>
    where
        K: DeserializeOwned,
    {
        let names = self.unowned.names(namespace);
        let found = names
            .iter()
            .filter_map(|name| self.store.get(&ObjectRef::new(name).within(namespace)));
        read(&found.collect::<Vec<_>>())
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::json;

    use super::*;
    use crate::pipeline::model::labels;

    fn job(namespace: &str, name: &str, pipeline: Option<&str>) -> Compressed<Job> {
        let labels = pipeline.map(|pipeline| json!({labels::PIPELINE: pipeline}));
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name, "labels": labels}})).unwrap()
    }

    #[test]
    fn objects_without_a_pipeline_are_found_by_namespace_after_each_event() {
        let mut writer = CacheWriter::<Job>::default();
        let cache = writer.cache();
        let names = |namespace: &str| -> Vec<String> { cache.of_no_pipeline(namespace).iter().map(|job| job.name_any()).collect() };
        let listed = || {
            vec![
                job("b", "check-2", None),
                job("b", "check-1", None),
                job("b", "run", Some("users")),
                job("a", "check", None),
            ]
        };
        writer.fill(listed());
        assert_eq!(
            (names("a"), names("b")),
            (vec!["check".to_owned()], vec!["check-1".to_owned(), "check-2".to_owned()])
        );
        assert_eq!(names("c"), [""; 0]);

        writer.apply(&Event::Apply(job("c", "check", None)));
        writer.apply(&Event::Apply(job("b", "check-1", Some("users"))));
        writer.apply(&Event::Delete(job("a", "check", None)));
        assert_eq!(
            (names("a"), names("b"), names("c")),
            (vec![], vec!["check-2".to_owned()], vec!["check".to_owned()])
        );

        // A list takes the place of everything once it is complete
        writer.apply(&Event::Init);
        writer.apply(&Event::InitApply(job("a", "check", None)));
        assert_eq!(names("c"), ["check"]);
        writer.apply(&Event::InitDone);
        assert_eq!((names("a"), names("b"), names("c")), (vec!["check".to_owned()], vec![], vec![]));
    }
}
