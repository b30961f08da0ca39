//! The result of a block.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::BlockCheck;
use userpipeline_stores::{StoreError, error::PERMISSION_DENIED, wire::handshake::TlsSession};

/// A server that accepts connections and never responds.
const NO_RESPONSE: &str = "NoResponse";
/// Longer than the clients' own timeouts.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a server's version.
const VERSION_LIMIT: usize = 40;

/// What a server reports about itself.
#[derive(Debug, Default)]
pub struct Found {
    pub server_version: Option<String>,
    pub missing_rights: Vec<String>,
    pub note: Option<String>,
}

/// The result of a block from the work with its server, and from a handshake of its own, which drivers do not show.
pub async fn result(
    block: &str,
    work: impl Future<Output = Result<Found, StoreError>>,
    session: impl Future<Output = Option<TlsSession>>,
) -> BlockCheck {
    let started = Instant::now();
    let ended = tokio::time::timeout(TIMEOUT, work).await;
    let latency = started.elapsed();
    let session = session.await;
    let check = BlockCheck {
        block: block.to_owned(),
        certificate_not_after: session.as_ref().and_then(|session| time(session.not_after?)),
        tls_version: session.map(|session| session.version),
        ..BlockCheck::default()
    };
    match ended {
        Ok(Ok(found)) => succeeded(check, found, latency),
        Ok(Err(error)) => failed(check, error.reason, &error.message),
        Err(_) => failed(
            check,
            NO_RESPONSE,
            &format!("the server did not respond within {} s", TIMEOUT.as_secs()),
        ),
    }
}

fn succeeded(mut check: BlockCheck, found: Found, latency: Duration) -> BlockCheck {
    check.latency_milliseconds = i64::try_from(latency.as_millis()).ok();
    check.server_version = found.server_version.map(|version| version.chars().take(VERSION_LIMIT).collect());
    if !found.missing_rights.is_empty() {
        let message = format!("the user lacks {}", found.missing_rights.join(", "));
        check.missing_rights = found.missing_rights;
        return failed(check, PERMISSION_DENIED, &message);
    }
    match found.note {
        Some(note) => check.with_message(&note),
        None => check,
    }
}

fn failed(mut check: BlockCheck, reason: &str, message: &str) -> BlockCheck {
    check.reason = Some(reason.to_owned());
    check.with_message(message)
}

fn time(seconds: i64) -> Option<Time> {
    Timestamp::from_second(seconds).ok().map(Time)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn session() -> TlsSession {
        TlsSession {
            version: "TLS 1.3".to_owned(),
            not_after: Some(1_900_000_000),
        }
    }

    async fn checked(work: Result<Found, StoreError>, session: Option<TlsSession>) -> Value {
        let mut check = result("postgres", std::future::ready(work), std::future::ready(session)).await;
        check.latency_milliseconds = check.latency_milliseconds.map(|_| 1);
        serde_json::to_value(check).unwrap()
    }

    #[tokio::test]
    async fn a_result_has_what_was_found_and_what_is_wrong() {
        let version = || Some("16.4".to_owned());
        let good = Found {
            server_version: version(),
            ..Found::default()
        };
        let without_rights = Found {
            server_version: version(),
            missing_rights: vec!["CREATE on schema public".into()],
            note: None,
        };
        let tls = json!({"tlsVersion": "TLS 1.3", "certificateNotAfter": "2030-03-17T17:46:40Z"});
        let table = [
            (
                Ok(good),
                Some(session()),
                json!({"latencyMilliseconds": 1, "serverVersion": "16.4"}),
                true,
            ),
            (
                Ok(without_rights),
                None,
                json!({"latencyMilliseconds": 1, "serverVersion": "16.4", "missingRights": ["CREATE on schema public"],
                    "reason": "PermissionDenied", "message": "the user lacks CREATE on schema public"}),
                false,
            ),
            (
                Err(StoreError::transient("PostgresUnreachable", "nobody is there")),
                None,
                json!({"reason": "PostgresUnreachable", "message": "nobody is there"}),
                false,
            ),
            // The login is refused in an encrypted session.
            (
                Err(StoreError::configuration("CredentialsRefused", "no")),
                Some(session()),
                json!({"reason": "CredentialsRefused", "message": "no"}),
                true,
            ),
        ];
        for (work, session, mut expected, has_tls) in table {
            expected["block"] = json!("postgres");
            if has_tls {
                expected.as_object_mut().unwrap().extend(tls.as_object().unwrap().clone());
            }
            assert_eq!(checked(work, session).await, expected);
        }
    }
}
