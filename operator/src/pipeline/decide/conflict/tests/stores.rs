//! Stores that are identified by what their servers report.

use serde_json::{Value, json};
use userpipeline_api::{StoreAddress, StoreObject, StoreObjectKind, UserPipelineStatus};

use super::{super::*, EARLY, LATE, cached, check, foreign, named, no_connections, of, victim};

/// With what schema Jobs have reported: the ids of Kafka, PostgreSQL and Cassandra at their addresses; empty where unknown.
fn identified(mut pipeline: UserPipeline, ids: [&str; 3], created: &[StoreObject]) -> UserPipeline {
    let spec = &pipeline.spec;
    let servers = spec.kafka.as_ref().and_then(|kafka| kafka.bootstrap_servers.clone()).unwrap();
    let addresses = [
        Some(StoreAddress::kafka(&servers)),
        spec.postgres.as_ref().map(StoreAddress::postgres),
        spec.cassandra.as_ref().map(StoreAddress::cassandra),
    ];
    let stores = addresses.into_iter().flatten().zip(ids).filter(|(_, id)| !id.is_empty());
    pipeline.status = Some(UserPipelineStatus {
        store_identities: stores.map(|(address, id)| address.identified([id.to_owned()])).collect(),
        created_objects: Some(created.to_vec()),
        ..UserPipelineStatus::default()
    });
    pipeline
}

/// Names that two pipelines set, and addresses that differ.
fn at(kafka: &str, postgres: &str, cassandra: &str) -> Value {
    json!({
        "kafka": {"groupId": "g", "bootstrapServers": kafka},
        "postgres": {"host": postgres},
        "landing": {"table": "t"},
        "cassandra": {"contactPoints": [cassandra]},
        "sinks": {"cassandra": {"keyspace": "k", "table": "t", "replication": {"dc1": 1}}},
    })
}

#[test]
fn a_store_is_recognised_by_its_id_at_whatever_address() {
    let (group, table, in_cassandra) = (
        Some("consumer group g"),
        Some("table t in PostgreSQL"),
        Some("table k.t in Cassandra"),
    );
    for (case, one, other, what) in [
        ("the same Kafka cluster", ["k1", "p1", "c1"], ["k1", "p2", "c2"], group),
        ("the same database", ["k1", "p1", "c1"], ["k2", "p1", "c2"], table),
        ("the same node of Cassandra", ["k1", "p1", "c1"], ["k2", "p2", "c1"], in_cassandra),
        ("other stores", ["k1", "p1", "c1"], ["k2", "p2", "c2"], None),
        ("only one is identified", ["k1", "p1", "c1"], ["", "", ""], None),
        ("none is identified", ["", "", ""], ["", "", ""], None),
    ] {
        let older = identified(named("older", EARLY, &at("a:9092", "a", "a")), one, &[]);
        let newer = identified(named("newer", LATE, &at("10.0.0.7:9093", "10.0.0.7", "b:9042")), other, &[]);
        let both = [older.clone(), newer.clone()];
        assert_eq!(of(&newer, &both).map(|found| found.what).as_deref(), what, "{case}");
        assert_eq!(of(&older, &both), None, "{case}: the older one is unaffected");
    }
}

#[test]
fn an_address_without_a_port_is_that_with_the_default_port() {
    let cassandra = |point: &str| json!({"cassandra": {"contactPoints": [point]}, "sinks": {"cassandra": {"keyspace": "k", "table": "t", "replication": {"dc1": 1}}}});
    let kafka = |servers: &str| json!({"kafka": {"groupId": "g", "bootstrapServers": servers}});
    check(&cassandra("c"), &cassandra("c:9042"), Some("table k.t in Cassandra"));
    check(&cassandra("c:9042"), &cassandra("C.demo.svc"), Some("table k.t in Cassandra"));
    check(&cassandra("c:9142"), &cassandra("c"), None);
    check(
        &cassandra("[fd00::7]:9042"),
        &cassandra("FD00:0::7"),
        Some("table k.t in Cassandra"),
    );
    check(
        &kafka("b.demo:9092"),
        &kafka("B.demo.svc.cluster.local.:9092"),
        Some("consumer group g"),
    );
}

#[test]
fn an_id_that_was_reported_at_another_address_does_not_count() {
    let older = identified(named("older", EARLY, &at("a:9092", "a", "a")), ["k1", "", ""], &[]);
    let mut moved = identified(named("newer", LATE, &at("b:9092", "b", "b")), ["k1", "", ""], &[]);
    moved.spec.kafka.as_mut().unwrap().bootstrap_servers = Some("c:9092".to_owned());
    assert_eq!(of(&moved, &[older, moved.clone()]), None);
}

#[test]
fn an_identified_store_is_known_without_a_change_of_the_spec() {
    let older = identified(named("older", EARLY, &at("a:9092", "a", "a")), ["k1", "p1", "c1"], &[]);
    let unknown = named("newer", LATE, &at("b:9092", "b", "b"));
    let index = ResourceIndex::default();
    let all = [cached(&older), cached(&unknown)];
    assert_eq!(index.conflict(&unknown, &all, &no_connections()), None);
    let known = identified(unknown, ["k1", "p2", "c2"], &[]);
    let found = index.conflict(&known, &all, &no_connections()).unwrap();
    assert_eq!(found.what, "consumer group g");
}

#[test]
fn a_schema_job_learns_which_names_others_use_until_its_own_stores_are_identified() {
    let older = identified(named("older", EARLY, &at("a:9092", "a", "a")), ["k1", "p1", "c1"], &[]);
    let unnamed = named("unrelated", EARLY, &json!({}));
    let taken = |pipeline: &UserPipeline, other: &UserPipeline| {
        let all = [cached(other), cached(&unnamed), cached(pipeline)];
        let taken = ResourceIndex::default().taken_elsewhere(pipeline, &all, &no_connections());
        taken
            .into_iter()
            .map(|name| format!("{} {}", name.store, name.what))
            .collect::<Vec<_>>()
    };
    let newer = |ids: [&str; 3]| identified(named("newer", LATE, &at("b:9092", "b", "b")), ids, &[]);
    let all = ["c1 table k.t in Cassandra", "k1 consumer group g", "p1 table t in PostgreSQL"];
    assert_eq!(taken(&newer(["", "", ""]), &older), all);
    assert_eq!(taken(&newer(["k2", "", ""]), &older), [all[0], all[2]]);
    assert_eq!(taken(&newer(["k2", "p2", "c2"]), &older), [""; 0]);
    let younger = identified(
        named("younger", "2025-01-03T00:00:00Z", &at("a:9092", "a", "a")),
        ["k1", "p1", "c1"],
        &[],
    );
    assert_eq!(taken(&newer(["", "", ""]), &younger), [""; 0], "they are the older pipeline's");
    let unidentified = named("older", EARLY, &at("a:9092", "a", "a"));
    assert_eq!(taken(&newer(["", "", ""]), &unidentified), [""; 0], "addresses decide");
}

#[test]
fn what_a_pipeline_created_is_not_taken_by_an_older_one_of_another_namespace() {
    let names = json!({"kafka": {"topic": {"name": "payments", "partitions": 1}, "groupId": "payments"}});
    let created = [
        StoreObject::new(StoreObjectKind::Topic, "k1", "payments"),
        StoreObject::new(StoreObjectKind::ConsumerGroup, "k1", "payments"),
    ];
    for (case, ids, created, what) in [
        ("created", ["k1", "", ""], &created[..], Some("topic payments")),
        ("only the topic", ["k1", "", ""], &created[..1], Some("topic payments")),
        ("in another cluster", ["k2", "", ""], &created[..], None),
        ("adopted", ["k1", "", ""], &[], None),
    ] {
        let owner = identified(victim(LATE, &names), ids, created);
        let thief = foreign("thief", EARLY, &names);
        let both = [owner.clone(), thief.clone()];
        assert_eq!(of(&thief, &both).map(|found| found.what).as_deref(), what, "{case}");
    }
}
