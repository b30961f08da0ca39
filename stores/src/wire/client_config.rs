//! The TLS configuration of a client.

use std::{sync::Arc, time::SystemTime};

use jiff::Timestamp;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::{WantsClientCert, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::{
    material::{ClientCertificate, Material, not_after},
    verifier::{AnyName, FixedName},
    wire::Wire,
};
use crate::{
    StoreError,
    error::{CERTIFICATE_EXPIRED, PIPELINE_INVALID, with_causes},
};

/// What of a server's certificate is verified besides its authority and its validity.
#[derive(Clone, Debug)]
pub enum Verification {
    /// The name that the client connects to.
    Name,
    /// This name, whatever the client connects to.
    FixedName(ServerName<'static>),
    /// Nothing.
    AnyName,
}

/// A configuration that encrypts and verifies.
pub fn client_config(wire: &Wire, material: &Material, verification: Verification) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(roots(wire, material)?);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::configuration(PIPELINE_INVALID, format!("{}.tls: {e}", wire.field)))?;
    let builder = verifying(builder, wire, roots, provider, verification)?;
    match &material.client {
        None => Ok(builder.with_no_client_auth()),
        Some(client) => with_client(builder, wire, client),
    }
}

fn verifying(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    wire: &Wire,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    verification: Verification,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, StoreError> {
    let verifier: Arc<dyn ServerCertVerifier> = match verification {
        Verification::AnyName => Arc::new(AnyName { roots, provider }),
        Verification::Name | Verification::FixedName(_) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|e| StoreError::configuration(PIPELINE_INVALID, format!("{}: {e}", wire.authorities())))?;
            match verification {
                Verification::FixedName(name) => Arc::new(FixedName { verifier, name }),
                _ => verifier,
            }
        }
    };
    // Each of these verifies the chain.
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// The authorities of the spec; and the public ones of the image if it has none, or where both are accepted.
fn roots(wire: &Wire, material: &Material) -> Result<RootCertStore, StoreError> {
    let invalid = |problem: String| StoreError::configuration(PIPELINE_INVALID, format!("{} {problem}", wire.authorities()));
    let mut roots = RootCertStore::empty();
    if material.ca.is_none() || wire.accepts_public {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let Some(pem) = &material.ca else {
        if roots.is_empty() {
            return Err(invalid("have no certificate".to_owned()));
        }
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| invalid(format!("has an invalid certificate: {e}")))?;
        roots
            .add(certificate)
            .map_err(|e| invalid(format!("has an invalid certificate: {e}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("has no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

fn with_client(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    wire: &Wire,
    client: &ClientCertificate,
) -> Result<ClientConfig, StoreError> {
    let place = wire.client_certificate().unwrap_or_default();
    let invalid = |e: &dyn std::error::Error| {
        let message = format!("{place} is not a certificate and its private key in PEM: {}", with_causes(e));
        StoreError::configuration(PIPELINE_INVALID, message)
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(client.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| invalid(&e))?;
    let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).map_err(|e| invalid(&e))?;
    // Servers refuse it in many ways, and few of them say why.
    if let Some(end) = chain.first().and_then(not_after).filter(|end| *end < now()) {
        let at = Timestamp::from_second(end).map(|at| format!(" at {at}")).unwrap_or_default();
        return Err(StoreError::configuration(
            CERTIFICATE_EXPIRED,
            format!("{place} has expired{at}: renew it"),
        ));
    }
    builder.with_client_auth_cert(chain, key).map_err(|e| invalid(&e))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
