//! How to reach a Cassandra cluster.

use std::{sync::Arc, time::Duration};

use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    errors::NewSessionError,
    policies::{host_filter::DcHostFilter, load_balancing::DefaultPolicy},
    statement::Consistency as Level,
};
use userpipeline_api::{Cassandra, Consistency};

use super::errors::is_authentication;
use crate::{
    Secrets, StoreError,
    error::{CASSANDRA_FAILED, CASSANDRA_UNREACHABLE, CREDENTIALS_REFUSED},
    wire::{Fingerprint, Wire},
};

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
            wire: Wire::new("spec.cassandra", secrets).with_credentials(&cluster.credentials_secret_ref, "credentialsSecretRef"),
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
        let session = tokio::time::timeout(SESSION_TIMEOUT, session.build())
            .await
            .map_err(|_| StoreError::transient(CASSANDRA_UNREACHABLE, format!("{at} does not answer")))?
            .map_err(|e| explain_connect(&at, &self.wire, &e))?;
        verify_datacenter(&session, &cluster.local_datacenter, &at)?;
        Ok((session, material.fingerprint()))
    }
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

fn explain_connect(at: &str, wire: &Wire, error: &NewSessionError) -> StoreError {
    if let NewSessionError::FailedToResolveAnyHostname(names) = error {
        return StoreError::transient(
            CASSANDRA_UNREACHABLE,
            format!("no address is known for {} (spec.cassandra.contactPoints)", names.join(", ")),
        );
    }
    if is_authentication(error) {
        let message = format!("{at} refused {}", wire.credentials_place());
        return StoreError::configuration(CREDENTIALS_REFUSED, message);
    }
    StoreError::transient(CASSANDRA_UNREACHABLE, format!("{at} does not answer: {error}"))
}
