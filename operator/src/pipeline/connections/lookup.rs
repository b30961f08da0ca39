//! Looks connections up in the cache.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use userpipeline_api::{ConnectionVersion, Connections, UserPipeline, UserPipelineConnection, UserPipelineConnectionSpec};

use crate::pipeline::{
    cache::{Cache, CachedConnection},
    model::labels,
    validate::connection_problems,
};

/// The connections that a pipeline names and that exist.
#[derive(Clone, Debug, Default)]
pub struct NamedConnections {
    pub connections: Connections,
    /// In the order of the pipeline's list.
    pub versions: Vec<ConnectionVersion>,
    /// Ids of stores that are accepted although they are others than before.
    pub accepted_stores: Vec<String>,
}

#[derive(Clone)]
pub struct ConnectionLookup {
    cache: Cache<UserPipelineConnection>,
    /// How many changes of connections were reported.
    changes: Arc<AtomicU64>,
}

impl ConnectionLookup {
    pub fn new(cache: Cache<UserPipelineConnection>) -> Self {
        Self {
            cache,
            changes: Arc::default(),
        }
    }

    /// Another connection was created, changed or deleted, and the cache has the change.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// A number that differs after each change.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<CachedConnection>> {
        self.cache.store().get(&ObjectRef::new(name).within(namespace))
    }

    /// Costs no parsing.
    pub fn version(&self, namespace: &str, name: &str) -> Option<ConnectionVersion> {
        self.get(namespace, name).map(|connection| version(&connection))
    }

    /// The connections that `pipeline` names.
    pub fn named_by(&self, pipeline: &UserPipeline) -> NamedConnections {
        let namespace = pipeline.namespace().unwrap_or_default();
        let accepted = |annotations: &BTreeMap<String, String>| annotations.get(labels::ACCEPT_STORE).cloned();
        let mut named = NamedConnections {
            accepted_stores: accepted(pipeline.annotations()).into_iter().collect(),
            ..NamedConnections::default()
        };
        for connection in &pipeline.spec.connections {
            if let Some(cached) = self.get(&namespace, &connection.name) {
                named.versions.push(version(&cached));
                named
                    .accepted_stores
                    .extend(cached.read().ok().and_then(|connection| accepted(connection.annotations())));
                named.connections.insert(connection.name.clone(), usable(&cached));
            }
        }
        named
    }
}

fn version(connection: &CachedConnection) -> ConnectionVersion {
    ConnectionVersion {
        name: connection.name_any(),
        uid: connection.uid().unwrap_or_default(),
        generation: connection.meta().generation.unwrap_or_default(),
    }
}

/// The spec of a connection, or why no pipeline can use it.
pub fn usable(connection: &CachedConnection) -> Result<UserPipelineConnectionSpec, String> {
    let spec = connection.read().map_err(|error| format!("cannot be read: {error}"))?.spec;
    let problems = connection_problems(&spec);
    if problems.is_empty() { Ok(spec) } else { Err(problems.join("; ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pipeline::cache::CacheWriter;

    fn connection(name: &str, spec: &Value) -> Value {
        let annotations = if name == "good" {
            json!({labels::ACCEPT_STORE: "7"})
        } else {
            json!({})
        };
        json!({"metadata": {"name": name, "namespace": "demo", "uid": format!("uid-{name}"), "generation": 3, "annotations": annotations}, "spec": spec})
    }

    #[test]
    fn a_connection_that_cannot_be_used_does_not_affect_others() {
        let cassandra =
            json!({"contactPoints": ["c"], "localDatacenter": "dc1", "credentialsSecretRef": {"name": "c"}, "replication": {"dc1": 0}});
        let specs = [
            ("good", json!({"http": {"baseUrl": "https://crm.example"}})),
            ("typed", json!({"kafka": "nonsense"})),
            ("long", json!({"http": {"baseUrl": format!("https://{}", "x".repeat(5000))}})),
            ("copies", json!({"cassandra": cassandra})),
        ];
        let mut writer = CacheWriter::default();
        let lookup = ConnectionLookup::new(writer.cache());
        writer.fill_with(specs.iter().map(|(name, spec)| connection(name, spec)));
        let mut pipeline = crate::pipeline::example();
        let listed: Value = specs
            .iter()
            .map(|(name, _)| json!({"name": name}))
            .chain([json!({"name": "gone"})])
            .collect();
        pipeline.spec.connections = serde_json::from_value(listed).unwrap();

        let named = lookup.named_by(&pipeline);
        assert_eq!(named.versions.len(), 4);
        assert_eq!(
            named.versions[0],
            ConnectionVersion {
                name: "good".into(),
                uid: "uid-good".into(),
                generation: 3
            }
        );
        assert_eq!(named.accepted_stores, ["7"; 1]);
        assert!(named.connections["good"].is_ok() && !named.connections.contains_key("gone"));
        for (name, says) in [
            ("typed", "cannot be read: "),
            ("long", "spec.http.baseUrl: is 5008 characters long"),
            ("copies", "spec.cassandra.replication: `dc1: 0` must name a datacenter"),
        ] {
            let why = named.connections[name].as_ref().unwrap_err();
            assert!(why.starts_with(says), "{name}: {why}");
        }
    }
}
