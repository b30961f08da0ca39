//! How to reach a Cassandra cluster.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    errors::NewSessionError,
    policies::{host_filter::DcHostFilter, load_balancing::DefaultPolicy},
    statement::Consistency as Level,
};
use userpipeline_api::{Cassandra, Consistency, TlsMode};

use super::errors::{CASSANDRA_FAILED, CASSANDRA_UNREACHABLE, is_authentication};
use crate::{
    Secrets, StoreError,
    error::{CREDENTIALS_REFUSED, PIPELINE_INVALID, TLS_MISMATCH},
    wire::{
        Fingerprint, Material, Verification, Wire, client_config,
        handshake::{self, Opening, TlsSession},
    },
};

/// Cassandra's default.
const PORT: u16 = 9042;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Long enough to try all contact points.
const SESSION_TIMEOUT: Duration = Duration::from_secs(20);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// Schema changes take longer than writes.
const SCHEMA_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster, the consistency of its statements, and how to authenticate. Secrets are read for each session, so that a
/// rotated one takes effect.
#[derive(Clone, Debug)]
pub struct Connection {
    cluster: Cassandra,
    consistency: Consistency,
    wire: Wire,
}

impl Connection {
    pub fn new(cluster: &Cassandra, consistency: Consistency, secrets: &Secrets) -> Self {
        Self {
            cluster: cluster.clone(),
            consistency,
            wire: Wire::new("spec.cassandra", secrets)
                .with_credentials(&cluster.credentials_secret_ref, "credentialsSecretRef")
                .with_certificates(cluster.tls.as_ref().map(|tls| &tls.certificates)),
        }
    }

    /// The mounted files that it reads.
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Opens a session with the nodes of the local datacenter, replicas of a row first.
    pub async fn connect(&self) -> Result<Session, StoreError> {
        self.open().await.map(|(session, _)| session)
    }

    /// As [`Self::connect`], with the fingerprint of the files that it was opened with.
    pub async fn open(&self) -> Result<(Session, Fingerprint), StoreError> {
        let material = self.wire.read()?;
        let cluster = &self.cluster;
        let at = format!("Cassandra at {}", cluster.contact_points.join(", "));
        let policy = DefaultPolicy::builder()
            .prefer_datacenter(cluster.local_datacenter.clone())
            .token_aware(true)
            .permit_dc_failover(false)
            .build();
        let profile = ExecutionProfile::builder()
            .consistency(level(self.consistency))
            .load_balancing_policy(policy)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .build();
        let mut session = SessionBuilder::new()
            .known_nodes(&cluster.contact_points)
            .default_execution_profile_handle(profile.into_handle())
            .connection_timeout(CONNECT_TIMEOUT)
            .schema_agreement_timeout(SCHEMA_AGREEMENT_TIMEOUT)
            // At any consistency level, local nodes coordinate.
            .host_filter(Arc::new(DcHostFilter::new(cluster.local_datacenter.clone())))
            .tcp_nodelay(true);
        if let Some(credentials) = &material.credentials {
            session = session.user(&credentials.username, &credentials.password);
        }
        if let Some(tls) = self.tls(&material)? {
            session = session.tls_context(Some(Arc::new(tls)));
        }
        let built = tokio::time::timeout(SESSION_TIMEOUT, session.build()).await;
        let built = built.map_err(|_| StoreError::transient(CASSANDRA_UNREACHABLE, format!("{at} does not answer")))?;
        let session = match built {
            Ok(session) => session,
            Err(e) => return Err(self.explain(&at, &material, &e).await),
        };
        verify_datacenter(&session, &cluster.local_datacenter, &at)?;
        Ok((session, material.fingerprint()))
    }

    /// None for plain text.
    fn tls(&self, material: &Material) -> Result<Option<ClientConfig>, StoreError> {
        let tls = self.cluster.tls.as_ref();
        if tls.is_some_and(|tls| tls.mode == TlsMode::Disable) {
            return Ok(None);
        }
        let first = self.cluster.contact_points.first().map_or("", String::as_str);
        let name = tls
            .and_then(|tls| tls.server_name.as_deref())
            .unwrap_or_else(|| host(first))
            .to_owned();
        let name = ServerName::try_from(name.clone()).map_err(|e| {
            let message = format!("`{name}` is no host name: set spec.cassandra.tls.serverName to a name in the nodes' certificates ({e})");
            StoreError::configuration(PIPELINE_INVALID, message)
        })?;
        client_config(&self.wire, material, Verification::FixedName(name)).map(Some)
    }

    /// The TLS session with the first contact point that answers; none in plain text, or if no handshake succeeds.
    pub async fn tls_session(&self) -> Option<TlsSession> {
        let config = self.tls(&self.wire.read().ok()?).ok()??;
        handshake::inspect(&self.addresses(), config, Opening::Direct).await
    }

    fn addresses(&self) -> Vec<String> {
        self.cluster.contact_points.iter().map(|point| with_port(point)).collect()
    }

    /// What a failed session means. The driver's error has only the last node's, and not every cause of it.
    async fn explain(&self, at: &str, material: &Material, error: &NewSessionError) -> StoreError {
        if is_authentication(error) {
            return StoreError::configuration(CREDENTIALS_REFUSED, format!("{at} refused {}", self.wire.credentials_place()));
        }
        if let Some(refused) = self.tls_problem(at, material).await {
            return refused;
        }
        explain_connect(at, error)
    }

    /// Whether one of the contact points and this client refuse each other's certificates, or only one of them encrypts.
    async fn tls_problem(&self, at: &str, material: &Material) -> Option<StoreError> {
        let addresses = self.addresses();
        let Ok(Some(config)) = self.tls(material) else {
            let config = client_config(&self.wire, &Material::default(), Verification::Name).ok()?;
            let message = format!("{at} accepts only encrypted connections: set the mode in spec.cassandra.tls to VerifyFull");
            return handshake::is_offered(&addresses, config)
                .await
                .then(|| StoreError::configuration(TLS_MISMATCH, message));
        };
        let (_, problem) = handshake::problem(&addresses, config).await?;
        Some(self.wire.explain(at, &problem, "spec.cassandra.tls.serverName"))
    }
}

/// The host of a contact point.
fn host(point: &str) -> &str {
    match point.rsplit_once(':') {
        // An IPv6 address has several colons.
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host.trim_start_matches('[').trim_end_matches(']'),
        _ => point.trim_start_matches('[').trim_end_matches(']'),
    }
}

fn with_port(point: &str) -> String {
    let has_port = point
        .rsplit_once(':')
        .is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    if has_port { point.to_owned() } else { format!("{point}:{PORT}") }
}

fn verify_datacenter(session: &Session, datacenter: &str, at: &str) -> Result<(), StoreError> {
    let state = session.get_cluster_state();
    let mut datacenters: Vec<&str> = state
        .get_nodes_info()
        .iter()
        .filter_map(|node| node.datacenter.as_deref())
        .collect();
    datacenters.sort_unstable();
    datacenters.dedup();
    if !datacenters.contains(&datacenter) {
        let message = format!(
            "{at} has no datacenter `{}` (spec.cassandra.localDatacenter); it has: {}",
            datacenter,
            datacenters.join(", ")
        );
        return Err(StoreError::configuration(CASSANDRA_FAILED, message));
    }
    Ok(())
}

fn level(consistency: Consistency) -> Level {
    match consistency {
        Consistency::One => Level::One,
        Consistency::LocalOne => Level::LocalOne,
        Consistency::Quorum => Level::Quorum,
        Consistency::LocalQuorum => Level::LocalQuorum,
        Consistency::EachQuorum => Level::EachQuorum,
        Consistency::All => Level::All,
    }
}

fn explain_connect(at: &str, error: &NewSessionError) -> StoreError {
    if let NewSessionError::FailedToResolveAnyHostname(names) = error {
        return StoreError::transient(
            CASSANDRA_UNREACHABLE,
            format!("no address is known for {} (spec.cassandra.contactPoints)", names.join(", ")),
        );
    }
    StoreError::transient(CASSANDRA_UNREACHABLE, format!("{at} does not answer: {error}"))
}
