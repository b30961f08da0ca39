//! Looks connections up in the cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use userpipeline_api::{
    ConnectionVersion, Connections, UserPipeline, UserPipelineConnection, UserPipelineConnectionSpec, names::PipelineId,
};

use super::{
    listener::with_listener,
    named::{NamedConnections, last_used},
    used::{blocks, used},
};
use crate::pipeline::{
    cache::{Cache, CachedConnection},
    model::{StoredConnection, is_recorded, labels, labels::Component, stored_connections},
    observe::is_of_component,
    validate::connection_problems,
};

#[derive(Clone)]
pub struct ConnectionLookup {
    cache: Cache<UserPipelineConnection>,
    config_maps: Cache<ConfigMap>,
    /// How many changes of connections were reported.
    changes: Arc<AtomicU64>,
}

impl ConnectionLookup {
    /// `config_maps` are the children of pipelines.
    pub fn new(cache: Cache<UserPipelineConnection>, config_maps: Cache<ConfigMap>) -> Self {
        Self {
            cache,
            config_maps,
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
        let mut named = NamedConnections::default();
        named.accepted_stores.extend(accepted_stores(pipeline.annotations()));
        let (mut all, mut offered) = (Vec::new(), BTreeSet::new());
        for connection in &pipeline.spec.connections {
            let name = &connection.name;
            let cached = self.get(&namespace, name);
            if let Some(cached) = &cached {
                let connection = cached.read().ok();
                named
                    .accepted_stores
                    .extend(connection.iter().flat_map(|connection| accepted_stores(connection.annotations())));
            }
            let found = cached.as_ref().map(|cached| (version(cached), usable(cached)));
            if let Some((_, Ok(spec))) = &found {
                offered.extend(blocks(spec));
            }
            all.push((name, found));
        }
        let mut stored = None;
        let mut stored = || stored.get_or_insert_with(|| self.stored(pipeline)).clone();
        for (name, found) in all {
            match found {
                Some((version, Ok(spec))) => {
                    let lost = if is_recorded_version(pipeline, &version) {
                        Vec::new()
                    } else {
                        lost_blocks(pipeline, name, &stored(), &offered)
                    };
                    if lost.is_empty() {
                        named.use_connection(version, spec, &pipeline.spec);
                    } else {
                        let why = format!("has no {} any more", lost.join(", "));
                        named.stand_in(name, Some((version, Err(why))), pipeline, &stored());
                    }
                }
                unusable => named.stand_in(name, unusable, pipeline, &stored()),
            }
        }
        named
    }

    /// The stored versions that children of `pipeline` may still use: while it waits for its turn, and until its workers have the
    /// current ones. None where they have these.
    pub fn earlier_versions(&self, pipeline: &UserPipeline, named: &NamedConnections) -> Option<Vec<Connections>> {
        let status = pipeline.status.as_ref()?;
        let is_current = |version: &ConnectionVersion| status.connections.contains(version);
        if status.connection_rollout.is_none() && named.versions.iter().all(is_current) {
            return None;
        }
        let versions = |stored: Vec<StoredConnection>| stored.into_iter().map(|stored| (stored.name, Ok(stored.spec))).collect();
        Some(self.stored_sets(pipeline).map(versions).collect())
    }

    /// The connections of a pipeline that the operator stored, the newest first.
    fn stored(&self, pipeline: &UserPipeline) -> Vec<StoredConnection> {
        self.stored_sets(pipeline).flatten().collect()
    }

    /// The same by ConfigMap: the connections that were used together.
    fn stored_sets(&self, pipeline: &UserPipeline) -> impl Iterator<Item = Vec<StoredConnection>> {
        let digests = pipeline.status.as_ref().map_or(&[][..], |status| &status.config_digests);
        let mut config_maps = self.config_maps.of_pipeline(&PipelineId::of(pipeline));
        let is_own = |config_map: &ConfigMap| {
            config_map
                .owner_references()
                .iter()
                .any(|owner| Some(&owner.uid) == pipeline.uid().as_ref())
        };
        config_maps.retain(|config_map| {
            is_of_component(config_map.as_ref(), Component::Connections) && is_own(config_map) && is_recorded(config_map, digests)
        });
        config_maps.sort_by_key(|config_map| std::cmp::Reverse(config_map.creation_timestamp()));
        config_maps.into_iter().map(|config_map| stored_connections(&config_map))
    }
}

fn is_recorded_version(pipeline: &UserPipeline, version: &ConnectionVersion) -> bool {
    pipeline.status.as_ref().is_some_and(|status| status.connections.contains(version))
}

/// Blocks that the pipeline used from a connection, and that no connection has any more.
fn lost_blocks(pipeline: &UserPipeline, name: &str, stored: &[StoredConnection], offered: &BTreeSet<&'static str>) -> Vec<&'static str> {
    let Some(last) = last_used(name, pipeline, stored) else {
        return Vec::new();
    };
    let used = used(&pipeline.spec, last.spec.clone());
    blocks(&used).filter(|block| !offered.contains(block)).collect()
}

/// The ids in the annotation, separated by commas. Others than those of Kafka clusters and PostgreSQL databases are ignored.
fn accepted_stores(annotations: &BTreeMap<String, String>) -> Vec<String> {
    let ids = annotations.get(labels::ACCEPT_STORE).into_iter().flat_map(|ids| ids.split(','));
    let is_id = |id: &&str| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-./$".contains(c));
    ids.map(str::trim).filter(is_id).map(str::to_owned).collect()
}

fn version(connection: &CachedConnection) -> ConnectionVersion {
    ConnectionVersion {
        name: connection.name_any(),
        uid: connection.uid().unwrap_or_default(),
        generation: connection.meta().generation.unwrap_or_default(),
        listener: connection.listener().map(str::to_owned),
    }
}

/// The spec of a connection with what its status says of the listener of `kafka.strimzi`, or why no pipeline can use it.
pub fn usable(connection: &CachedConnection) -> Result<UserPipelineConnectionSpec, String> {
    let read = connection.read().map_err(|error| format!("cannot be read: {error}"))?;
    let listener = read.status.and_then(|status| status.kafka);
    with_listener(&connection.name_any(), checked(read.spec)?, listener.as_ref())
}

/// The spec of a connection as written, or why it is invalid.
pub fn valid_spec(connection: &CachedConnection) -> Result<UserPipelineConnectionSpec, String> {
    let read = connection.read().map_err(|error| format!("cannot be read: {error}"))?;
    checked(read.spec)
}

fn checked(spec: UserPipelineConnectionSpec) -> Result<UserPipelineConnectionSpec, String> {
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
            json!({labels::ACCEPT_STORE: "7/users, a_-B,, x y,--plan=1"})
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
        let lookup = ConnectionLookup::new(writer.cache(), CacheWriter::default().cache());
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
                generation: 3,
                listener: None,
            }
        );
        assert_eq!(named.accepted_stores, ["7/users", "a_-B"]);
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
