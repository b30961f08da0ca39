//! Why a connection was not opened.

use tokio_postgres::error::SqlState;

use super::errors::explain;
use crate::{
    StoreError,
    error::{CREDENTIALS_REFUSED, POSTGRES_FAILED, TLS_MISMATCH, with_causes},
    wire::{TlsProblem, Wire},
};

/// What an error of a new connection means. `at` names the server and its address.
pub fn explain_connect(at: &str, wire: &Wire, database: &str, error: &tokio_postgres::Error) -> StoreError {
    let Some(db) = error.as_db_error() else {
        // tokio-postgres has no other sign of it.
        let problem = if with_causes(error).contains("server does not support TLS") {
            Some(TlsProblem::NoTls)
        } else {
            TlsProblem::find(error)
        };
        return match problem {
            Some(problem) => wire.explain(at, &problem, "spec.postgres.host"),
            None => explain(at, error),
        };
    };
    refused(at, wire, database, db.code(), db.message()).unwrap_or_else(|| explain(at, error))
}

/// The meaning of the server's own refusal; none for other errors.
fn refused(at: &str, wire: &Wire, database: &str, code: &SqlState, message: &str) -> Option<StoreError> {
    Some(match code {
        &SqlState::INVALID_CATALOG_NAME => StoreError::configuration(
            POSTGRES_FAILED,
            format!("{at} has no database `{database}` (spec.postgres.database)"),
        ),
        // "connection requires a valid client certificate"
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("client certificate") => {
            let problem = TlsProblem::ClientRefused {
                expired: false,
                alert: message.to_owned(),
            };
            wire.explain(at, &problem, "spec.postgres.host")
        }
        // "no pg_hba.conf entry for host …, no encryption"; before PostgreSQL 14 "…, SSL off"
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.ends_with("no encryption") || message.ends_with("SSL off") => {
            let message = format!("{at} accepts no connection in plain text: set the mode in spec.postgres.tls to VerifyFull ({message})");
            StoreError::configuration(TLS_MISMATCH, message)
        }
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            StoreError::configuration(CREDENTIALS_REFUSED, format!("{at} refused {}: {message}", wire.credentials_place()))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use userpipeline_api::SecretRef;

    use super::*;
    use crate::{Secrets, error::CERTIFICATE_REFUSED};

    #[test]
    fn a_refusal_of_the_server_has_its_reason_and_names_what_to_change() {
        let wire = Wire::new("spec.postgres", &Secrets::in_dir("/nowhere"))
            .with_credentials(&SecretRef { name: "db".into() }, "credentialsSecretRef");
        for (code, message, reason, says) in [
            (
                "28P01",
                "password authentication failed for user \"ann\"",
                CREDENTIALS_REFUSED,
                "Secret `db` (spec.postgres.credentialsSecretRef)",
            ),
            (
                "28000",
                "no pg_hba.conf entry for host \"10.0.0.7\", user \"ann\", database \"users\", no encryption",
                TLS_MISMATCH,
                "spec.postgres.tls",
            ),
            (
                "28000",
                "no pg_hba.conf entry for host \"10.0.0.7\", user \"ann\", database \"users\", SSL encryption",
                CREDENTIALS_REFUSED,
                "no pg_hba.conf entry",
            ),
            (
                "28000",
                "connection requires a valid client certificate",
                CERTIFICATE_REFUSED,
                "set spec.postgres.tls.clientSecretRef",
            ),
            ("3D000", "database \"x\" does not exist", POSTGRES_FAILED, "spec.postgres.database"),
        ] {
            let error = refused("PostgreSQL at db:5432", &wire, "users", &SqlState::from_code(code), message).unwrap();
            assert_eq!(error.reason, reason, "{message}");
            assert!(
                error.message.starts_with("PostgreSQL at db:5432") && error.message.contains(says),
                "{error}"
            );
        }
        assert_eq!(refused("at", &wire, "users", &SqlState::from_code("57P03"), "starting up"), None);
    }
}
