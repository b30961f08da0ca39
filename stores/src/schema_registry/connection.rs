//! How to reach a schema registry.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Client, Request, RequestBuilder, redirect::Policy};
use userpipeline_api::SchemaRegistry as Registry;

use crate::{
    Secrets, StoreError,
    error::{PIPELINE_INVALID, REGISTRY_FAILED},
    http::address,
    wire::{
        Fingerprint, Material, Verification, Wire, client_config,
        handshake::{self, Opening, TlsSession},
    },
};

const TIMEOUT: Duration = Duration::from_secs(15);
const FIELD: &str = "spec.schemaRegistry";

/// The address of a registry, which may have a path prefix; its certificates and credentials. Mounted files are read for each
/// request, so that a rotation takes effect.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) url: String,
    pub(super) wire: Wire,
    /// The client, and the files that it was made with.
    client: Arc<Mutex<Option<(Fingerprint, Client)>>>,
}

impl Connection {
    pub fn new(registry: &Registry, secrets: &Secrets) -> Self {
        let mut wire = Wire::new(FIELD, secrets).with_certificates(registry.tls.as_ref());
        if let Some(auth) = &registry.auth {
            if let Some(basic) = &auth.basic {
                wire = wire.with_credentials(&basic.credentials_secret_ref, "auth.basic.credentialsSecretRef");
            }
            if let Some(bearer) = &auth.bearer {
                wire = wire.with_token(&bearer.secret_key_ref, "auth.bearer.secretKeyRef");
            }
        }
        Self::of(&registry.url, wire)
    }

    /// A registry without certificates and credentials.
    pub fn to(url: &str) -> Self {
        Self::of(url, Wire::new(FIELD, &Secrets::in_dir("")))
    }

    fn of(url: &str, wire: Wire) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            wire,
            client: Arc::default(),
        }
    }

    /// The mounted files that it reads.
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The TLS session with the server; none in plain text, or if the handshake fails.
    pub async fn tls_session(&self) -> Option<TlsSession> {
        let material = self.wire.read().ok().filter(|_| self.is_encrypted())?;
        let config = client_config(&self.wire, &material, Verification::Name).ok()?;
        handshake::inspect(&[address(&self.url)?], config, Opening::Direct).await
    }

    /// A request that authenticates with the files as they are now.
    pub(super) fn request(&self, request: impl FnOnce(&Client) -> RequestBuilder) -> Result<(Client, Request), StoreError> {
        let material = self.material()?;
        let client = self.client(&material)?;
        let mut request = request(&client);
        if let Some(credentials) = &material.credentials {
            request = request.basic_auth(&credentials.username, Some(&credentials.password));
        }
        if let Some(token) = &material.token {
            request = request.bearer_auth(token);
        }
        // Its text does not quote the value.
        let invalid = |e| StoreError::configuration(PIPELINE_INVALID, format!("no request with {}: {e}", self.wire.credentials_place()));
        Ok((client, request.build().map_err(invalid)?))
    }

    fn material(&self) -> Result<Material, StoreError> {
        let material = self.wire.read()?;
        if (material.credentials.is_some() || material.token.is_some()) && !self.is_encrypted() {
            let message = format!("{FIELD}.auth needs an https address in {FIELD}.url: credentials are not sent in plain text");
            return Err(StoreError::configuration(PIPELINE_INVALID, message));
        }
        Ok(material)
    }

    fn client(&self, material: &Material) -> Result<Client, StoreError> {
        let fingerprint = material.fingerprint();
        let mut made = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = made.as_ref().filter(|(with, _)| *with == fingerprint) {
            return Ok(client.clone());
        }
        // A redirect would carry requests to a server that the spec does not name.
        let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        if self.is_encrypted() {
            builder = builder.tls_backend_preconfigured(client_config(&self.wire, material, Verification::Name)?);
        }
        let client = builder
            .build()
            .map_err(|e| StoreError::configuration(REGISTRY_FAILED, format!("no HTTP client for {FIELD}.url: {e}")))?;
        *made = Some((fingerprint, client.clone()));
        Ok(client)
    }

    fn is_encrypted(&self) -> bool {
        self.url.starts_with("https://")
    }
}
