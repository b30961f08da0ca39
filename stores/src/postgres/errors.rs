//! What PostgreSQL's errors mean.

use tokio_postgres::error::SqlState;

use crate::{
    Class, StoreError,
    error::{PERMISSION_DENIED, POSTGRES_FAILED, POSTGRES_UNREACHABLE, TABLE_MISMATCH, with_causes},
};

pub fn explain(what: &str, e: &tokio_postgres::Error) -> StoreError {
    let Some(db) = e.as_db_error() else {
        return StoreError::transient(POSTGRES_UNREACHABLE, format!("{what}: {}", with_causes(e)));
    };
    let message = format!("{what}: {} (SQLSTATE {})", db.message(), db.code().code());
    let (class, reason) = classify(db.code());
    StoreError { class, reason, message }
}

fn classify(code: &SqlState) -> (Class, &'static str) {
    match code {
        &SqlState::INSUFFICIENT_PRIVILEGE => (Class::Configuration, PERMISSION_DENIED),
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::DATATYPE_MISMATCH | &SqlState::INVALID_SCHEMA_NAME => {
            (Class::Configuration, TABLE_MISMATCH)
        }
        // Connection, transaction state (25006: a primary that was just demoted), serialisation and deadlock, resources,
        // locks, operator intervention, system error.
        code if ["08", "25", "40", "53", "55", "57", "58"].contains(&&code.code()[..2]) => (Class::Transient, POSTGRES_FAILED),
        _ => (Class::Configuration, POSTGRES_FAILED),
    }
}

/// Whether the record is at fault: the table refuses its data (classes 22 and 23) or cannot hold it (54000). Such a
/// record becomes a dead letter; every other error is retried.
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
