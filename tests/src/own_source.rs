//! A source that serves what a story hands it, page by page.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use axum::{Router, extract::State, http::header, routing::get};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

type Pages = Arc<Mutex<VecDeque<String>>>;

/// The address of this machine at which the cluster's nodes and pods find it.
pub async fn address_for_nodes(client: &Client) -> Result<IpAddr> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let addresses = nodes.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
    let node = addresses
        .into_iter()
        .find(|address| address.type_ == "InternalIP")
        .context("no node has an address")?;
    // Sends nothing: it is asked which way it would go.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((node.address.as_str(), 9))?;
    Ok(socket.local_addr()?.ip())
}

/// A source of a story's own: each page is served once; behind the last one comes nothing, which ends a run.
pub struct OwnSource {
    address: SocketAddr,
    pages: Pages,
    server: JoinHandle<()>,
}

impl OwnSource {
    /// Serves nothing yet.
    pub async fn start(client: &Client) -> Result<Self> {
        let listener = TcpListener::bind((address_for_nodes(client).await?, 0)).await?;
        let address = listener.local_addr()?;
        let pages = Pages::default();
        let router = Router::new().route("/", get(page)).with_state(pages.clone());
        let server = tokio::spawn(async move {
            // Ends with the story.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, pages, server })
    }

    /// Where pods find it.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves a page of items.
    pub fn serve(&self, items: &[Value]) {
        let page = serde_json::json!({"results": items}).to_string();
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).push_back(page);
    }
}

impl Drop for OwnSource {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn page(State(pages): State<Pages>) -> ([(header::HeaderName, &'static str); 1], String) {
    let page = pages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    (
        [(header::CONTENT_TYPE, "application/json")],
        page.unwrap_or_else(|| r#"{"results":[]}"#.to_owned()),
    )
}
