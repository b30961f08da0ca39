//! The broker's own certificate, replaced by one of another authority.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use userpipeline_tests::{
    broker_certificate::BrokerCertificate,
    cluster::{self, host},
    services::{Mounted, authority},
    strimzi::broker_admin::BrokerAdmin,
    tls::Authority,
};

/// Whether a client that trusts only this authority can connect.
async fn trusted(pem: &str) -> Result<bool> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(host::KAFKA).await?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(ServerName::try_from("localhost")?, stream).await.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-encryption"]
async fn the_broker_presents_a_certificate_of_another_authority_and_then_its_own_again() -> Result<()> {
    // Given a broker with a certificate of the services' authority
    let client = cluster::connect().await?;
    let (services, other) = (authority(&client).await?, Authority::new()?);
    ensure!(trusted(&services).await?, "the certificate of the services");

    // When it is replaced, Then only who trusts the other authority connects, and new clients of the tests do
    let users = BrokerAdmin::connect().await?.users().await?;
    let failed = BrokerCertificate::during(&client, async |broker: &BrokerCertificate| {
        broker.replace(&other).await?;
        ensure!(
            trusted(&other.pem()).await? && !trusted(&services).await?,
            "only the other authority"
        );
        let found = BrokerAdmin::connect().await?.users().await?;
        ensure!(
            found.iter().collect::<BTreeSet<_>>() == users.iter().collect(),
            "the same users: {found:?}"
        );
        anyhow::bail!("the story fails")
    })
    .await
    .expect_err("the story's failure");
    ensure!(failed.to_string() == "the story fails", "{failed:#}");

    // Then, although the story failed, the broker has its own certificate again
    ensure!(
        trusted(&services).await? && !trusted(&other.pem()).await?,
        "only the services' authority"
    );
    ensure!(authority(&client).await? == services, "what the clients of the tests trust");
    Mounted::new(&client, &[]).await.map(drop).context("the files of clients")
}
