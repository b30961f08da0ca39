//! What Cassandra's errors mean.

use std::error::Error;

use scylla::errors::{BadQuery, ConnectionSetupRequestErrorKind, DbError, ExecutionError, PrepareError, RequestAttemptError};

use crate::{
    StoreError,
    error::{CREDENTIALS_REFUSED, PERMISSION_DENIED, TABLE_MISMATCH},
};

/// Cassandra does not answer.
pub const CASSANDRA_UNREACHABLE: &str = "CassandraUnreachable";
/// Cassandra refuses what was asked.
pub const CASSANDRA_FAILED: &str = "CassandraFailed";

/// Whether any of the causes is a node that refused the credentials.
pub fn is_authentication(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)) = error.downcast_ref() {
            return true;
        }
        // Transparent wrappers do not all return what they wrap as their source; their text has it.
        if error.to_string().contains("Authentication failed") {
            return true;
        }
        cause = error.source();
    }
    false
}

pub fn explain(what: &str, error: &ExecutionError) -> StoreError {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(db, text)) => explain_db(what, db, text),
        ExecutionError::PrepareError(error) => explain_prepare(what, error),
        // A column of another type: every record would fail.
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

pub fn explain_prepare(what: &str, error: &PrepareError) -> StoreError {
    match error {
        PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(db, text),
        } => explain_db(what, db, text),
        _ => StoreError::transient(CASSANDRA_UNREACHABLE, format!("{what}: {error}")),
    }
}

fn explain_db(what: &str, error: &DbError, text: &str) -> StoreError {
    let message = format!("{what}: {text}");
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
            .any(|t| text.contains(t)) =>
        {
            StoreError::configuration(TABLE_MISMATCH, message)
        }
        DbError::AuthenticationError => StoreError::configuration(CREDENTIALS_REFUSED, message),
        DbError::SyntaxError | DbError::Invalid | DbError::AlreadyExists { .. } | DbError::ConfigError => {
            StoreError::configuration(CASSANDRA_FAILED, message)
        }
        // Unavailable, overloaded, bootstrapping, timeouts, failed replicas.
        other => StoreError::transient(CASSANDRA_FAILED, format!("{what}: {other}: {text}")),
    }
}

/// Why the record is at fault: a value, its key or the whole row is too large. Such a record becomes a dead letter; every
/// other error is retried.
pub fn record_fault(error: &ExecutionError) -> Option<String> {
    match error {
        ExecutionError::BadQuery(BadQuery::ValuesTooLongForKey(..))
        | ExecutionError::LastAttemptError(RequestAttemptError::CqlRequestSerialization(_)) => Some(error.to_string()),
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Invalid | DbError::ServerError | DbError::ProtocolError,
            text,
        )) if is_too_large(text) => Some(text.clone()),
        _ => None,
    }
}

/// Whether a batch failed because of its content: of one of its statements, or of its size.
pub fn may_be_refused(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::BadQuery(_)
            | ExecutionError::LastAttemptError(
                RequestAttemptError::CqlRequestSerialization(_)
                    | RequestAttemptError::SerializationError(_)
                    | RequestAttemptError::DbError(DbError::Invalid | DbError::ServerError | DbError::ProtocolError, _)
            )
    )
}

/// Cassandra has no error code for this, only texts: those of the mutation limit, the guardrails, the key and frame limits.
fn is_too_large(text: &str) -> bool {
    let words = [
        "oversized mutation",
        "is too large",
        "too large for the maximum",
        "longer than maximum",
        "Guardrail column",
        "Key may not be empty",
        "maximum allowed size",
    ];
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: DbError, text: &str) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, text.to_owned()))
    }

    #[test]
    fn an_error_is_classed_by_who_can_fix_it() {
        for (error, text, reason) in [
            (DbError::Invalid, "unconfigured table created_users", TABLE_MISMATCH),
            (DbError::Invalid, "Undefined column name dob in table a.b", TABLE_MISMATCH),
            (DbError::Invalid, "something else", CASSANDRA_FAILED),
            (DbError::Unauthorized, "User ann has no MODIFY permission", PERMISSION_DENIED),
            (DbError::Overloaded, "try later", CASSANDRA_FAILED),
        ] {
            assert_eq!(explain("writing", &answer(error, text)).reason, reason, "{text}");
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
