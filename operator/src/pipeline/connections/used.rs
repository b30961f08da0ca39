//! Which blocks of a connection a pipeline uses.

use userpipeline_api::{TopicFormat, UserPipelineConnectionSpec, UserPipelineSpec};

/// The connection without the blocks that the pipeline has itself or does not need.
pub fn used(pipeline: &UserPipelineSpec, connection: UserPipelineConnectionSpec) -> UserPipelineConnectionSpec {
    let has_brokers = pipeline.kafka.as_ref().is_some_and(|kafka| kafka.bootstrap_servers.is_some());
    let has_registry = pipeline.schema_registry.as_ref().is_some_and(|registry| registry.url.is_some());
    let has_avro = pipeline.source.topic.as_ref().is_none_or(|topic| topic.format == TopicFormat::Avro);
    let has_path = pipeline.source.http.as_ref().is_some_and(|http| http.path.is_some());
    UserPipelineConnectionSpec {
        postgres: connection.postgres.filter(|_| pipeline.postgres.is_none()),
        kafka: connection.kafka.filter(|_| !has_brokers),
        schema_registry: connection.schema_registry.filter(|_| has_avro && !has_registry),
        cassandra: connection
            .cassandra
            .filter(|_| pipeline.sinks.cassandra.is_some() && pipeline.cassandra.is_none()),
        http: connection.http.filter(|_| has_path),
    }
}

/// The names of the blocks of a connection.
pub fn blocks(connection: &UserPipelineConnectionSpec) -> impl Iterator<Item = &'static str> {
    let blocks = [
        ("postgres", connection.postgres.is_some()),
        ("kafka", connection.kafka.is_some()),
        ("schemaRegistry", connection.schema_registry.is_some()),
        ("cassandra", connection.cassandra.is_some()),
        ("http", connection.http.is_some()),
    ];
    blocks.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::example;

    #[test]
    fn only_blocks_that_the_pipeline_needs_and_does_not_have_are_used() {
        let (moved, connections) = example::with_connections();
        let mut all = connections["stores"].clone().unwrap();
        all.http = connections["source"].clone().unwrap().http;
        let of = |spec: &UserPipelineSpec| blocks(&used(spec, all.clone())).collect::<Vec<_>>();
        assert_eq!(of(&moved.spec), ["postgres", "kafka", "schemaRegistry", "cassandra", "http"]);
        let mut spec = moved.spec.clone();
        spec.sinks.cassandra = None;
        spec.source.http = None;
        spec.source.topic = Some(serde_json::from_value(json!({"format": "JSON"})).unwrap());
        assert_eq!(of(&spec), ["postgres", "kafka"]);
        assert_eq!(of(&example::pipeline().spec), [""; 0], "it has all of them itself");
    }
}
