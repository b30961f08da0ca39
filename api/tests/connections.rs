//! Connections: a pipeline that is moved to an equal connection stays as it is.

#![allow(clippy::unwrap_used)]

use serde::Deserialize as _;
use serde_json::{Value, json};
use userpipeline_api::{
    Connections, ResolvedPipeline, UserPipeline,
    document::{Binary, IngestPipeline, WorkerPipeline, reduce, schema_mounts},
    resolve,
};

/// The examples, all of which use connections.
const EXAMPLES: [&str; 5] = [
    include_str!("../../examples/activity.yaml"),
    include_str!("../../examples/directory.yaml"),
    include_str!("../../examples/residents.yaml"),
    include_str!("../../examples/telemetry.yaml"),
    include_str!("../../examples/users.yaml"),
];
const CONNECTIONS: &str = include_str!("../../examples/connections.yaml");
const OWN_ADDRESSES: &str = include_str!("pipelines/own_addresses.yaml");

fn parse(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// The specs of the connections `stores` and `source`.
fn specs() -> [Value; 2] {
    let documents = serde_yaml::Deserializer::from_str(CONNECTIONS).map(|document| Value::deserialize(document).unwrap());
    let documents: Vec<Value> = documents.collect();
    ["stores", "source"].map(|name| {
        let named = documents.iter().find(|document| document["metadata"]["name"] == name);
        named.unwrap()["spec"].clone()
    })
}

fn connections() -> Connections {
    let [stores, source] = specs().map(|spec| Ok(serde_json::from_value(spec).unwrap()));
    [("stores".to_owned(), stores), ("source".to_owned(), source)].into()
}

/// Adds these members to a block, which may not exist.
fn add(block: &mut Value, members: &Value) {
    if block.is_null() {
        *block = json!({});
    }
    block.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
}

/// The pipeline with the blocks of its connections as its own.
fn with_own_addresses(mut pipeline: Value) -> Value {
    let [mut stores, source] = specs();
    let spec = &mut pipeline["spec"];
    spec.as_object_mut().unwrap().remove("connections");
    spec["postgres"] = stores["postgres"].clone();
    add(&mut spec["kafka"], &stores["kafka"]);
    if spec["source"]["topic"]["format"] != "JSON" {
        add(&mut spec["schemaRegistry"], &stores["schemaRegistry"]);
    }
    let replication = stores["cassandra"].as_object_mut().unwrap().remove("replication");
    spec["sinks"]["cassandra"]["replication"] = replication.unwrap();
    spec["cassandra"] = stores["cassandra"].clone();
    if let Some(http) = spec["source"].get_mut("http") {
        let path = http.as_object_mut().unwrap().remove("path").unwrap();
        let url = format!("{}{}", source["http"]["baseUrl"].as_str().unwrap(), path.as_str().unwrap());
        add(http, &json!({"url": url, "tls": source["http"]["tls"]}));
    }
    pipeline
}

fn resolved(pipeline: Value, connections: &Connections) -> ResolvedPipeline {
    resolve(&serde_json::from_value::<UserPipeline>(pipeline).unwrap(), connections).unwrap()
}

fn assert_equal_documents(one: &ResolvedPipeline, other: &ResolvedPipeline) {
    for binary in [Binary::Ingest, Binary::Worker, Binary::Schema] {
        assert_eq!(reduce(one, binary), reduce(other, binary), "{binary:?} of {}", one.id);
        assert_eq!(binary.mounts(one), binary.mounts(other), "{binary:?} of {}", one.id);
    }
}

#[test]
fn a_pipeline_that_is_moved_to_equal_connections_has_the_same_documents_and_mounts() {
    for text in EXAMPLES {
        let own = resolved(with_own_addresses(parse(text)), &Connections::new());
        assert_equal_documents(&resolved(parse(text), &connections()), &own);
    }
    let users = parse(EXAMPLES[4]);
    assert_equal_documents(
        &resolved(users, &connections()),
        &resolved(parse(OWN_ADDRESSES), &Connections::new()),
    );
}

#[test]
fn the_mounts_of_a_schema_document_follow_from_it() {
    for text in EXAMPLES {
        let pipeline = resolved(parse(text), &connections());
        let text = reduce(&pipeline, Binary::Schema);
        assert_eq!(schema_mounts(&text).unwrap(), Binary::Schema.mounts(&pipeline));
    }
}

#[test]
fn a_program_says_that_it_does_not_read_connections() {
    let text = EXAMPLES[4];
    for error in [IngestPipeline::read(text).unwrap_err(), WorkerPipeline::read(text).unwrap_err()] {
        assert!(error.to_string().contains("programs do not read spec.connections"), "{error}");
    }
}
