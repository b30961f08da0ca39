//! Sessions with Cassandra, and what its errors mean.

use std::{error::Error, sync::Arc, time::Duration};

use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    errors::{BadQuery, ConnectionSetupRequestErrorKind, DbError, ExecutionError, NewSessionError, PrepareError, RequestAttemptError},
    policies::{host_filter::DcHostFilter, load_balancing::DefaultPolicy},
    statement::Consistency as Level,
};
use userpipeline_api::{Cassandra, Consistency};

use crate::{
    Credentials, Secrets, StoreError,
    error::{CASSANDRA_FAILED, CASSANDRA_UNREACHABLE, CREDENTIALS_REFUSED, PERMISSION_DENIED, TABLE_MISMATCH},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// All contact points have been tried by then.
const SESSION_TIMEOUT: Duration = Duration::from_secs(20);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// Making a table takes longer than writing a row.
const SCHEMA_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The user name and password of a cluster, as they are at this moment.
pub fn credentials(cluster: &Cassandra, secrets: &Secrets) -> Result<Credentials, StoreError> {
    secrets.credentials(&cluster.credentials_secret_ref.name, "spec.cassandra.credentialsSecretRef")
}

/// Opens a session that asks the nodes of the local datacenter, those that keep the row first.
pub async fn connect(cluster: &Cassandra, consistency: Consistency, secrets: &Secrets) -> Result<Session, StoreError> {
    let credentials = credentials(cluster, secrets)?;
    let at = format!("Cassandra at {}", cluster.contact_points.join(", "));
    let policy = DefaultPolicy::builder()
        .prefer_datacenter(cluster.local_datacenter.clone())
        .token_aware(true)
        .permit_dc_failover(false)
        .build();
    let profile = ExecutionProfile::builder()
        .consistency(level(consistency))
        .load_balancing_policy(policy)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .build();
    let session = SessionBuilder::new()
        .known_nodes(&cluster.contact_points)
        .user(&credentials.username, &credentials.password)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(CONNECT_TIMEOUT)
        .schema_agreement_timeout(SCHEMA_AGREEMENT_TIMEOUT)
        // Whatever the consistency, the local nodes coordinate and ask the others.
        .host_filter(Arc::new(DcHostFilter::new(cluster.local_datacenter.clone())))
        .tcp_nodelay(true);
    let session = tokio::time::timeout(SESSION_TIMEOUT, session.build())
        .await
        .map_err(|_| StoreError::transient(CASSANDRA_UNREACHABLE, format!("{at} does not answer")))?
        .map_err(|e| explain_connect(&at, &credentials, &e))?;
    let state = session.get_cluster_state();
    let mut datacenters: Vec<&str> = state
        .get_nodes_info()
        .iter()
        .filter_map(|node| node.datacenter.as_deref())
        .collect();
    datacenters.sort_unstable();
    datacenters.dedup();
    if !datacenters.contains(&cluster.local_datacenter.as_str()) {
        let message = format!(
            "{at} has no datacenter `{}` (spec.cassandra.localDatacenter); it has: {}",
            cluster.local_datacenter,
            datacenters.join(", ")
        );
        return Err(StoreError::configuration(CASSANDRA_FAILED, message));
    }
    Ok(session)
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

fn explain_connect(at: &str, credentials: &Credentials, error: &NewSessionError) -> StoreError {
    if let NewSessionError::FailedToResolveAnyHostname(names) = error {
        return StoreError::transient(
            CASSANDRA_UNREACHABLE,
            format!("no address is known for {} (spec.cassandra.contactPoints)", names.join(", ")),
        );
    }
    if is_authentication(error) {
        let message = format!(
            "{at} refused the keys `username` and `password` of Secret `{}` (spec.cassandra.credentialsSecretRef)",
            credentials.secret
        );
        return StoreError::configuration(CREDENTIALS_REFUSED, message);
    }
    StoreError::transient(CASSANDRA_UNREACHABLE, format!("{at} does not answer: {error}"))
}

/// Whether somewhere among the causes the node refused the credentials.
fn is_authentication(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)) = error.downcast_ref() {
            return true;
        }
        // Wrappers that are shown as what they wrap do not all give it as their source; the text has it.
        if error.to_string().contains("Authentication failed") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What an error of a statement means.
pub fn explain(what: &str, error: &ExecutionError) -> StoreError {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(db, said)) => explain_db(what, db, said),
        ExecutionError::PrepareError(error) => explain_prepare(what, error),
        // A column of another type than ours: the table's fault, for every record.
        ExecutionError::BadQuery(BadQuery::SerializationError(_))
        | ExecutionError::LastAttemptError(RequestAttemptError::SerializationError(_)) => {
            StoreError::configuration(TABLE_MISMATCH, format!("{what}: {error}"))
        }
        ExecutionError::BadQuery(_) => StoreError::configuration(CASSANDRA_FAILED, format!("{what}: {error}")),
        ExecutionError::ConnectionPoolError(pool) if is_authentication(pool) => StoreError::configuration(
            CREDENTIALS_REFUSED,
            format!("{what}: Cassandra refused the keys `username` and `password` of the Secret in spec.cassandra.credentialsSecretRef"),
        ),
        _ => StoreError::transient(CASSANDRA_UNREACHABLE, format!("{what}: {error}")),
    }
}

/// What an error of a statement's preparation means.
pub fn explain_prepare(what: &str, error: &PrepareError) -> StoreError {
    match error {
        PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(db, said),
        } => explain_db(what, db, said),
        _ => StoreError::transient(CASSANDRA_UNREACHABLE, format!("{what}: {error}")),
    }
}

fn explain_db(what: &str, error: &DbError, said: &str) -> StoreError {
    let message = format!("{what}: {said}");
    match error {
        DbError::Unauthorized => StoreError::configuration(PERMISSION_DENIED, message),
        DbError::Invalid
            if [
                "unconfigured table",
                "Undefined column",
                "does not exist",
                "Unknown keyspace",
                "Unknown identifier",
            ]
            .iter()
            .any(|t| said.contains(t)) =>
        {
            StoreError::configuration(TABLE_MISMATCH, message)
        }
        DbError::AuthenticationError => StoreError::configuration(CREDENTIALS_REFUSED, message),
        DbError::SyntaxError | DbError::Invalid | DbError::AlreadyExists { .. } | DbError::ConfigError => {
            StoreError::configuration(CASSANDRA_FAILED, message)
        }
        // Unavailable, overloaded, bootstrapping, time-outs, failed replicas: all of them pass.
        other => StoreError::transient(CASSANDRA_FAILED, format!("{what}: {other}: {said}")),
    }
}

/// Why a row is refused for its own sake: a value, a key or the whole row is too large. Such a record is a dead letter;
/// everything else is tried again.
pub fn record_fault(error: &ExecutionError) -> Option<String> {
    match error {
        ExecutionError::BadQuery(BadQuery::ValuesTooLongForKey(..))
        | ExecutionError::LastAttemptError(RequestAttemptError::CqlRequestSerialization(_)) => Some(error.to_string()),
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Invalid | DbError::ServerError | DbError::ProtocolError,
            said,
        )) if is_too_large(said) => Some(said.clone()),
        _ => None,
    }
}

/// Cassandra has no code for it, only words: of the mutation's limit, the guardrails, the key's and the frame's limits.
fn is_too_large(said: &str) -> bool {
    let words = [
        "oversized mutation",
        "is too large",
        "too large for the maximum",
        "longer than maximum",
        "Guardrail column",
        "Key may not be empty",
        "maximum allowed size",
    ];
    words.iter().any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: DbError, said: &str) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, said.to_owned()))
    }

    #[test]
    fn an_error_is_classed_by_who_can_mend_it() {
        for (error, said, reason) in [
            (DbError::Invalid, "unconfigured table created_users", TABLE_MISMATCH),
            (DbError::Invalid, "Undefined column name dob in table a.b", TABLE_MISMATCH),
            (DbError::Invalid, "something else", CASSANDRA_FAILED),
            (DbError::Unauthorized, "User ann has no MODIFY permission", PERMISSION_DENIED),
            (DbError::Overloaded, "try later", CASSANDRA_FAILED),
        ] {
            assert_eq!(explain("writing", &answer(error, said)).reason, reason, "{said}");
        }
    }

    #[test]
    fn only_a_size_is_a_fault_of_the_record() {
        assert!(
            record_fault(&answer(
                DbError::Invalid,
                "Rejected an oversized mutation (17000000/16777216) for keyspace: k"
            ))
            .is_some()
        );
        assert!(record_fault(&answer(DbError::Invalid, "Key length of 70000 is longer than maximum of 65535")).is_some());
        assert!(record_fault(&answer(DbError::Invalid, "unconfigured table created_users")).is_none());
        assert!(record_fault(&answer(DbError::Overloaded, "too large a queue")).is_none());
    }
}
