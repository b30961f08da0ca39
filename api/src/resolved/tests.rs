use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{UserPipelineConnectionSpec, document::Binary};

/// A pipeline that takes everything from connections.
fn pipeline() -> Value {
    json!({
        "apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipeline", "metadata": {"name": "users", "namespace": "demo"},
        "spec": {
            "connections": [{"name": "stores"}, {"name": "crm"}],
            "schedule": {"cron": "@daily"},
            "source": {"http": {"path": "/users"}},
            "sinks": {"cassandra": {}, "postgres": {}},
        },
    })
}

fn connections() -> Value {
    let login = |name: &str| json!({"credentialsSecretRef": {"name": name}});
    json!({
        "stores": {
            "postgres": {"host": "postgres.services", "database": "users", "credentialsSecretRef": {"name": "pg"}},
            "kafka": {
                "bootstrapServers": "kafka.services:9093", "tls": {}, "auth": {"scramSha512": login("kafka")},
                "topic": {"replicas": 3, "config": {"min.insync.replicas": "2", "retention.ms": "1"}, "management": "None"},
            },
            "schemaRegistry": {"url": "https://registry.services", "auth": {"basic": login("registry")}},
            "cassandra": {
                "contactPoints": ["cassandra.services"], "localDatacenter": "dc1", "credentialsSecretRef": {"name": "cassandra"},
                "replication": {"dc1": 3},
            },
        },
        "crm": {"http": {
            "baseUrl": "https://crm.example/api/", "allowedHosts": ["files.example"], "proxy": {"https": "http://proxy:3128"},
            "auth": {"bearer": {"secretKeyRef": {"name": "crm", "key": "token"}}}, "headers": [{"name": "X-Api-Version", "value": "2"}],
        }},
        "other": {
            "postgres": {"host": "other", "database": "users", "credentialsSecretRef": {"name": "pg"}},
            "kafka": {"bootstrapServers": "other:9092"},
            "schemaRegistry": {"url": "http://other"},
            "cassandra": {"contactPoints": ["other"], "localDatacenter": "dc1", "credentialsSecretRef": {"name": "cassandra"}},
            "http": {"baseUrl": "https://other.example"},
        },
    })
}

/// The pipeline with values at these JSON pointers below its spec.
fn resolved(changes: &[(&str, Value)]) -> Result<ResolvedPipeline, ResolveError> {
    let mut pipeline = pipeline();
    for (pointer, value) in changes {
        set(&mut pipeline["spec"], pointer, value.clone());
    }
    let specs: BTreeMap<String, UserPipelineConnectionSpec> = serde_json::from_value(connections()).unwrap();
    let mut connections: Connections = specs.into_iter().map(|(name, spec)| (name, Ok(spec))).collect();
    connections.insert("broken".to_owned(), Err("spec.kafka: invalid type".to_owned()));
    resolve(&serde_json::from_value(pipeline).unwrap(), &connections)
}

fn set(spec: &mut Value, pointer: &str, value: Value) {
    let mut at = spec;
    for part in pointer.trim_start_matches('/').split('/') {
        at = &mut at[part];
    }
    *at = value;
}

fn names(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name})).collect()
}

#[test]
fn blocks_come_from_connections_and_names_stay_the_pipelines() {
    let resolved = resolved(&[]).unwrap();
    let spec = serde_json::to_value(&resolved.spec).unwrap();
    for (pointer, expected) in [
        ("/postgres/host", json!("postgres.services")),
        ("/kafka/bootstrapServers", json!("kafka.services:9093")),
        ("/kafka/auth/scramSha512/credentialsSecretRef/name", json!("kafka")),
        ("/kafka/topic/name", json!("demo.users")),
        ("/kafka/topic/partitions", json!(6)),
        ("/kafka/topic/replicas", json!(3)),
        ("/kafka/topic/management", json!("None")),
        ("/kafka/groupId", json!("demo.users")),
        ("/schemaRegistry/auth/basic/credentialsSecretRef/name", json!("registry")),
        ("/cassandra/contactPoints", json!(["cassandra.services"])),
        ("/sinks/cassandra/replication", json!({"dc1": 3})),
        ("/source/http/url", json!("https://crm.example/api/users")),
        ("/source/http/auth/bearer/secretKeyRef/name", json!("crm")),
        ("/source/http/allowedHosts", json!(["files.example"])),
        ("/source/http/headers/0/name", json!("X-Api-Version")),
    ] {
        assert_eq!(spec.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(spec.pointer("/source/http/path"), None);
    assert!(resolved.ingest_proxy.unwrap().https.is_some());
}

#[test]
fn of_merged_settings_those_of_the_pipeline_win() {
    let changes = [
        (
            "/kafka/topic",
            json!({"replicas": 1, "partitions": 12, "management": "Direct", "config": {"retention.ms": "2", "cleanup.policy": "compact"}}),
        ),
        ("/sinks/cassandra/replication", json!({"dc1": 1, "dc2": 2})),
        ("/source/http/headers", json!([{"name": "Accept", "value": "application/json"}])),
    ];
    let resolved = resolved(&changes).unwrap();
    let topic = resolved.spec.kafka.topic;
    assert_eq!(
        (topic.replicas, topic.partitions, topic.management),
        (1, 12, crate::TopicManagement::Direct)
    );
    assert_eq!(
        serde_json::to_value(topic.config).unwrap(),
        json!({"cleanup.policy": "compact", "min.insync.replicas": "2", "retention.ms": "2"})
    );
    let replication = resolved.spec.sinks.cassandra.unwrap().replication;
    assert_eq!(serde_json::to_value(replication).unwrap(), json!({"dc1": 1, "dc2": 2}));
    let headers: Vec<_> = resolved
        .spec
        .source
        .http
        .unwrap()
        .headers
        .into_iter()
        .map(|header| header.name)
        .collect();
    assert_eq!(headers, ["X-Api-Version", "Accept"]);
}

#[test]
fn a_block_without_exactly_one_place_is_a_problem_that_names_the_places() {
    let postgres = json!({"host": "own", "database": "users", "credentialsSecretRef": {"name": "own"}});
    let cassandra = json!({"contactPoints": ["own"], "localDatacenter": "dc1", "credentialsSecretRef": {"name": "own"}});
    for (changes, says) in [
        (
            vec![("/postgres", postgres)],
            "postgres is defined by spec.postgres and by connection stores: keep one",
        ),
        (
            vec![("/kafka", json!({"bootstrapServers": "own:9092"}))],
            "kafka is defined by spec.kafka.bootstrapServers and by connection stores: keep one",
        ),
        (
            vec![("/schemaRegistry", json!({"url": "http://own"}))],
            "schemaRegistry is defined by spec.schemaRegistry.url and by connection stores: keep one",
        ),
        (
            vec![("/cassandra", cassandra)],
            "cassandra is defined by spec.cassandra and by connection stores: keep one",
        ),
        (
            vec![("/source/http", json!({"url": "http://own/"}))],
            "http is defined by spec.source.http.url and by connection crm: keep one",
        ),
        (
            vec![("/connections", names(&["crm"]))],
            "spec.postgres: is not set, and no connection of spec.connections has postgres: crm",
        ),
        (
            vec![("/connections", names(&["stores"]))],
            "spec.source.http.path: is not set, and no connection of spec.connections has http: stores",
        ),
        (
            vec![("/connections", names(&[]))],
            "spec.postgres: is missing: set it, or name a connection with postgres in spec.connections",
        ),
        (
            vec![("/kafka", json!({"tls": {}}))],
            "spec.kafka: tls and auth belong to bootstrapServers",
        ),
        (
            vec![("/connections", names(&["stores", "crm", "other"]))],
            "kafka is defined by connection stores and by connection other: keep one",
        ),
        (
            vec![("/connections", names(&["other"])), ("/kafka/topic/replicas", json!(2))],
            "spec.sinks.cassandra.replication: is needed to create the keyspace",
        ),
    ] {
        match resolved(&changes) {
            Err(ResolveError::InvalidSpec(problems)) => {
                assert!(problems.iter().any(|problem| problem.starts_with(says)), "{says}: {problems:?}");
            }
            other => panic!("{says}: {other:?}"),
        }
    }
}

#[test]
fn missing_and_unusable_connections_are_named() {
    let connections = |listed: &[&str]| resolved(&[("/connections", names(listed))]).unwrap_err();
    assert_eq!(
        connections(&["stores", "gone", "broken", "away"]),
        ResolveError::ConnectionMissing(vec!["gone".to_owned(), "away".to_owned()])
    );
    assert_eq!(
        connections(&["stores", "broken"]),
        ResolveError::ConnectionInvalid(vec!["broken: spec.kafka: invalid type".to_owned()])
    );
}

#[test]
fn with_a_connections_api_the_pipeline_has_nothing_that_could_send_its_credentials_elsewhere() {
    let secret = json!({"secretKeyRef": {"name": "other", "key": "token"}});
    for (pointer, value, field) in [
        ("/source/http/path", json!("/../admin"), "spec.source.http.path"),
        ("/source/http/path", json!("//evil.example/"), "spec.source.http.path"),
        ("/source/http/auth", json!({"bearer": secret}), "spec.source.http.auth"),
        (
            "/source/http/tls",
            json!({"clientSecretRef": {"name": "other"}}),
            "spec.source.http.tls",
        ),
        (
            "/source/http/allowedHosts",
            json!(["evil.example"]),
            "spec.source.http.allowedHosts",
        ),
        (
            "/source/http/headers",
            json!([{"name": "X-Token", "valueFrom": secret}]),
            "spec.source.http.headers: X-Token",
        ),
        (
            "/source/http/headers",
            json!([{"name": "HOST", "value": "evil.example"}]),
            "spec.source.http.headers: HOST",
        ),
        (
            "/source/http/headers",
            json!([{"name": "x-api-version", "value": "1"}]),
            "spec.source.http.headers: the connection has x-api-version",
        ),
        (
            "/source/http/headers",
            json!([{"name": "AUTHORIZATION", "value": "Bearer x"}]),
            "spec.source.http.headers: AUTHORIZATION is not allowed",
        ),
        (
            "/pods/ingest/proxy",
            json!({"http": "http://evil.example"}),
            "spec.pods.ingest.proxy",
        ),
        (
            "/pods/workers/proxy",
            json!({"http": "http://evil.example"}),
            "spec.pods.workers.proxy",
        ),
        ("/pods/tasks/proxy", json!({"http": "http://evil.example"}), "spec.pods.tasks.proxy"),
        (
            "/source/http/url",
            json!("http://evil.example/"),
            "spec.source.http: needs exactly one",
        ),
    ] {
        match resolved(&[(pointer, value.clone())]) {
            Err(ResolveError::InvalidSpec(problems)) => assert!(problems[0].starts_with(field), "{value}: {problems:?}"),
            other => panic!("{pointer} {value}: {other:?}"),
        }
    }
}

#[test]
fn blocks_that_the_pipeline_does_not_use_are_not_taken() {
    let record = json!({"key": ["id"], "orderBy": "id", "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let changes = [
        ("/source", json!({"topic": {"format": "JSON"}})),
        ("/schedule", Value::Null),
        ("/record", record),
        ("/sinks", json!({"postgres": {}})),
        ("/connections", names(&["stores", "crm"])),
    ];
    let spec = resolved(&changes).unwrap().spec;
    assert!(spec.schema_registry.is_none() && spec.cassandra.is_none() && spec.source.http.is_none());
    let avro = resolved(&[&changes[1..], &[("/source", json!({"topic": {"format": "Avro"}}))]].concat());
    assert_eq!(avro.unwrap().spec.schema_registry.unwrap().url, "https://registry.services");
}

#[test]
fn a_topic_that_strimzi_manages_has_its_recorded_id_in_the_cluster_where_it_was_recorded() {
    let listener = json!({"cluster": "events", "namespace": "kafka", "listener": "tls"});
    for (cluster, management, topic, expected) in [
        ("kafka/events", "Strimzi", "demo.users", Some("a-b")),
        ("kafka/audit", "Strimzi", "demo.users", None),
        ("kafka/events", "Strimzi", "other", None),
        ("kafka/events", "Direct", "demo.users", None),
    ] {
        let mut connections = connections();
        connections["stores"]["kafka"]["strimzi"] = listener.clone();
        connections["stores"]["kafka"]["topic"]["management"] = json!(management);
        let specs: BTreeMap<String, UserPipelineConnectionSpec> = serde_json::from_value(connections).unwrap();
        let connections: Connections = specs.into_iter().map(|(name, spec)| (name, Ok(spec))).collect();
        let mut pipeline = pipeline();
        pipeline["status"] =
            json!({"topics": {"cluster": cluster, "resources": [{"topic": topic, "name": topic, "uid": "u", "id": "a-b"}]}});
        let resolved = resolve(&serde_json::from_value(pipeline).unwrap(), &connections).unwrap();
        assert_eq!(resolved.spec.kafka.topic.id.as_deref(), expected, "{cluster} {management} {topic}");
    }
}

#[test]
fn a_pipeline_gets_a_user_of_its_own_unless_the_connection_names_a_secret() {
    let listener = json!({"cluster": "events", "namespace": "kafka", "listener": "tls"});
    let with = |user: Value| {
        let mut connections = connections();
        connections["stores"]["kafka"] = json!({"strimzi": listener, "bootstrapServers": "b:9093", "auth": {"strimziUser": user}});
        let specs: BTreeMap<String, UserPipelineConnectionSpec> = serde_json::from_value(connections).unwrap();
        let connections: Connections = specs.into_iter().map(|(name, spec)| (name, Ok(spec))).collect();
        resolve(&serde_json::from_value(pipeline()).unwrap(), &connections).unwrap()
    };
    let login = |resolved: &ResolvedPipeline| {
        let auth = resolved.spec.kafka.auth.clone().unwrap();
        format!("{:?}", auth.login().unwrap())
    };
    let (scram, tls) = (
        with(json!({"authentication": "scram-sha-512"})),
        with(json!({"authentication": "tls"})),
    );
    let names = [&scram, &tls].map(|resolved| resolved.kafka_user.clone().unwrap().name);
    assert_ne!(names[0], names[1], "both exist until the workers have changed");
    assert!(names.iter().all(|name| name.starts_with("users-kafka-")), "{names:?}");
    assert!(
        login(&scram).contains(&format!("username: Some({:?})", names[0])),
        "{}",
        login(&scram)
    );
    assert_eq!(
        login(&tls),
        format!("Certificate {{ secret: SecretRef {{ name: {:?} }} }}", names[1])
    );
    for binary in [Binary::Ingest, Binary::Worker, Binary::Schema] {
        assert!(binary.mounts(&tls).secrets.contains(&names[1]), "{binary:?}");
    }

    let copied = with(json!({"authentication": "scram-sha-512", "secretRef": {"name": "shop"}}));
    assert_eq!(copied.kafka_user, None);
    assert!(login(&copied).contains("username: Some(\"shop\")"), "{}", login(&copied));
    let renamed = with(json!({"authentication": "scram-sha-512", "secretRef": {"name": "copy"}, "username": "shop"}));
    assert!(login(&renamed).contains("username: Some(\"shop\")"), "{}", login(&renamed));
    assert!(Binary::Schema.mounts(&renamed).secrets.contains(&"copy".to_owned()));
}
