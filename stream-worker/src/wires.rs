//! The connections to a pipeline's stores, and the mounted files that they read.

use userpipeline_api::{Brokers, Postgres, SchemaRegistry, document::CassandraTarget};
use userpipeline_stores::{Secrets, StoreError, cassandra, error::CREDENTIALS_MISSING, kafka, postgres, schema_registry, wire::Wire};

/// The files of each store.
pub fn wires(
    postgres: &Postgres,
    brokers: &Brokers,
    registry: Option<&SchemaRegistry>,
    cassandra: Option<&CassandraTarget>,
    secrets: &Secrets,
) -> Vec<Wire> {
    let registry = registry.map(|registry| schema_registry::Connection::new(registry, secrets).wire().clone());
    let cassandra = cassandra.map(|target| {
        cassandra::Connection::new(&target.cluster, target.consistency, secrets)
            .wire()
            .clone()
    });
    let kafka = kafka::Connection::new(brokers, secrets).wire().clone();
    let mut wires = vec![postgres::Connection::new(postgres, secrets).wire().clone(), kafka];
    wires.extend(registry.into_iter().chain(cassandra));
    wires
}

/// Fails with everything that is missing, so that a user can fix it all at once.
pub fn check(wires: &[Wire]) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for wire in wires {
        match wire.read() {
            Ok(_) => {}
            Err(error) if error.reason == CREDENTIALS_MISSING => missing.push(error.message),
            Err(error) => return Err(error),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(StoreError::configuration(CREDENTIALS_MISSING, missing.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_listed() {
        let postgres: Postgres = serde_json::from_value(serde_json::json!({
            "host": "db", "database": "users", "credentialsSecretRef": {"name": "a"},
            "tls": {"ca": {"configMapKeyRef": {"name": "c", "key": "ca.crt"}}, "clientSecretRef": {"name": "d"}},
        }))
        .unwrap();
        let secrets = Secrets::in_dir("/nowhere").with_config_maps("/nowhere");
        let brokers = Brokers {
            bootstrap_servers: "kafka:9092".to_owned(),
            tls: None,
            auth: serde_json::from_value(serde_json::json!({"scramSha512": {"credentialsSecretRef": {"name": "k"}}})).unwrap(),
        };
        let error = check(&wires(&postgres, &brokers, None, None, &secrets)).unwrap_err();
        assert_eq!(error.reason, CREDENTIALS_MISSING);
        for missing in [
            "Secret `a` (spec.postgres.credentialsSecretRef) not found",
            "ConfigMap `c` (spec.postgres.tls.ca.configMapKeyRef) not found",
            "Secret `k` (spec.kafka.auth.scramSha512.credentialsSecretRef) not found",
            "Secret `d` (spec.postgres.tls.clientSecretRef) not found: create it with the key `tls.crt`",
        ] {
            assert!(error.message.contains(missing), "{error}");
        }
    }
}
