//! The pipeline of the tests.

use serde_json::{Value, json};
use userpipeline_api::{Connections, PodSettings, UserPipeline};

use super::{
    model::{Images, Installation, PodMetadata},
    validate,
    validate::{ValidateError, ValidatedPipeline},
};

/// `demo/users` as the apiserver returns it.
pub fn pipeline() -> UserPipeline {
    serde_yaml::from_str(
        r"
apiVersion: userpipeline.dev/v1alpha1
kind: UserPipeline
metadata: {name: users, namespace: demo, uid: 11111111-2222-3333-4444-555555555555, generation: 1, resourceVersion: '1', creationTimestamp: '2025-01-01T00:00:00Z'}
spec:
  schedule: {cron: '*/5 * * * *', timeZone: Europe/Berlin}
  source:
    http:
      url: http://source/api/
      headers:
        - {name: Authorization, valueFrom: {secretKeyRef: {name: source-token, key: header}}}
  postgres: {host: postgres, database: users, credentialsSecretRef: {name: postgres-credentials}}
  kafka: {bootstrapServers: 'kafka:9092', topic: {partitions: 3}}
  schemaRegistry: {url: http://registry:8080}
  cassandra: {contactPoints: [cassandra], localDatacenter: dc1, credentialsSecretRef: {name: cassandra-credentials}}
  sinks:
    cassandra: {replication: {dc1: 1}}
    postgres: {}
  workers: {replicas: 2}
",
    )
    .expect("the example reads")
}

/// The images of an operator of version 0.1.0.
pub fn images() -> Images {
    Images {
        registry: "userpipeline".into(),
        allowed: vec![],
        tag: "0.1.0".into(),
        pull_policy: "IfNotPresent".into(),
    }
}

/// An operator of version 0.1.0.
pub fn installation() -> Installation {
    Installation {
        images: images(),
        cluster: "22222222-3333-4444-5555-666666666666".into(),
        requires_connections: false,
        checks_connections: true,
        check_pods: PodSettings::default(),
        pod_metadata: PodMetadata::default(),
    }
}

/// Validates a pipeline without connections.
pub fn validate(pipeline: &UserPipeline) -> Result<ValidatedPipeline, ValidateError> {
    validate::validate(pipeline, &Connections::new(), &installation())
}

/// The same pipeline with all its addresses in the connections `stores` and `source`.
pub fn with_connections() -> (UserPipeline, Connections) {
    let mut spec = serde_json::to_value(pipeline().spec).expect("a spec is JSON");
    let mut stores = json!({
        "postgres": spec["postgres"], "cassandra": spec["cassandra"],
        "kafka": {"bootstrapServers": spec["kafka"]["bootstrapServers"]}, "schemaRegistry": spec["schemaRegistry"],
    });
    stores["cassandra"]["replication"] = spec["sinks"]["cassandra"]["replication"].clone();
    let source = json!({"http": {"baseUrl": "http://source", "headers": spec["source"]["http"]["headers"]}});
    for (block, field) in [
        ("/kafka", "bootstrapServers"),
        ("/sinks/cassandra", "replication"),
        ("/source/http", "url"),
        ("/source/http", "headers"),
        ("", "postgres"),
        ("", "cassandra"),
        ("", "schemaRegistry"),
    ] {
        let block = spec.pointer_mut(block).and_then(Value::as_object_mut);
        block.expect("the example has it").remove(field);
    }
    spec["source"]["http"]["path"] = json!("/api/");
    spec["connections"] = json!([{"name": "stores"}, {"name": "source"}]);
    let moved = UserPipeline {
        spec: serde_json::from_value(spec).expect("a spec"),
        ..pipeline()
    };
    let connections = [("stores", stores), ("source", source)];
    let connections = connections.map(|(name, spec)| (name.to_owned(), Ok(serde_json::from_value(spec).expect("a connection"))));
    (moved, connections.into())
}
