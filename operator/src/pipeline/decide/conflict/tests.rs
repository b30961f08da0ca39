use serde_json::{Value, json};

use super::*;
use crate::pipeline::{cache::CacheWriter, example};

mod stores;

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

fn no_connections() -> ConnectionLookup {
    ConnectionLookup::new(CacheWriter::default().cache(), CacheWriter::default().cache())
}

fn of(newer: &UserPipeline, others: &[UserPipeline]) -> Option<Conflict> {
    let all: Vec<_> = others.iter().map(cached).collect();
    ResourceIndex::default().conflict(newer, &all, &no_connections())
}

/// The newer of two pipelines with these changes conflicts about `what`.
fn check(one: &Value, other: &Value, what: Option<&str>) {
    let (older, newer) = (named("older", EARLY, one), named("newer", LATE, other));
    let both = [older.clone(), newer.clone()];
    let found = of(&newer, &both);
    assert_eq!(found.as_ref().map(|found| found.what.as_str()), what, "{one} {other}");
    assert!(found.is_none_or(|found| found.owner.unwrap().name == "older"));
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
fn views_and_tables_of_aggregates_belong_to_the_older_pipeline_as_well() {
    let with_aggregate = |name: &str, created: &str, sinks: &Value, more: &Value| {
        let mut pipeline = named(name, created, more);
        let aggregate = json!({"name": name, "groupBy": ["gender"], "values": [{"name": "n", "count": {}}], "sinks": sinks});
        pipeline.spec.aggregates = serde_json::from_value(json!([aggregate])).unwrap();
        pipeline
    };
    let keyspace = |table: &str| json!({"sinks": {"cassandra": {"keyspace": "k", "table": table, "replication": {"dc1": 1}}}});
    for (one, of_one, other, of_other, what) in [
        (json!({}), json!({}), json!({}), json!({}), None),
        (
            json!({"postgres": {"view": "v"}}),
            json!({}),
            json!({"postgres": {"view": "v"}}),
            json!({}),
            Some("table v in PostgreSQL"),
        ),
        (
            json!({}),
            json!({"sinks": {"postgres": {"table": "t"}}}),
            json!({"postgres": {"view": "t"}}),
            json!({}),
            Some("table t in PostgreSQL"),
        ),
        (
            json!({"cassandra": {"table": "totals"}}),
            keyspace("t"),
            json!({"cassandra": {"table": "totals"}}),
            keyspace("u"),
            Some("table k.totals in Cassandra"),
        ),
        (
            json!({}),
            keyspace("t"),
            json!({"cassandra": {"table": "t"}}),
            keyspace("u"),
            Some("table k.t in Cassandra"),
        ),
    ] {
        let older = with_aggregate("older", EARLY, &one, &of_one);
        let newer = with_aggregate("newer", LATE, &other, &of_other);
        let found = of(&newer, &[older, newer.clone()]);
        assert_eq!(found.as_ref().map(|found| found.what.as_str()), what, "{one} {other}");
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
    let (plain, encrypted, omitted) = (json!({"tls": {"mode": "Disable"}}), json!({"tls": {}}), json!({}));
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
        (kafka("a:9092", plain), kafka("a:9093", omitted.clone()), group),
        (kafka("a:31001", encrypted.clone()), kafka("a:31002", encrypted.clone()), None),
        (kafka("a:31001", omitted), kafka("a:31002", encrypted), None),
        (cassandra("c", json!({"mode": "Disable"})), cassandra("c:9142", json!({})), table),
        (cassandra("c", json!({"mode": "Disable"})), cassandra("c:9142", Value::Null), table),
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
    let conflict = |others: &[Arc<CachedPipeline>]| index.conflict(&newer, others, &no_connections());
    assert!(conflict(&[cached(&older), cached(&newer)]).is_some());
    assert_eq!(conflict(&[cached(&newer)]), None, "it is deleted");
    assert!(conflict(&[cached(&older), cached(&newer)]).is_some());
    older.spec.postgres.as_mut().unwrap().database = "elsewhere".into();
    older.metadata.generation = Some(2);
    assert_eq!(conflict(&[cached(&older), cached(&newer)]), None, "it has moved");
}

#[test]
fn given_two_pipelines_of_the_same_second_then_the_name_decides() {
    let same = json!({"landing": {"table": "t"}});
    let (a, b) = (named("a", EARLY, &same), named("b", EARLY, &same));
    let both = [a.clone(), b.clone()];
    assert_eq!(of(&a, &both), None);
    assert_eq!(of(&b, &both).unwrap().owner.unwrap().name, "a");
}

#[test]
fn a_changed_connection_moves_the_resources_of_its_pipelines() {
    let connection = |generation: i64, database: &str| {
        json!({
            "metadata": {"name": "stores", "namespace": "demo", "uid": "stores", "generation": generation},
            "spec": {"postgres": {"host": "postgres", "database": database, "credentialsSecretRef": {"name": "db"}}},
        })
    };
    let same = json!({"landing": {"table": "t"}});
    let (mut older, newer) = (named("older", EARLY, &same), named("newer", LATE, &same));
    older.spec.postgres = None;
    older.spec.connections = serde_json::from_value(json!([{"name": "stores"}])).unwrap();
    let both = [cached(&older), cached(&newer)];
    let mut writer = CacheWriter::default();
    let lookup = ConnectionLookup::new(writer.cache(), CacheWriter::default().cache());
    let index = ResourceIndex::default();
    let mut conflict = |connections: Vec<Value>| {
        writer.fill_with(connections.into_iter());
        lookup.changed();
        index.conflict(&newer, &both, &lookup).map(|found| found.what)
    };
    let taken = Some("table t in PostgreSQL".to_owned());
    assert_eq!(conflict(vec![]), None, "the older one was never applied");
    assert_eq!(conflict(vec![connection(1, "users")]), taken);
    assert_eq!(conflict(vec![connection(2, "elsewhere")]), None);
    assert_eq!(conflict(vec![connection(3, "users")]), taken);
    assert_eq!(conflict(vec![]), taken, "the older one keeps running without its connection");
}

/// The same in another namespace, with the addresses of `demo`.
fn foreign(name: &str, created: &str, more: &Value) -> UserPipeline {
    let mut pipeline = named(name, created, more);
    pipeline.metadata.namespace = Some("other".to_owned());
    let spec = &mut pipeline.spec;
    spec.postgres.as_mut().unwrap().host = "postgres.demo".to_owned();
    let kafka = spec.kafka.as_mut().unwrap();
    kafka.bootstrap_servers = Some("kafka.demo:9092".to_owned());
    if let Some(cassandra) = &mut spec.cassandra {
        cassandra.contact_points = vec!["cassandra.demo".to_owned()];
    }
    pipeline
}

/// The pipeline of `demo` that the foreign one would take a name from.
fn victim(created: &str, more: &Value) -> UserPipeline {
    let mut pipeline = named("users", created, more);
    pipeline.spec.postgres.as_mut().unwrap().host = "postgres.demo".to_owned();
    pipeline.spec.kafka.as_mut().unwrap().bootstrap_servers = Some("kafka.demo:9092".to_owned());
    if let Some(cassandra) = &mut pipeline.spec.cassandra {
        cassandra.contact_points = vec!["cassandra.demo".to_owned()];
    }
    pipeline
}

#[test]
fn a_conflict_reveals_no_name_of_another_namespace() {
    let same = json!({"kafka": {"groupId": "payments"}});
    let (older, newer) = (victim(EARLY, &same), foreign("thief", LATE, &same));
    let found = of(&newer, &[older.clone(), newer.clone()]).unwrap();
    let expected = Conflict {
        what: "consumer group payments".to_owned(),
        owner: None,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_derived_name_cannot_be_taken_by_a_pipeline_of_another_namespace() {
    let nothing = json!({});
    let sets_others = json!({"kafka": {"topic": {"name": "elsewhere", "partitions": 1}, "groupId": "elsewhere"}});
    for (case, taken, what) in [
        (
            "topic",
            json!({"kafka": {"topic": {"name": "demo.users", "partitions": 1}}}),
            "topic demo.users",
        ),
        (
            "dead letters",
            json!({"deadLetter": {"topic": "demo.users.dlq"}}),
            "topic demo.users.dlq",
        ),
        ("group", json!({"kafka": {"groupId": "demo.users"}}), "consumer group demo.users"),
        (
            "table",
            json!({"landing": {"table": "demo_users"}}),
            "table demo_users in PostgreSQL",
        ),
    ] {
        let owner = victim(LATE, &nothing);
        let thief = foreign("thief", EARLY, &taken);
        let both = [owner.clone(), thief.clone()];
        assert_eq!(
            of(&thief, &both).map(|found| found.what).as_deref(),
            Some(what),
            "{case}: although it is older"
        );
        assert_eq!(of(&owner, &both), None, "{case}");

        // The owner uses another topic and group, and the thief is newer.
        let owner = victim(EARLY, &sets_others);
        let thief = foreign("thief", LATE, &taken);
        let both = [owner.clone(), thief.clone()];
        assert_eq!(of(&thief, &both).map(|found| found.what).as_deref(), Some(what), "{case}: reserved");
        assert_eq!(of(&owner, &both), None, "{case}");
    }
    let takes = json!({"kafka": {"topic": {"name": "demo.users", "partitions": 1}}});
    let (owner, same_namespace) = (victim(EARLY, &sets_others), victim(LATE, &takes));
    let mut same_namespace = same_namespace;
    same_namespace.metadata.name = Some("second".to_owned());
    same_namespace.metadata.uid = Some("second".to_owned());
    assert_eq!(
        of(&same_namespace, &[owner, same_namespace.clone()]),
        None,
        "within a namespace, it is not reserved"
    );
    let (earlier, owner) = (foreign("earlier", EARLY, &takes), victim(LATE, &sets_others));
    let both = [earlier.clone(), owner.clone()];
    assert_eq!(
        of(&earlier, &both),
        None,
        "a name that is only reserved is not taken from an older pipeline"
    );
}

#[test]
fn what_another_pipeline_uses_outlives_a_deleted_pipeline() {
    let same = json!({"kafka": {"groupId": "payments"}});
    let (older, newer, second) = (victim(EARLY, &same), foreign("thief", LATE, &same), named("second", LATE, &same));
    let shared = |pipeline: &UserPipeline, other: &UserPipeline| {
        let all = [cached(pipeline), cached(other)];
        ResourceIndex::default().shared(pipeline, &all, &no_connections())
    };
    assert_eq!(shared(&newer, &older), ["consumer group payments"]);
    assert_eq!(shared(&older, &newer), [""; 0], "a name in another namespace keeps nothing");
    let second = UserPipeline {
        spec: older.spec.clone(),
        ..second
    };
    assert_eq!(shared(&older, &second), ["consumer group payments"], "within the namespace");
    let only = [cached(&newer)];
    assert_eq!(ResourceIndex::default().shared(&newer, &only, &no_connections()), [""; 0]);
}
