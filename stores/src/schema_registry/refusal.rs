//! What failed requests mean.

use reqwest::StatusCode;

use crate::{
    StoreError,
    error::{
        CREDENTIALS_REFUSED, PERMISSION_DENIED, REGISTRY_FAILED, REGISTRY_UNREACHABLE, SCHEMA_INCOMPATIBLE, TLS_MISMATCH, with_causes,
    },
    wire::{TlsProblem, Wire},
};

const URL_FIELD: &str = "spec.schemaRegistry.url";

/// A request without a response.
pub fn unreachable(url: &str, wire: &Wire, error: &reqwest::Error) -> StoreError {
    let at = format!("the schema registry at {url}");
    match TlsProblem::find(error) {
        Some(problem) => wire.explain(&at, &problem, URL_FIELD),
        None => StoreError::transient(REGISTRY_UNREACHABLE, format!("{at} does not answer: {}", with_causes(error))),
    }
}

/// A response that is an error. `why` is what it says.
pub fn refused(url: &str, wire: &Wire, status: StatusCode, what: &str, why: &str) -> StoreError {
    let at = format!("the schema registry at {url}");
    let message = format!("{at} answered {status} to {what}: {why}");
    match status {
        // How nginx reports a client certificate that is missing or refused.
        StatusCode::BAD_REQUEST if why.contains("SSL certificate") => {
            let problem = TlsProblem::ClientRefused {
                expired: false,
                alert: status.to_string(),
            };
            wire.explain(&at, &problem, URL_FIELD)
        }
        StatusCode::BAD_REQUEST if why.contains("plain HTTP request was sent to HTTPS port") => {
            let message = format!("{at} accepts only encrypted connections: use an https address in {URL_FIELD}");
            StoreError::configuration(TLS_MISMATCH, message)
        }
        StatusCode::UNAUTHORIZED => StoreError::configuration(
            CREDENTIALS_REFUSED,
            format!("{at} refused {} ({status} to {what})", wire.credentials_place()),
        ),
        StatusCode::FORBIDDEN => StoreError::configuration(PERMISSION_DENIED, message),
        StatusCode::CONFLICT => StoreError::configuration(SCHEMA_INCOMPATIBLE, message),
        status if status.is_redirection() => {
            let message = format!("{at} answered {status} to {what}: redirects are not followed; set {URL_FIELD} to the address itself");
            StoreError::configuration(REGISTRY_FAILED, message)
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            StoreError::transient(REGISTRY_UNREACHABLE, message)
        }
        _ => StoreError::configuration(REGISTRY_FAILED, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secrets, error::CERTIFICATE_REFUSED};

    #[test]
    fn a_refusal_has_its_reason() {
        let wire = Wire::new("spec.schemaRegistry", &Secrets::in_dir("/nowhere"));
        for (status, why, reason, says) in [
            (401, "", CREDENTIALS_REFUSED, "spec.schemaRegistry.auth is not set"),
            (403, "not yours", PERMISSION_DENIED, "not yours"),
            (409, "incompatible", SCHEMA_INCOMPATIBLE, "incompatible"),
            (302, "", REGISTRY_FAILED, "redirects are not followed"),
            (503, "busy", REGISTRY_UNREACHABLE, "busy"),
            (422, "invalid", REGISTRY_FAILED, "invalid"),
            (
                400,
                "<title>400 No required SSL certificate was sent</title>",
                CERTIFICATE_REFUSED,
                "set spec.schemaRegistry.tls.clientSecretRef",
            ),
            (
                400,
                "<title>400 The plain HTTP request was sent to HTTPS port</title>",
                TLS_MISMATCH,
                "spec.schemaRegistry.url",
            ),
        ] {
            let error = refused("https://registry", &wire, StatusCode::from_u16(status).unwrap(), "/subjects", why);
            assert_eq!(error.reason, reason, "{status}");
            assert!(
                error.message.starts_with("the schema registry at https://registry") && error.message.contains(says),
                "{error}"
            );
        }
    }
}
