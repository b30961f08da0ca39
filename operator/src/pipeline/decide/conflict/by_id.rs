//! Values by pipeline. They are looked up with borrowed names: each reconcile looks for every pipeline of the cluster.

use std::collections::HashMap;

use userpipeline_api::names::PipelineId;

pub(super) struct ById<T> {
    by_namespace: HashMap<String, HashMap<String, T>>,
    len: usize,
}

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self {
            by_namespace: HashMap::new(),
            len: 0,
        }
    }
}

impl<T> ById<T> {
    pub const fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.by_namespace.get(namespace)?.get(name)
    }

    pub fn of(&self, id: &PipelineId) -> Option<&T> {
        self.get(&id.namespace, &id.name)
    }

    pub fn insert(&mut self, id: PipelineId, value: T) {
        let before = self.by_namespace.entry(id.namespace).or_default().insert(id.name, value);
        self.len += usize::from(before.is_none());
    }

    pub fn remove(&mut self, id: &PipelineId) -> Option<T> {
        let of_namespace = self.by_namespace.get_mut(&id.namespace)?;
        let removed = of_namespace.remove(&id.name)?;
        if of_namespace.is_empty() {
            self.by_namespace.remove(&id.namespace);
        }
        self.len -= 1;
        Some(removed)
    }

    /// The ids of all.
    pub fn ids(&self) -> impl Iterator<Item = PipelineId> {
        self.by_namespace.iter().flat_map(|(namespace, of_namespace)| {
            of_namespace.keys().map(|name| PipelineId {
                namespace: namespace.clone(),
                name: name.clone(),
            })
        })
    }

    /// All, with their namespaces.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.by_namespace
            .iter_mut()
            .flat_map(|(namespace, of_namespace)| of_namespace.values_mut().map(|value| (namespace.as_str(), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_same_name_in_two_namespaces_are_apart_and_counted() {
        let id = |namespace: &str, name: &str| PipelineId {
            namespace: namespace.into(),
            name: name.into(),
        };
        let mut values = ById::default();
        for (namespace, name, value) in [("a", "users", 1), ("b", "users", 2), ("b", "orders", 3), ("a", "users", 4)] {
            values.insert(id(namespace, name), value);
        }
        assert_eq!(
            (values.len(), values.get("a", "users"), values.of(&id("b", "users"))),
            (3, Some(&4), Some(&2))
        );
        assert_eq!(
            (
                values.remove(&id("a", "users")),
                values.remove(&id("a", "users")),
                values.remove(&id("b", "x"))
            ),
            (Some(4), None, None)
        );
        let mut ids: Vec<String> = values.ids().map(|id| id.to_string()).collect();
        ids.sort();
        assert_eq!((ids, values.len()), (vec!["b/orders".to_owned(), "b/users".to_owned()], 2));
        let all: i32 = values
            .iter_mut()
            .filter(|(namespace, _)| *namespace == "b")
            .map(|(_, value)| *value)
            .sum();
        assert_eq!(all, 5);
    }
}
