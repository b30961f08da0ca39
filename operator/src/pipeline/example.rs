//! The pipeline of the tests.

use userpipeline_api::UserPipeline;

use super::model::Images;

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
