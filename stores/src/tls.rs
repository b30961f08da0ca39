//! Certificates for requests to the source.

use reqwest::{Certificate, Identity};
use userpipeline_api::{CaSource, SecretRef};

use crate::{
    Secrets, StoreError,
    error::{PIPELINE_INVALID, with_causes},
    wire::place,
};

const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";

/// The certificates of authorities, in PEM. `field` is where the spec has `ca`.
pub fn authorities(secrets: &Secrets, ca: &CaSource, field: &str) -> Result<Vec<Certificate>, StoreError> {
    let pem = secrets.authorities(ca, field)?;
    let invalid = |problem: String| StoreError::configuration(PIPELINE_INVALID, format!("{} {problem}", place(ca, field)));
    let certificates = Certificate::from_pem_bundle(pem.as_bytes());
    let certificates = certificates.map_err(|e| invalid(format!("has an invalid certificate: {}", with_causes(&e))))?;
    if certificates.is_empty() {
        return Err(invalid("has no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

/// The client certificate with its private key in a Secret of type kubernetes.io/tls. `field` is where the spec names the Secret.
pub fn client_identity(secrets: &Secrets, secret: &SecretRef, field: &str) -> Result<Identity, StoreError> {
    let value = |key| secrets.value(&secret.name, key, field);
    let pem = format!("{}\n{}", value(CERTIFICATE)?, value(PRIVATE_KEY)?);
    Identity::from_pem(pem.as_bytes()).map_err(|e| {
        let message = format!(
            "keys `{CERTIFICATE}` and `{PRIVATE_KEY}` of Secret `{}` ({field}) are not a certificate and its private key in PEM: {}",
            secret.name,
            with_causes(&e)
        );
        StoreError::configuration(PIPELINE_INVALID, message)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Secrets `api`, with these keys.
    fn secrets(keys: &[(&str, &str)]) -> (Secrets, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("api")).unwrap();
        for (key, value) in keys {
            fs::write(dir.path().join("api").join(key), value).unwrap();
        }
        (Secrets::in_dir(dir.path()), dir)
    }

    #[test]
    fn an_invalid_authority_is_named_with_secret_key_and_field() {
        let ca: CaSource = serde_json::from_value(serde_json::json!({"secretKeyRef": {"name": "api", "key": "ca.crt"}})).unwrap();
        for pem in ["nothing", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"] {
            let (secrets, _dir) = secrets(&[("ca.crt", pem)]);
            let error = authorities(&secrets, &ca, "spec.x").unwrap_err();
            assert_eq!(error.reason, PIPELINE_INVALID);
            assert!(
                error.message.starts_with("key `ca.crt` of Secret `api` (spec.x.secretKeyRef) has "),
                "{error}"
            );
        }
    }

    #[test]
    fn an_invalid_client_certificate_is_named_with_secret_keys_and_field() {
        let (secrets, _dir) = secrets(&[("tls.crt", "nothing"), ("tls.key", "nothing")]);
        let error = client_identity(&secrets, &SecretRef { name: "api".into() }, "spec.x").unwrap_err();
        assert_eq!(error.reason, PIPELINE_INVALID);
        assert!(
            error
                .message
                .starts_with("keys `tls.crt` and `tls.key` of Secret `api` (spec.x) are not a certificate"),
            "{error}"
        );
    }
}
