//! Which objects of a cache belong to no pipeline. They are few, and looked for often while checks of connections run.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{Resource, ResourceExt, runtime::watcher::Event};

use super::compressed::Compressed;

/// Namespace and name.
type Key = (String, String);

#[derive(Default)]
struct State {
    keys: BTreeSet<Key>,
    /// Those of the list that is being received.
    listed: BTreeSet<Key>,
}

/// The objects without a pipeline. Follows the events of a watch, as the store does.
#[derive(Clone, Default)]
pub struct Unowned(Arc<Mutex<State>>);

impl Unowned {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn follow<K: Resource<DynamicType = ()>>(&self, event: &Event<Compressed<K>>) {
        let mut state = self.state();
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(object) => {
                if object.pipeline().is_none() {
                    state.listed.insert(key(object));
                }
            }
            Event::InitDone => state.keys = std::mem::take(&mut state.listed),
            Event::Apply(object) if object.pipeline().is_none() => {
                state.keys.insert(key(object));
            }
            Event::Apply(object) | Event::Delete(object) => {
                state.keys.remove(&key(object));
            }
        }
    }

    /// The names of those in a namespace.
    pub fn names(&self, namespace: &str) -> Vec<String> {
        let first = (namespace.to_owned(), String::new());
        let state = self.state();
        let of_namespace = state.keys.range(first..).take_while(|(other, _)| other == namespace);
        of_namespace.map(|(_, name)| name.clone()).collect()
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &Compressed<K>) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
