//! Replaces the certificate of the local Kafka by one of another authority. All stories share the broker, so a story that does this runs
//! alone.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Node, Secret},
    },
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    cluster::{SERVICES, host},
    eventually,
    services::{CA, authority, host_name},
    tls::Authority,
};

const SECRET: &str = "kafka-tls";
/// Of the pods: a new value restarts the broker, which reads its certificate only then.
const ANNOTATION: &str = "userpipeline.dev/certificate";
const SOON: Duration = Duration::from_secs(180);

/// The certificate that the broker presents.
pub struct BrokerCertificate {
    client: Client,
    original: BTreeMap<String, ByteString>,
    original_annotation: String,
    /// The authority of the services, which clients of the tests trust all the time.
    services_authority: String,
}

impl BrokerCertificate {
    /// Runs a story that replaces the certificate, and puts the original one back, whatever becomes of the story. Meanwhile, new clients of
    /// the tests trust both authorities; those of [`stores`](crate::stores) that exist already trust the services' only.
    pub async fn during(client: &Client, story: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let secret = Api::<Secret>::namespaced(client.clone(), SERVICES).get(SECRET).await?;
        let set = Api::<StatefulSet>::namespaced(client.clone(), SERVICES).get("kafka").await?;
        let annotations = set.spec.and_then(|spec| spec.template.metadata?.annotations).unwrap_or_default();
        let broker = Self {
            client: client.clone(),
            original: secret.data.context("a certificate")?,
            original_annotation: annotations.get(ANNOTATION).context("the hash of the certificate")?.clone(),
            services_authority: authority(client).await?,
        };
        let told = AssertUnwindSafe(story(&broker)).catch_unwind().await;
        broker.restore().await.context("the broker's own certificate")?;
        match told {
            Ok(told) => told,
            Err(_) => bail!("the story panicked"),
        }
    }

    /// Makes the broker present a certificate of this authority. Client certificates of both authorities are accepted. The broker restarts.
    pub async fn replace(&self, authority: &Authority) -> Result<()> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?;
        let addresses = nodes
            .items
            .into_iter()
            .flat_map(|node| node.status.and_then(|status| status.addresses).unwrap_or_default());
        let node = { addresses }
            .find(|address| address.type_ == "InternalIP")
            .context("the node's address")?
            .address;
        let name = host_name("kafka");
        let names = [
            "kafka",
            "kafka.services",
            "kafka.services.svc",
            &name,
            "localhost",
            "127.0.0.1",
            &node,
        ];
        let (certificate, key) = authority.identity_of(&names)?.pem();
        let trusted = format!("{}{}", self.services_authority, authority.pem());
        self.trust(&trusted).await?;
        let hash = uuid::Uuid::new_v4().simple().to_string();
        let files = [("tls.crt", certificate), ("tls.key", key), ("ca.crt", trusted)];
        let files = files.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
        self.restart_with(&files.into(), &hash[..12], &authority.pem()).await
    }

    async fn restore(&self) -> Result<()> {
        self.restart_with(&self.original, &self.original_annotation, &self.services_authority)
            .await?;
        self.trust(&self.services_authority).await
    }

    /// What the clients of the tests trust.
    async fn trust(&self, pem: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"data": {CA.1: pem}}));
        let config_maps = Api::<ConfigMap>::namespaced(self.client.clone(), SERVICES);
        config_maps.patch(CA.0, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn restart_with(&self, files: &BTreeMap<String, ByteString>, annotation: &str, authority: &str) -> Result<()> {
        let by = PatchParams::default();
        let secrets = Api::<Secret>::namespaced(self.client.clone(), SERVICES);
        secrets.patch(SECRET, &by, &Patch::Merge(json!({"data": files}))).await?;
        let template = json!({"spec": {"template": {"metadata": {"annotations": {ANNOTATION: annotation}}}}});
        let sets = Api::<StatefulSet>::namespaced(self.client.clone(), SERVICES);
        sets.patch("kafka", &by, &Patch::Merge(template)).await?;
        eventually("the broker with its certificate", SOON, async || {
            let set = sets.get("kafka").await?;
            let status = set.status.unwrap_or_default();
            let rolled = status.observed_generation == set.metadata.generation
                && status.update_revision == status.current_revision
                && status.ready_replicas == Some(1);
            if !rolled {
                return Ok(Err(format!("{status:?}")));
            }
            Ok(handshake(authority).await.map_err(|error| format!("{error:#}")))
        })
        .await
    }
}

/// Succeeds if the broker presents a certificate of this authority.
async fn handshake(authority: &str) -> Result<()> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(host::KAFKA).await?;
    TlsConnector::from(std::sync::Arc::new(config))
        .connect(ServerName::try_from("localhost")?, stream)
        .await?;
    Ok(())
}
