//! Two pipelines that would write the same table, topic or consumer group: the younger one must touch nothing.
//!
//! What a pipeline claims follows from its spec. The claims of all pipelines are kept, and brought up to date when one of them
//! has changed: comparing each with each would cost too much.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use userpipeline_api::{TopicManagement, UserPipeline, names, names::PipelineId};

use super::kept::{self, Kept};

/// Something that only one pipeline may have: what it is, for people, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    /// As `topic users`.
    what: String,
    /// As the brokers.
    place: String,
}

/// How old a pipeline is; of two of the same second, the name decides.
type Age = (Timestamp, PipelineId);

/// The pipeline that has something that another one wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What both want.
    pub what: String,
    /// Who was there first.
    pub elder: PipelineId,
}

#[derive(Default)]
struct Index {
    known: HashMap<PipelineId, Known>,
    claimed: HashMap<Arc<Claim>, Vec<Age>>,
}

struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    age: Age,
    claims: Vec<Arc<Claim>>,
}

/// What all pipelines claim.
#[derive(Default)]
pub struct Claims(Mutex<Index>);

impl Claims {
    /// The eldest pipeline that has something that `pipeline` wants, if it is elder. `all` are those that there are.
    pub fn conflict(&self, pipeline: &UserPipeline, all: &[Arc<Kept<UserPipeline>>]) -> Option<Conflict> {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut there = HashSet::with_capacity(all.len());
        for other in all {
            there.insert(kept::id(other.as_ref()));
            if !index.knows(other.as_ref()) {
                // One that cannot be read writes nothing.
                let _ = other.read().map(|other| index.keep(&other));
            }
        }
        // The one that is reconciled may be newer than what was seen of it.
        if !index.knows(pipeline) {
            index.keep(pipeline);
        }
        let own = PipelineId::of(pipeline);
        let gone: Vec<PipelineId> = index
            .known
            .keys()
            .filter(|id| !there.contains(*id) && **id != own)
            .cloned()
            .collect();
        for id in gone {
            index.forget(&id);
        }
        index.elder(&own)
    }
}

impl Index {
    fn knows(&self, pipeline: &impl Resource) -> bool {
        let known = self.known.get(&kept::id(pipeline));
        known.is_some_and(|known| known.uid == pipeline.uid() && known.generation >= pipeline.meta().generation)
    }

    fn keep(&mut self, pipeline: &UserPipeline) {
        let id = PipelineId::of(pipeline);
        self.forget(&id);
        let made = pipeline.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |at| at.0);
        let known = Known {
            uid: pipeline.uid(),
            generation: pipeline.metadata.generation,
            age: (made, id.clone()),
            claims: claims(pipeline, &id).into_iter().map(Arc::new).collect(),
        };
        for claim in &known.claims {
            // Nearly all have one place in all their life.
            let ages = self.claimed.entry(claim.clone()).or_insert_with(|| Vec::with_capacity(1));
            ages.push(known.age.clone());
        }
        self.known.insert(id, known);
    }

    fn forget(&mut self, id: &PipelineId) {
        let Some(known) = self.known.remove(id) else { return };
        for claim in known.claims {
            if let Some(ages) = self.claimed.get_mut(&claim) {
                ages.retain(|(_, other)| other != id);
                if ages.is_empty() {
                    self.claimed.remove(&claim);
                }
            }
        }
    }

    fn elder(&self, id: &PipelineId) -> Option<Conflict> {
        let own = self.known.get(id)?;
        let elders = own.claims.iter().filter_map(|claim| {
            let eldest = self.claimed.get(claim)?.iter().min()?;
            (*eldest < own.age).then_some((claim, eldest))
        });
        let (claim, (_, elder)) = elders.min_by_key(|(_, eldest)| (*eldest).clone())?;
        Some(Conflict {
            what: claim.what.clone(),
            elder: elder.clone(),
        })
    }
}

/// What a pipeline writes to, and where that is.
fn claims(pipeline: &UserPipeline, id: &PipelineId) -> Vec<Claim> {
    let spec = names::with_names(pipeline.spec.clone(), id);
    let mut claims = Vec::new();
    let mut claim = |what: String, place: &str| {
        claims.push(Claim {
            what,
            place: place.to_owned(),
        });
    };
    // Any one of the addresses is enough to be the same cluster.
    for broker in spec.kafka.bootstrap_servers.split(',') {
        let brokers = format!("kafka {}", host(broker.trim(), &id.namespace));
        // A topic that is there for others can be read by many.
        let shared = spec.source.topic.is_some() && spec.kafka.topic.management == TopicManagement::None;
        let topic = spec.kafka.topic.name.iter().filter(|_| !shared);
        for topic in topic.chain(&spec.dead_letter.topic) {
            claim(format!("topic {topic}"), &brokers);
        }
        if let Some(group) = &spec.kafka.group_id {
            claim(format!("consumer group {group}"), &brokers);
        }
    }
    let postgres = &spec.postgres;
    let database = format!(
        "postgres {}:{}/{}",
        host(&postgres.host, &id.namespace),
        postgres.port,
        postgres.database
    );
    let sink = spec.sinks.postgres.as_ref().and_then(|sink| sink.table.as_ref());
    for table in spec.landing.table.iter().chain(sink) {
        claim(format!("table {table} in PostgreSQL"), &database);
    }
    if let (Some(cluster), Some(sink)) = (&spec.cassandra, &spec.sinks.cassandra) {
        let table = format!(
            "table {}.{} in Cassandra",
            sink.keyspace.as_deref().unwrap_or_default(),
            sink.table.as_deref().unwrap_or_default()
        );
        for point in &cluster.contact_points {
            claim(table.clone(), &format!("cassandra {}", host(point, &id.namespace)));
        }
    }
    claims
}

/// An address as it is written in one way only: `db`, `db.stores` and `db.stores.svc.cluster.local` are the same Service.
fn host(address: &str, namespace: &str) -> String {
    let (name, port) = address.split_once(':').map_or((address, None), |(name, port)| (name, Some(port)));
    let mut name = name.trim_end_matches('.').to_ascii_lowercase();
    for suffix in [".cluster.local", ".svc"] {
        if let Some(short) = name.strip_suffix(suffix) {
            name = short.to_owned();
        }
    }
    if !name.contains('.') {
        name = format!("{name}.{namespace}");
    }
    port.map_or(name.clone(), |port| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pipeline::example;

    /// A pipeline of its own, changed in parts of its spec.
    fn named(name: &str, made: &str, more: &Value) -> UserPipeline {
        let mut pipeline = example::pipeline();
        pipeline.metadata.name = Some(name.to_owned());
        pipeline.metadata.uid = Some(name.to_owned());
        pipeline.metadata.creation_timestamp = serde_json::from_value(json!(made)).unwrap();
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

    fn seen(pipeline: &UserPipeline) -> Arc<Kept<UserPipeline>> {
        Arc::new(serde_json::from_value(serde_json::to_value(pipeline).unwrap()).unwrap())
    }

    fn of(younger: &UserPipeline, others: &[UserPipeline]) -> Option<Conflict> {
        let all: Vec<_> = others.iter().map(seen).collect();
        Claims::default().conflict(younger, &all)
    }

    #[test]
    fn what_two_pipelines_would_write_is_the_elders() {
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
            // Elsewhere.
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
            // The same under other names.
            (
                json!({"landing": {"table": "t"}, "postgres": {"host": "db.demo.svc.cluster.local"}}),
                json!({"landing": {"table": "t"}, "postgres": {"host": "DB"}}),
                Some("table t in PostgreSQL"),
            ),
            (
                json!({"kafka": {"groupId": "g", "bootstrapServers": "a:9092,b:9092"}}),
                json!({"kafka": {"groupId": "g", "bootstrapServers": "c:9092,b.demo:9092"}}),
                Some("consumer group g"),
            ),
        ];
        for (one, other, what) in table {
            let (elder, younger) = (named("elder", EARLY, &one), named("younger", LATE, &other));
            let both = [elder.clone(), younger.clone()];
            let found = of(&younger, &both);
            assert_eq!(found.as_ref().map(|found| found.what.as_str()), what, "{one} {other}");
            assert!(found.is_none_or(|found| found.elder.name == "elder"));
            assert_eq!(of(&elder, &both), None, "the elder goes on");
        }
    }

    #[test]
    fn what_is_gone_or_was_changed_is_no_longer_claimed() {
        let same = json!({"landing": {"table": "t"}});
        let (mut elder, younger) = (named("elder", EARLY, &same), named("younger", LATE, &same));
        let claims = Claims::default();
        assert!(claims.conflict(&younger, &[seen(&elder), seen(&younger)]).is_some());
        assert_eq!(claims.conflict(&younger, &[seen(&younger)]), None, "it is deleted");
        assert!(claims.conflict(&younger, &[seen(&elder), seen(&younger)]).is_some());
        elder.spec.postgres.database = "elsewhere".into();
        elder.metadata.generation = Some(2);
        assert_eq!(claims.conflict(&younger, &[seen(&elder), seen(&younger)]), None, "it has moved");
    }

    #[test]
    fn of_two_of_the_same_second_the_name_decides() {
        let same = json!({"landing": {"table": "t"}});
        let (a, b) = (named("a", EARLY, &same), named("b", EARLY, &same));
        let both = [a.clone(), b.clone()];
        assert_eq!(of(&a, &both), None);
        assert_eq!(of(&b, &both).unwrap().elder.name, "a");
    }
}
