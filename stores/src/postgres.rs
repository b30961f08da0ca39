//! Connections to PostgreSQL, and what its errors mean.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, error::SqlState};
use userpipeline_api::Postgres;

use crate::{
    Class, Secrets, StoreError,
    error::{CREDENTIALS_REFUSED, PERMISSION_DENIED, POSTGRES_FAILED, POSTGRES_UNREACHABLE, TABLE_MISMATCH, with_causes},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A statement that takes longer than this is ended by the server: whoever waits for it gets an error, not a hang.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// After this long without an answer from the peer, the connection is given up.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a connection for `application` (shown in `pg_stat_activity`). It is closed when the client is dropped.
pub async fn connect(postgres: &Postgres, secrets: &Secrets, application: &str) -> Result<Client, StoreError> {
    let credentials = secrets.credentials(&postgres.credentials_secret_ref.name, "spec.postgres.credentialsSecretRef")?;
    let at = format!("PostgreSQL at {}:{}", postgres.host, postgres.port);
    let port = u16::try_from(postgres.port)
        .map_err(|_| StoreError::configuration(POSTGRES_FAILED, "spec.postgres.port must be between 1 and 65535"))?;
    let mut config = Config::new();
    config
        .host(&postgres.host)
        .port(port)
        .dbname(&postgres.database)
        .user(&credentials.username)
        .password(&credentials.password)
        .application_name(application)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(TCP_USER_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .options(format!("-c statement_timeout={}", STATEMENT_TIMEOUT.as_millis()));
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT * 2, config.connect(NoTls)).await;
    let (client, connection) = connecting
        .map_err(|_| StoreError::transient(POSTGRES_UNREACHABLE, format!("{at} does not answer")))?
        .map_err(|e| match e.code() {
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => StoreError::configuration(
                CREDENTIALS_REFUSED,
                format!(
                    "{at} refused the keys `username` and `password` of Secret `{}` (spec.postgres.credentialsSecretRef)",
                    credentials.secret
                ),
            ),
            Some(&SqlState::INVALID_CATALOG_NAME) => StoreError::configuration(
                POSTGRES_FAILED,
                format!("{at} has no database `{}` (spec.postgres.database)", postgres.database),
            ),
            _ => explain(&at, &e),
        })?;
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!(error = %e, "the connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

/// What an error of PostgreSQL means.
pub fn explain(what: &str, e: &tokio_postgres::Error) -> StoreError {
    let Some(db) = e.as_db_error() else {
        return StoreError::transient(POSTGRES_UNREACHABLE, format!("{what}: {}", with_causes(e)));
    };
    let message = format!("{what}: {} (SQLSTATE {})", db.message(), db.code().code());
    let (class, reason) = classify(db.code());
    StoreError { class, reason, message }
}

/// Who can mend an error, and a word for it.
fn classify(code: &SqlState) -> (Class, &'static str) {
    match code {
        &SqlState::INSUFFICIENT_PRIVILEGE => (Class::Configuration, PERMISSION_DENIED),
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::DATATYPE_MISMATCH | &SqlState::INVALID_SCHEMA_NAME => {
            (Class::Configuration, TABLE_MISMATCH)
        }
        // Connection, a state that passes (25006: a primary that was just demoted), serialisation and deadlock, resources,
        // locks, operator intervention, system error.
        code if ["08", "25", "40", "53", "55", "57", "58"].contains(&&code.code()[..2]) => (Class::Transient, POSTGRES_FAILED),
        _ => (Class::Configuration, POSTGRES_FAILED),
    }
}

/// Whether the fault is in the record: data that the table refuses (classes 22 and 23) or cannot hold (54000). Such a
/// record is a dead letter; everything else is tried again.
pub fn is_record_fault(e: &tokio_postgres::Error) -> bool {
    e.code()
        .is_some_and(|code| code.code().starts_with("22") || code.code().starts_with("23") || code == &SqlState::PROGRAM_LIMIT_EXCEEDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_classed_by_whether_it_passes_by_itself() {
        for (code, expected) in [
            ("08006", (Class::Transient, POSTGRES_FAILED)),
            ("25006", (Class::Transient, POSTGRES_FAILED)),
            ("40P01", (Class::Transient, POSTGRES_FAILED)),
            ("53300", (Class::Transient, POSTGRES_FAILED)),
            ("55P03", (Class::Transient, POSTGRES_FAILED)),
            ("57P01", (Class::Transient, POSTGRES_FAILED)),
            ("42501", (Class::Configuration, PERMISSION_DENIED)),
            ("42P01", (Class::Configuration, TABLE_MISMATCH)),
            ("42703", (Class::Configuration, TABLE_MISMATCH)),
            ("42601", (Class::Configuration, POSTGRES_FAILED)),
        ] {
            assert_eq!(classify(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
