//! The content of mounted files.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_cert::{Certificate, der::Decode};

use crate::Credentials;

/// A client certificate and its private key, in PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    pub certificate: String,
    pub key: String,
}

/// What a connection is opened with. It has no `Debug`, so that no secret gets into a log.
#[derive(Clone, Default)]
pub struct Material {
    /// Certificates of authorities, in PEM. None for the public authorities.
    pub ca: Option<String>,
    pub client: Option<ClientCertificate>,
    pub credentials: Option<Credentials>,
    pub token: Option<String>,
}

/// Equal only for equal files. It reveals nothing of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Material {
    pub fn fingerprint(&self) -> Fingerprint {
        let client = self.client.as_ref();
        let credentials = self.credentials.as_ref();
        let parts = [
            self.ca.as_deref(),
            client.map(|client| client.certificate.as_str()),
            client.map(|client| client.key.as_str()),
            credentials.map(|credentials| credentials.username.as_str()),
            credentials.map(|credentials| credentials.password.as_str()),
            self.token.as_deref(),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            // With its length, so that no other parts have the same bytes.
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            hash.update(length.to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        Fingerprint(hash.finalize().into())
    }

    /// The earliest end of validity of the client certificate and the authorities' certificates, in seconds since 1970. None
    /// without certificates, and for what is no certificate.
    pub fn not_after(&self) -> Option<i64> {
        let client = self.client.as_ref().map(|client| client.certificate.as_str());
        let pems = self.ca.as_deref().into_iter().chain(client);
        pems.flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()))
            .filter_map(|certificate| not_after(&certificate.ok()?))
            .min()
    }
}

/// The end of a certificate's validity, in seconds since 1970.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let certificate = Certificate::from_der(certificate.as_ref()).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after;
    i64::try_from(not_after.to_unix_duration().as_secs()).ok()
}
