//! How to reach a PostgreSQL database.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, error::SqlState};
use userpipeline_api::Postgres;

use super::errors::explain;
use crate::{
    Credentials, Secrets, StoreError,
    error::{CREDENTIALS_REFUSED, POSTGRES_FAILED, POSTGRES_UNREACHABLE},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server cancels a statement that takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection whose peer acknowledges nothing for this long is closed.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A database, and how to authenticate. Secrets are read for each connection, so that a rotated one takes effect.
#[derive(Clone, Debug)]
pub struct Connection {
    server: Postgres,
    secrets: Secrets,
}

impl Connection {
    pub fn new(server: &Postgres, secrets: &Secrets) -> Self {
        Self {
            server: server.clone(),
            secrets: secrets.clone(),
        }
    }

    /// The user name and password as they are now.
    pub fn credentials(&self) -> Result<Credentials, StoreError> {
        self.secrets
            .credentials(&self.server.credentials_secret_ref.name, "spec.postgres.credentialsSecretRef")
    }

    /// Opens a connection for `application` (shown in `pg_stat_activity`). It is closed when the client is dropped.
    pub async fn connect(&self, application: &str) -> Result<Client, StoreError> {
        let credentials = self.credentials()?;
        let server = &self.server;
        let at = format!("PostgreSQL at {}:{}", server.host, server.port);
        let port = u16::try_from(server.port)
            .map_err(|_| StoreError::configuration(POSTGRES_FAILED, "spec.postgres.port must be between 1 and 65535"))?;
        let mut config = Config::new();
        config
            .host(&server.host)
            .port(port)
            .dbname(&server.database)
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
                    format!("{at} has no database `{}` (spec.postgres.database)", server.database),
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
}
