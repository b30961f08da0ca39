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

use super::{compressed::Compressed, deleted::Deleted, owners::Owners};

#[derive(Clone)]
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Compressed<K>>,
    deleted: Deleted<K>,
    owners: Owners<K>,
    absent: watch::Receiver<bool>,
}

pub struct CacheWriter<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub(super) writer: Writer<Compressed<K>>,
    pub(super) deleted: Deleted<K>,
    owners: Owners<K>,
    /// The operator works without the kind.
    absent: watch::Sender<bool>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for CacheWriter<K> {
    fn default() -> Self {
        Self {
            writer: Writer::default(),
            deleted: Deleted::default(),
            owners: Owners::default(),
            absent: watch::Sender::new(false),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> CacheWriter<K> {
    pub fn cache(&self) -> Cache<K> {
        Cache {
            store: self.writer.as_reader(),
            deleted: self.deleted.clone(),
            owners: self.owners.clone(),
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
        self.owners.apply(event, &mut self.writer);
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
        read(&self.owners.objects(namespace, None))
    }

    /// The objects of a pipeline, by name. Does not look at those of others.
    pub fn of_pipeline(&self, id: &PipelineId) -> Vec<Arc<K>>
    where
        K: DeserializeOwned,
    {
        read(&self.owners.objects(&id.namespace, Some(&id.name)))
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

    fn names(found: &[Arc<Job>]) -> Vec<String> {
        found.iter().map(|job| job.name_any()).collect()
    }

    #[test]
    fn objects_are_found_by_their_pipeline_or_namespace_after_each_event() {
        let mut writer = CacheWriter::<Job>::default();
        let cache = writer.cache();
        let unowned = |namespace: &str| names(&cache.of_no_pipeline(namespace));
        let owned = |namespace: &str, name: &str| {
            names(&cache.of_pipeline(&PipelineId {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }))
        };
        writer.fill(vec![
            job("b", "check-2", None),
            job("b", "check-1", None),
            job("b", "run-2", Some("users")),
            job("b", "run-1", Some("users")),
            job("b", "run-3", Some("orders")),
            job("a", "run-1", Some("users")),
            job("a", "check", None),
        ]);
        assert_eq!(
            (unowned("a"), unowned("b"), unowned("c")),
            (vec!["check".to_owned()], vec!["check-1".to_owned(), "check-2".to_owned()], vec![])
        );
        assert_eq!(owned("b", "users"), ["run-1", "run-2"]);
        assert_eq!((owned("b", "orders"), owned("c", "users")), (vec!["run-3".to_owned()], vec![]));

        writer.apply(&Event::Apply(job("c", "check", None)));
        writer.apply(&Event::Apply(job("b", "check-1", Some("users"))));
        writer.apply(&Event::Apply(job("b", "run-1", Some("users"))));
        writer.apply(&Event::Apply(job("b", "run-2", Some("orders"))));
        writer.apply(&Event::Delete(job("a", "check", None)));
        writer.apply(&Event::Delete(job("b", "run-3", Some("orders"))));
        assert_eq!(
            (unowned("a"), unowned("b"), unowned("c")),
            (vec![], vec!["check-2".to_owned()], vec!["check".to_owned()])
        );
        assert_eq!(owned("b", "users"), ["check-1", "run-1"]);
        assert_eq!(
            (owned("b", "orders"), owned("a", "users")),
            (vec!["run-2".to_owned()], vec!["run-1".to_owned()])
        );

        // A list takes the place of everything once it is complete
        writer.apply(&Event::Init);
        writer.apply(&Event::InitApply(job("a", "check", None)));
        assert_eq!((unowned("c"), owned("b", "users").len()), (vec!["check".to_owned()], 2));
        writer.apply(&Event::InitDone);
        assert_eq!(
            (unowned("a"), unowned("b"), unowned("c")),
            (vec!["check".to_owned()], vec![], vec![])
        );
        assert_eq!(owned("b", "users"), [""; 0]);
    }
}
