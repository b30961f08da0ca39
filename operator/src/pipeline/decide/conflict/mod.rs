//! Conflicts: two pipelines that would write to the same table, topic or consumer group. The newer one must change nothing.
//!
//! The resources of a pipeline follow from its spec. They are indexed and updated when a pipeline changes, because comparing every
//! pipeline with every other one would cost too much.

mod resources;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use kube::ResourceExt;
use userpipeline_api::{UserPipeline, names::PipelineId};

use self::resources::{Listener, Resource, resources};
use crate::pipeline::{cache::CachedPipeline, model::pipeline_id};

/// The age of a pipeline; for two of the same second, the name decides.
type Age = (Timestamp, PipelineId);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The resource that both pipelines write to.
    pub what: String,
    pub older: PipelineId,
}

#[derive(Default)]
struct Index {
    known: HashMap<PipelineId, Known>,
    users: HashMap<Arc<Resource>, Vec<(Age, Listener)>>,
}

struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    age: Age,
    resources: Vec<(Arc<Resource>, Listener)>,
}

/// The resources of all pipelines.
#[derive(Default)]
pub struct ResourceIndex(Mutex<Index>);

impl ResourceIndex {
    /// The oldest pipeline that uses a resource of `pipeline`, if it is older. `all` are the cached pipelines.
    pub fn conflict(&self, pipeline: &UserPipeline, all: &[Arc<CachedPipeline>]) -> Option<Conflict> {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut existing = HashSet::with_capacity(all.len());
        for other in all {
            existing.insert(pipeline_id(other.as_ref()));
            if !index.knows(other.as_ref()) {
                // A pipeline that cannot be read writes nothing.
                let _ = other.read().map(|other| index.insert(&other));
            }
        }
        // The pipeline that is reconciled may be newer than its cached version.
        if !index.knows(pipeline) {
            index.insert(pipeline);
        }
        let own = PipelineId::of(pipeline);
        let gone: Vec<PipelineId> = index
            .known
            .keys()
            .filter(|id| !existing.contains(*id) && **id != own)
            .cloned()
            .collect();
        for id in gone {
            index.remove(&id);
        }
        index.conflict(&own)
    }
}

impl Index {
    fn knows(&self, pipeline: &impl kube::Resource) -> bool {
        let known = self.known.get(&pipeline_id(pipeline));
        known.is_some_and(|known| known.uid == pipeline.uid() && known.generation >= pipeline.meta().generation)
    }

    fn insert(&mut self, pipeline: &UserPipeline) {
        let id = PipelineId::of(pipeline);
        self.remove(&id);
        let created = pipeline.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |at| at.0);
        let known = Known {
            uid: pipeline.uid(),
            generation: pipeline.metadata.generation,
            age: (created, id.clone()),
            resources: resources(pipeline, &id),
        };
        for (resource, listener) in &known.resources {
            // Nearly all have one user at all times.
            let users = self.users.entry(resource.clone()).or_insert_with(|| Vec::with_capacity(1));
            users.push((known.age.clone(), *listener));
        }
        self.known.insert(id, known);
    }

    fn remove(&mut self, id: &PipelineId) {
        let Some(known) = self.known.remove(id) else { return };
        for (resource, _) in known.resources {
            if let Some(users) = self.users.get_mut(&resource) {
                users.retain(|((_, other), _)| other != id);
                if users.is_empty() {
                    self.users.remove(&resource);
                }
            }
        }
    }

    fn conflict(&self, id: &PipelineId) -> Option<Conflict> {
        let own = self.known.get(id)?;
        let older = own.resources.iter().filter_map(|(resource, listener)| {
            let users = self.users.get(resource)?.iter().filter(|(_, other)| listener.may_share(*other));
            let oldest = users.map(|(age, _)| age).min()?;
            (*oldest < own.age).then_some((resource, oldest))
        });
        let (resource, (_, older)) = older.min_by_key(|(_, oldest)| (*oldest).clone())?;
        Some(Conflict {
            what: resource.what.clone(),
            older: older.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pipeline::example;

    /// A pipeline with this name, and changes to its spec.
    fn named(name: &str, created: &str, more: &Value) -> UserPipeline {
        let mut pipeline = example::pipeline();
        pipeline.metadata.name = Some(name.to_owned());
        pipeline.metadata.uid = Some(name.to_owned());
        pipeline.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
        let mut spec = serde_json::to_value(&pipeline.spec).unwrap();
        for (key, change) in more.as_object().unwrap() {
            for (inner, value) in change.as_object().unwrap() {
                spec[key][inner] = value.clone();
            }
        }
        pipeline.spec = serde_json::from_value(spec).unwrap();
        pipeline
    }

    const EARLY: &str = "2025-01-01T00:00:00Z";
    const LATE: &str = "2025-01-02T00:00:00Z";

    fn cached(pipeline: &UserPipeline) -> Arc<CachedPipeline> {
        Arc::new(serde_json::from_value(serde_json::to_value(pipeline).unwrap()).unwrap())
    }

    fn of(newer: &UserPipeline, others: &[UserPipeline]) -> Option<Conflict> {
        let all: Vec<_> = others.iter().map(cached).collect();
        ResourceIndex::default().conflict(newer, &all)
    }

    /// The newer of two pipelines with these changes conflicts about `what`.
    fn check(one: &Value, other: &Value, what: Option<&str>) {
        let (older, newer) = (named("older", EARLY, one), named("newer", LATE, other));
        let both = [older.clone(), newer.clone()];
        let found = of(&newer, &both);
        assert_eq!(found.as_ref().map(|found| found.what.as_str()), what, "{one} {other}");
        assert!(found.is_none_or(|found| found.older.name == "older"));
        assert_eq!(of(&older, &both), None, "the older one is unaffected");
    }

    #[test]
    fn a_resource_of_two_pipelines_belongs_to_the_older_one() {
        let table = [
            (json!({}), json!({}), None),
            (
                json!({"landing": {"table": "t"}}),
                json!({"landing": {"table": "t"}}),
                Some("table t in PostgreSQL"),
            ),
            (
                json!({"landing": {"table": "t"}}),
                json!({"sinks": {"postgres": {"table": "t"}}}),
                Some("table t in PostgreSQL"),
            ),
            (
                json!({"kafka": {"groupId": "g"}}),
                json!({"kafka": {"groupId": "g"}}),
                Some("consumer group g"),
            ),
            (
                json!({"kafka": {"topic": {"name": "t", "partitions": 3}}}),
                json!({"kafka": {"topic": {"name": "t", "partitions": 3}}}),
                Some("topic t"),
            ),
            (
                json!({"kafka": {"topic": {"name": "t", "partitions": 3}}}),
                json!({"deadLetter": {"topic": "t"}}),
                Some("topic t"),
            ),
            (
                json!({"sinks": {"cassandra": {"keyspace": "k", "table": "t", "replication": {"dc1": 1}}}}),
                json!({"sinks": {"cassandra": {"keyspace": "k", "table": "t", "replication": {"dc1": 1}}}}),
                Some("table k.t in Cassandra"),
            ),
            // Different databases and brokers.
            (
                json!({"landing": {"table": "t"}}),
                json!({"landing": {"table": "t"}, "postgres": {"database": "other"}}),
                None,
            ),
            (
                json!({"kafka": {"groupId": "g"}}),
                json!({"kafka": {"groupId": "g", "bootstrapServers": "other:9092"}}),
                None,
            ),
        ];
        for (one, other, what) in table {
            check(&one, &other, what);
        }
    }

    #[test]
    fn the_same_address_is_recognised_however_it_is_written() {
        let table = [
            (
                json!({"landing": {"table": "t"}, "postgres": {"host": "db.demo.svc.cluster.local"}}),
                json!({"landing": {"table": "t"}, "postgres": {"host": "DB"}}),
                "table t in PostgreSQL",
            ),
            (
                json!({"kafka": {"groupId": "g", "bootstrapServers": "a:9092,b:9092"}}),
                json!({"kafka": {"groupId": "g", "bootstrapServers": "c:9092,b.demo:9092"}}),
                "consumer group g",
            ),
        ];
        for (one, other, what) in table {
            check(&one, &other, Some(what));
        }
    }

    #[test]
    fn a_cluster_is_recognised_at_its_ports_for_plain_text_and_for_tls() {
        let kafka = |servers: &str, more: Value| {
            let mut kafka = json!({"groupId": "g", "bootstrapServers": servers});
            kafka.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"kafka": kafka})
        };
        let cassandra = |point: &str, tls: Value| {
            let sink = json!({"keyspace": "k", "table": "t", "replication": {"dc1": 1}});
            json!({"cassandra": {"contactPoints": [point], "tls": tls}, "sinks": {"cassandra": sink}})
        };
        let (plain, encrypted, disabled) = (json!({}), json!({"tls": {}}), json!({"tls": {"mode": "Disable"}}));
        let sasl = json!({"tls": {}, "auth": {"scramSha512": {"credentialsSecretRef": {"name": "s"}}}});
        let group = Some("consumer group g");
        let table = Some("table k.t in Cassandra");
        for (one, other, what) in [
            (kafka("a:9092", plain.clone()), kafka("a:9093", encrypted.clone()), group),
            (
                kafka("a:9092", plain.clone()),
                kafka("b:9093,a.demo:9093", encrypted.clone()),
                group,
            ),
            (kafka("a:9093", encrypted.clone()), kafka("a:9095", sasl), group),
            (kafka("a:9093", encrypted.clone()), kafka("a:9093", encrypted.clone()), group),
            (kafka("a:9092", plain.clone()), kafka("b:9093", encrypted.clone()), None),
            (kafka("a:31001", plain.clone()), kafka("a:31002", plain.clone()), None),
            (kafka("a:31001", plain), kafka("a:31002", disabled), None),
            (kafka("a:31001", encrypted.clone()), kafka("a:31002", encrypted), None),
            (cassandra("c", Value::Null), cassandra("c:9142", json!({})), table),
            (cassandra("c:9042", Value::Null), cassandra("c:9043", Value::Null), None),
        ] {
            check(&one, &other, what);
        }
    }

    #[test]
    fn a_deleted_or_changed_pipeline_releases_its_resources() {
        let same = json!({"landing": {"table": "t"}});
        let (mut older, newer) = (named("older", EARLY, &same), named("newer", LATE, &same));
        let index = ResourceIndex::default();
        assert!(index.conflict(&newer, &[cached(&older), cached(&newer)]).is_some());
        assert_eq!(index.conflict(&newer, &[cached(&newer)]), None, "it is deleted");
        assert!(index.conflict(&newer, &[cached(&older), cached(&newer)]).is_some());
        older.spec.postgres.database = "elsewhere".into();
        older.metadata.generation = Some(2);
        assert_eq!(index.conflict(&newer, &[cached(&older), cached(&newer)]), None, "it has moved");
    }

    #[test]
    fn given_two_pipelines_of_the_same_second_then_the_name_decides() {
        let same = json!({"landing": {"table": "t"}});
        let (a, b) = (named("a", EARLY, &same), named("b", EARLY, &same));
        let both = [a.clone(), b.clone()];
        assert_eq!(of(&a, &both), None);
        assert_eq!(of(&b, &both).unwrap().older.name, "a");
    }
}
