//! The objects of a cache by the pipeline that they belong to. A reconcile looks for the children of one pipeline among those of all.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use kube::{
    Resource, ResourceExt,
    runtime::{
        reflector::{ObjectRef, store::Writer},
        watcher::Event,
    },
};

use super::compressed::Compressed;

type Objects<K> = Vec<Arc<Compressed<K>>>;

struct Namespace<K> {
    owned: HashMap<Box<str>, Objects<K>>,
    /// Those that belong to no pipeline.
    unowned: Objects<K>,
}

impl<K> Default for Namespace<K> {
    fn default() -> Self {
        Self {
            owned: HashMap::new(),
            unowned: Vec::new(),
        }
    }
}

/// Follows the events of a watch together with the store, which has the same objects by name.
pub struct Owners<K>(Arc<RwLock<HashMap<Box<str>, Namespace<K>>>>);

impl<K> Clone for Owners<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Owners<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Owners<K> {
    /// Applies an event to the store, and to these. A reader of these sees both or neither.
    pub fn apply(&self, event: &Event<Compressed<K>>, writer: &mut Writer<Compressed<K>>) {
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let store = writer.as_reader();
        match event {
            Event::Apply(object) | Event::Delete(object) => {
                // Its pipeline may have been another one.
                if let Some(before) = store.get(&ObjectRef::from_obj(object)) {
                    remove(&mut namespaces, &before);
                }
                writer.apply_watcher_event(event);
                if let Some(now) = store.get(&ObjectRef::from_obj(object)) {
                    insert(&mut namespaces, now);
                }
            }
            Event::InitDone => {
                writer.apply_watcher_event(event);
                namespaces.clear();
                for object in store.state() {
                    insert(&mut namespaces, object);
                }
            }
            Event::Init | Event::InitApply(_) => writer.apply_watcher_event(event),
        }
    }

    /// The objects of a pipeline, or of none.
    pub fn objects(&self, namespace: &str, pipeline: Option<&str>) -> Objects<K> {
        let namespaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(namespace) = namespaces.get(namespace) else {
            return Vec::new();
        };
        match pipeline {
            Some(pipeline) => namespace.owned.get(pipeline).cloned().unwrap_or_default(),
            None => namespace.unowned.clone(),
        }
    }
}

fn insert<K: Resource<DynamicType = ()>>(namespaces: &mut HashMap<Box<str>, Namespace<K>>, object: Arc<Compressed<K>>) {
    let namespace = object.namespace().unwrap_or_default().into_boxed_str();
    let namespace = namespaces.entry(namespace).or_default();
    match object.pipeline() {
        None => namespace.unowned.push(object),
        Some(pipeline) => match namespace.owned.get_mut(pipeline) {
            Some(objects) => {
                // Most pipelines have few of a kind, and there are many pipelines.
                objects.reserve_exact(1);
                objects.push(object);
            }
            None => {
                namespace.owned.insert(pipeline.into(), vec![object]);
            }
        },
    }
}

fn remove<K: Resource<DynamicType = ()>>(namespaces: &mut HashMap<Box<str>, Namespace<K>>, object: &Arc<Compressed<K>>) {
    let name = object.meta().namespace.as_deref().unwrap_or_default();
    let Some(namespace) = namespaces.get_mut(name) else { return };
    let is_other = |other: &Arc<Compressed<K>>| !Arc::ptr_eq(other, object);
    match object.pipeline() {
        None => namespace.unowned.retain(is_other),
        Some(pipeline) => {
            let Some(objects) = namespace.owned.get_mut(pipeline) else { return };
            objects.retain(is_other);
            if objects.is_empty() {
                namespace.owned.remove(pipeline);
            }
        }
    }
    if namespace.owned.is_empty() && namespace.unowned.is_empty() {
        namespaces.remove(name);
    }
}
