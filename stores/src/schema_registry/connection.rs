//! How to reach a schema registry.

use std::time::Duration;

use reqwest::Client;

use super::client::SchemaRegistry;
use crate::{StoreError, error::REGISTRY_FAILED};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The address of a registry, which may have a path prefix.
#[derive(Clone, Debug)]
pub struct Connection {
    url: String,
}

impl Connection {
    pub fn new(url: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// A client; it connects with the first request.
    pub fn connect(&self) -> Result<SchemaRegistry, StoreError> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .build()
            .map_err(|e| StoreError::configuration(REGISTRY_FAILED, format!("no HTTP client for spec.schemaRegistry.url: {e}")))?;
        Ok(SchemaRegistry::new(self.url.clone(), client))
    }
}
