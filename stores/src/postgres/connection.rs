//! How to reach a PostgreSQL database.

use std::time::Duration;

use tokio_postgres::{
    Client, Config, NoTls, Socket,
    config::{ChannelBinding, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls_improved::MakeRustlsConnect;
use userpipeline_api::{Postgres, PostgresTlsMode};

use super::refusal::explain_connect;
use crate::{
    Secrets, StoreError,
    error::{POSTGRES_FAILED, POSTGRES_UNREACHABLE},
    wire::{
        Fingerprint, Material, Verification, Wire, client_config,
        handshake::{self, Opening, TlsSession},
    },
};

/// With TCP's defaults, the server would keep the locks of a client that vanished for hours.
pub const KEEPALIVE: &str =
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server cancels a statement that takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection whose peer acknowledges nothing for this long is closed.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A database, how to encrypt and how to authenticate. Secrets are read for each connection, so that a rotated one takes effect.
#[derive(Clone, Debug)]
pub struct Connection {
    server: Postgres,
    wire: Wire,
}

impl Connection {
    pub fn new(server: &Postgres, secrets: &Secrets) -> Self {
        let tls = server.tls.as_ref();
        Self {
            wire: Wire::new("spec.postgres", secrets)
                .with_credentials(&server.credentials_secret_ref, "credentialsSecretRef")
                .with_certificates(tls.map(|tls| &tls.certificates)),
            server: server.clone(),
        }
    }

    /// The mounted files that it reads.
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Opens a connection for `application` (shown in `pg_stat_activity`). It is closed when the client is dropped.
    pub async fn connect(&self, application: &str) -> Result<Client, StoreError> {
        self.open(application).await.map(|(client, _)| client)
    }

    /// As [`Self::connect`], with the fingerprint of the files that it was opened with.
    pub async fn open(&self, application: &str) -> Result<(Client, Fingerprint), StoreError> {
        let material = self.wire.read()?;
        let mut config = self.config(&material, application)?;
        let Some(verification) = self.verification() else {
            config.ssl_mode(SslMode::Disable);
            return Ok((self.connect_with(&config, NoTls).await?, material.fingerprint()));
        };
        // A server without TLS is an error, never a reason for plain text.
        config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Prefer);
        let tls = MakeRustlsConnect::new(client_config(&self.wire, &material, verification)?);
        Ok((self.connect_with(&config, tls).await?, material.fingerprint()))
    }

    /// The TLS session with the server; none in plain text, or if the handshake fails.
    pub async fn tls_session(&self) -> Option<TlsSession> {
        let material = self.wire.read().ok()?;
        let config = client_config(&self.wire, &material, self.verification()?).ok()?;
        let address = format!("{}:{}", self.server.host, self.server.port);
        handshake::inspect(&[address], config, Opening::Postgres).await
    }

    /// None for plain text.
    fn verification(&self) -> Option<Verification> {
        match self.server.tls.as_ref().map(|tls| tls.mode).unwrap_or_default() {
            PostgresTlsMode::VerifyFull => Some(Verification::Name),
            PostgresTlsMode::VerifyCa => Some(Verification::AnyName),
            PostgresTlsMode::Disable => None,
        }
    }

    fn config(&self, material: &Material, application: &str) -> Result<Config, StoreError> {
        let server = &self.server;
        let port = u16::try_from(server.port)
            .map_err(|_| StoreError::configuration(POSTGRES_FAILED, "spec.postgres.port must be between 1 and 65535"))?;
        let mut config = Config::new();
        if let Some(credentials) = &material.credentials {
            config.user(&credentials.username).password(&credentials.password);
        }
        config
            .host(&server.host)
            .port(port)
            .dbname(&server.database)
            .application_name(application)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(TCP_USER_TIMEOUT)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .options(format!("-c statement_timeout={}", STATEMENT_TIMEOUT.as_millis()));
        Ok(config)
    }

    async fn connect_with<T>(&self, config: &Config, tls: T) -> Result<Client, StoreError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let at = format!("PostgreSQL at {}:{}", self.server.host, self.server.port);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT * 2, config.connect(tls)).await;
        let (client, connection) = connecting
            .map_err(|_| StoreError::transient(POSTGRES_UNREACHABLE, format!("{at} does not answer")))?
            .map_err(|e| explain_connect(&at, &self.wire, &self.server.database, &e))?;
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "the connection to PostgreSQL ended");
            }
        });
        Ok(client)
    }
}
