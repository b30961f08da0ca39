//! A certificate authority for tests, and a TLS listener.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use axum::serve::Listener;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{Timestamp, civil::Date};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

pub struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

impl Authority {
    pub fn new() -> Result<Self> {
        Self::of(CertificateParams::new(Vec::new())?)
    }

    /// An authority that expires so long from now.
    pub fn expiring(after: Duration) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        let expires = Timestamp::now().checked_add(after)?.as_second();
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(expires)?);
        Self::of(params)
    }

    fn of(mut params: CertificateParams) -> Result<Self> {
        let key = KeyPair::generate()?;
        // OpenSSL looks for an issuer by its name, and takes the first of that name.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {}", uuid::Uuid::new_v4().simple()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// An authority that exists, from its certificate and its key in PEM.
    pub fn existing(certificate: &str, key: &str) -> Result<Self> {
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?,
            certificate: CertificateDer::from_pem_slice(certificate.as_bytes())?,
        })
    }

    /// The certificate of the authority.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// Issues a certificate for a host name or an IP address.
    pub fn identity(&self, name: &str) -> Result<Identity> {
        self.identity_of(&[name])
    }

    /// Issues a certificate for several host names and IP addresses.
    pub fn identity_of(&self, names: &[&str]) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names)?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Identity { certificate, key })
    }

    /// The same, but it expired at the beginning of 2020.
    pub fn expired_identity(&self, name: &str) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Identity { certificate, key })
    }

    /// Issues a client certificate for a user, which expires at the start of a day.
    pub fn client_identity(&self, user: &str, expires: Date) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let unsigned = |part: i8| u8::try_from(part);
        params.not_after = date_time_ymd(expires.year().into(), unsigned(expires.month())?, unsigned(expires.day())?);
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Identity { certificate, key })
    }
}

impl Identity {
    /// Certificate and key.
    pub fn pem(&self) -> (String, String) {
        (pem("CERTIFICATE", &self.certificate), pem("PRIVATE KEY", &self.key.serialize_der()))
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

pub struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    /// Listens on a free port. With `client_authority`, clients need a certificate of this authority.
    pub async fn bind(address: IpAddr, identity: &Identity, client_authority: Option<&Authority>) -> Result<Self> {
        let config = ServerConfig::builder();
        let config = match client_authority {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.clone())?;
                config.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build()?)
            }
        };
        let config = config.with_single_cert(vec![identity.certificate.clone()], identity.key())?;
        Ok(Self {
            listener: TcpListener::bind((address, 0)).await?,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
