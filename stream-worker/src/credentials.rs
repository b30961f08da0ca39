//! The Secrets of a pipeline's stores, checked together, so that one error lists all that are missing.

use userpipeline_api::{Postgres, document::CassandraTarget};
use userpipeline_stores::{Secrets, StoreError};

/// Fails with everything that is missing.
pub fn check(postgres: &Postgres, cassandra: Option<&CassandraTarget>, secrets: &Secrets) -> Result<(), StoreError> {
    let postgres = (postgres.credentials_secret_ref.name.as_str(), "spec.postgres.credentialsSecretRef");
    let cassandra = cassandra.map(|target| {
        let secret = target.cluster.credentials_secret_ref.name.as_str();
        (secret, "spec.cassandra.credentialsSecretRef")
    });
    secrets.check([postgres].into_iter().chain(cassandra))
}
