//! Connections: a pipeline that is moved to an equal connection stays as it is.

#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value, json};
use userpipeline_api::{
    Connections, ResolvedPipeline, UserPipeline, UserPipelineConnectionSpec,
    document::{Binary, IngestPipeline, WorkerPipeline, reduce, schema_mounts},
    resolve,
};

const EXAMPLES: [&str; 5] = [
    include_str!("../../examples/activity.yaml"),
    include_str!("../../examples/directory.yaml"),
    include_str!("../../examples/residents.yaml"),
    include_str!("../../examples/telemetry.yaml"),
    include_str!("../../examples/users.yaml"),
];

/// The pipelines of the examples with all blocks of their own.
fn pipelines() -> Vec<Value> {
    let documents = EXAMPLES.iter().flat_map(|text| serde_yaml::Deserializer::from_str(text));
    let documents = documents.map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap());
    let own = documents.filter(|document| document["kind"] == "UserPipeline" && document["spec"].get("connections").is_none());
    own.map(|pipeline| {
        let typed: UserPipeline = serde_json::from_value(pipeline).unwrap();
        serde_json::to_value(typed).unwrap()
    })
    .collect()
}

/// Moves these members of a block into another object.
fn take(block: &mut Value, members: &[&str]) -> Value {
    let Some(block) = block.as_object_mut() else { return Value::Null };
    let taken: Map<String, Value> = members
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), block.remove(*name)?)))
        .collect();
    Value::Object(taken)
}

/// The pipeline without its blocks, and a connection that has them.
fn moved(mut pipeline: Value) -> (Value, Value) {
    let spec = &mut pipeline["spec"];
    let mut connection = take(spec, &["postgres", "cassandra"]);
    connection["kafka"] = take(&mut spec["kafka"], &["bootstrapServers", "tls", "auth"]);
    connection["kafka"]["topic"] = take(&mut spec["kafka"]["topic"], &["replicas", "config", "management"]);
    if spec.get("schemaRegistry").is_some() {
        connection["schemaRegistry"] = take(&mut spec["schemaRegistry"], &["url", "tls", "auth"]);
    }
    if spec["sinks"].get("cassandra").is_some() {
        connection["cassandra"]["replication"] = take(&mut spec["sinks"]["cassandra"], &["replication"])["replication"].clone();
    }
    if let Some(http) = spec["source"].get_mut("http") {
        connection["http"] = take(http, &["auth", "tls", "allowedHosts", "headers"]);
        let url = http["url"].as_str().unwrap().to_owned();
        let path = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
        connection["http"]["baseUrl"] = json!(url[..path]);
        http.as_object_mut().unwrap().remove("url");
        http["path"] = json!(url[path..]);
    }
    spec["connections"] = json!([{"name": "all"}]);
    (pipeline, connection)
}

fn resolved(pipeline: Value, connections: &Connections) -> ResolvedPipeline {
    resolve(&serde_json::from_value(pipeline).unwrap(), connections).unwrap()
}

#[test]
fn a_pipeline_that_is_moved_to_an_equal_connection_has_the_same_documents_and_mounts() {
    let pipelines = pipelines();
    for pipeline in pipelines.clone() {
        let own = resolved(pipeline.clone(), &Connections::new());
        let (moved, connection) = moved(pipeline);
        let connection: UserPipelineConnectionSpec = serde_json::from_value(connection).unwrap();
        let moved = resolved(moved, &[("all".to_owned(), Ok(connection))].into());
        for binary in [Binary::Ingest, Binary::Worker, Binary::Schema] {
            assert_eq!(reduce(&moved, binary), reduce(&own, binary), "{binary:?} of {}", own.id);
            assert_eq!(binary.mounts(&moved), binary.mounts(&own), "{binary:?} of {}", own.id);
        }
    }
    assert!(!pipelines.is_empty());
}

#[test]
fn the_mounts_of_a_schema_document_follow_from_it() {
    for pipeline in pipelines() {
        let pipeline = resolved(pipeline, &Connections::new());
        let text = reduce(&pipeline, Binary::Schema);
        assert_eq!(schema_mounts(&text).unwrap(), Binary::Schema.mounts(&pipeline));
    }
}

#[test]
fn a_program_says_that_it_does_not_read_connections() {
    let (moved, _) = moved(pipelines().pop().unwrap());
    let text = serde_yaml::to_string(&moved).unwrap();
    for error in [IngestPipeline::read(&text).unwrap_err(), WorkerPipeline::read(&text).unwrap_err()] {
        assert!(error.to_string().contains("programs do not read spec.connections"), "{error}");
    }
}
