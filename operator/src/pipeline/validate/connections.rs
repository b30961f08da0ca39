//! Validates connections, and that pipelines use them where they must.

use std::collections::BTreeMap;

use userpipeline_api::{UserPipelineConnectionSpec, UserPipelineSpec};

use super::bounds;

/// Why no pipeline can use a connection: what the CRD's schema does not check.
pub fn connection_problems(spec: &UserPipelineConnectionSpec) -> Vec<String> {
    let mut problems = bounds::problems(spec);
    let replication = spec.cassandra.as_ref().map(|cassandra| replication_problem(&cassandra.replication));
    problems.extend(
        replication
            .and_then(Result::err)
            .map(|problem| format!("spec.cassandra.replication: {problem}")),
    );
    problems
}

pub(super) fn replication_problem(replication: &BTreeMap<String, i32>) -> Result<(), String> {
    match replication.iter().find(|(name, copies)| **copies < 1 || name.is_empty()) {
        Some((name, copies)) => Err(format!("`{name}: {copies}` must name a datacenter and keep at least 1 copy")),
        None => Ok(()),
    }
}

/// Addresses, Secrets and proxies of a pipeline's own, where the installation requires connections.
pub(super) fn own_addresses(spec: &UserPipelineSpec) -> Vec<String> {
    let http = spec.source.http.as_ref();
    let has_secret_headers = http.is_some_and(|http| http.headers.iter().any(|header| header.value_from.is_some()));
    let pods = &spec.pods;
    let own = [
        ("spec.postgres", spec.postgres.is_some()),
        (
            "spec.kafka.bootstrapServers",
            spec.kafka.as_ref().is_some_and(|kafka| kafka.bootstrap_servers.is_some()),
        ),
        (
            "spec.schemaRegistry.url",
            spec.schema_registry.as_ref().is_some_and(|registry| registry.url.is_some()),
        ),
        ("spec.cassandra", spec.cassandra.is_some()),
        ("spec.source.http.url", http.is_some_and(|http| http.url.is_some())),
        ("spec.source.http.auth", http.is_some_and(|http| http.auth.is_some())),
        ("spec.source.http.headers[].valueFrom", has_secret_headers),
        ("spec.pods.ingest.proxy", pods.ingest.proxy.is_some()),
        ("spec.pods.workers.proxy", pods.workers.proxy.is_some()),
        ("spec.pods.tasks.proxy", pods.tasks.proxy.is_some()),
    ];
    let own = own.into_iter().filter(|(_, is_set)| *is_set);
    own.map(|(field, _)| format!("{field}: is not allowed by this installation of the operator (connections.required): use a connection"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use userpipeline_api::Connections;

    use crate::pipeline::{
        example,
        model::Installation,
        validate::{ValidateError, validate},
    };

    #[test]
    fn where_connections_are_required_every_own_address_is_refused() {
        let strict = Installation {
            requires_connections: true,
            ..example::installation()
        };
        let mut pipeline = example::pipeline();
        pipeline.spec.pods = serde_json::from_value(json!({"workers": {"proxy": {"http": "http://proxy"}}})).unwrap();
        assert!(validate(&pipeline, &Connections::new(), &example::installation()).is_ok());
        let Err(ValidateError::InvalidSpec(problems)) = validate(&pipeline, &Connections::new(), &strict) else {
            panic!("own addresses are allowed");
        };
        let fields: Vec<_> = problems
            .iter()
            .filter_map(|problem| problem.split_once(": "))
            .map(|(field, _)| field)
            .collect();
        assert_eq!(
            fields,
            [
                "spec.postgres",
                "spec.kafka.bootstrapServers",
                "spec.schemaRegistry.url",
                "spec.cassandra",
                "spec.source.http.url",
                "spec.source.http.headers[].valueFrom",
                "spec.pods.workers.proxy"
            ]
        );
        let (moved, connections) = example::with_connections();
        validate(&moved, &connections, &strict).unwrap();
    }

    #[test]
    fn a_pipeline_that_is_moved_to_equal_connections_needs_no_schema_job_and_restarts_nothing() {
        let (moved, connections) = example::with_connections();
        let own = example::validate(&example::pipeline()).unwrap();
        let moved = validate(&moved, &connections, &example::installation()).unwrap();
        assert_eq!(moved.schema_hash, own.schema_hash);
        assert_eq!((moved.worker, moved.schema), (own.worker, own.schema));
        assert_eq!(moved.ingest.map(|ingest| ingest.config), own.ingest.map(|ingest| ingest.config));
    }
}
