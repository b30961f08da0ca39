//! A source that serves the items of a test: page by page, or as a collection with any kind of pagination.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::tls::{Authority, TlsListener};

/// Items of a collection.
pub const PAGE: usize = 100;
/// The credentials for collections: user `ann`, password `pw`.
const AUTHORIZATION: &str = "Basic YW5uOnB3";

#[derive(Clone, Default)]
struct Served(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    pages: VecDeque<String>,
    collection: Vec<Value>,
    requests: Vec<String>,
    redirect: Option<String>,
}

impl Served {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of this machine that is reachable from nodes and pods.
pub async fn address_for_nodes(client: &Client) -> Result<IpAddr> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let addresses = nodes.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
    let node = addresses
        .into_iter()
        .find(|address| address.type_ == "InternalIP")
        .context("no node has an address")?;
    // Sends nothing: connecting a UDP socket selects the local address.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((node.address.as_str(), 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Serves each page once, then empty pages, which end a run.
pub struct TestSource {
    url: String,
    served: Served,
    server: JoinHandle<()>,
}

impl TestSource {
    pub async fn start(client: &Client) -> Result<Self> {
        Self::on("http", TcpListener::bind((address_for_nodes(client).await?, 0)).await?)
    }

    /// Serves over TLS, to clients with a certificate of `authority`.
    pub async fn start_with_tls(client: &Client, authority: &Authority) -> Result<Self> {
        let address = address_for_nodes(client).await?;
        let identity = authority.identity(&address.to_string())?;
        Self::on("https", TlsListener::bind(address, &identity, Some(authority)).await?)
    }

    fn on<L>(scheme: &'static str, listener: L) -> Result<Self>
    where
        L: Listener<Addr = SocketAddr>,
    {
        let address = listener.local_addr()?;
        let content = Served::default();
        let collection = get(part).post(part);
        let router = Router::new()
            .route("/", get(page))
            .route("/{way}", collection)
            .with_state(content.clone());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            url: format!("{scheme}://{address}/"),
            served: content,
            server,
        })
    }

    /// Reachable from pods.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn serve(&self, items: &[Value]) {
        let page = serde_json::json!({"results": items}).to_string();
        self.served.content().pages.push_back(page);
    }

    /// Serves items as a collection at `page`, `offset`, `cursor`, `link`, `ndjson` and `post` below [`TestSource::url`], and the newer
    /// ones at `changes`, `feed` and `sync`.
    pub fn serve_collection(&self, items: &[Value]) {
        self.served.content().collection = items.to_vec();
    }

    /// Redirects requests for `away` below [`TestSource::url`] to this URL, also those without credentials.
    pub fn redirect_to(&self, url: String) {
        self.served.content().redirect = Some(url);
    }

    /// The requests for parts of a collection since the last call, as path and query.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.served.content().requests)
    }
}

impl Drop for TestSource {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn page(State(served): State<Served>) -> impl IntoResponse {
    let page = served.content().pages.pop_front();
    (
        [(header::CONTENT_TYPE, "application/json")],
        page.unwrap_or_else(|| r#"{"results":[]}"#.to_owned()),
    )
}

/// A part of the collection, with the pagination that the path names.
async fn part(
    State(served): State<Served>,
    Path(way): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut content = served.content();
    let mut parameters: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parameters.sort();
    content.requests.push(format!("{way}?{}", parameters.join("&")));
    if let Some(target) = content.redirect.as_ref().filter(|_| way == "away") {
        return (StatusCode::FOUND, [(header::LOCATION, target.clone())]).into_response();
    }
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != AUTHORIZATION) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let request = Request {
        items: &content.collection,
        query: &query,
    };
    match way.as_str() {
        "page" => Json(json!({"data": {"items": request.page_from((request.number("page").unwrap_or(1) - 1) * PAGE)}})).into_response(),
        "offset" => Json(json!({"data": {"items": request.page_from(request.number("from").unwrap_or(0))}})).into_response(),
        "cursor" => Json(request.by_cursor()).into_response(),
        "link" => request.by_link().into_response(),
        "changes" => Json(request.changes()).into_response(),
        "feed" => Json(request.feed()).into_response(),
        "sync" => Json(request.sync()).into_response(),
        "ndjson" => request.ndjson().into_response(),
        "post" if body == r#"{"want":"\"all\""}"# => Json(json!({"data": {"items": request.items}})).into_response(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// A request for a part of the collection.
struct Request<'a> {
    items: &'a [Value],
    query: &'a HashMap<String, String>,
}

impl Request<'_> {
    fn number(&self, name: &str) -> Option<usize> {
        self.query.get(name).and_then(|text| text.parse().ok())
    }

    fn page_from(&self, from: usize) -> Vec<Value> {
        self.items.iter().skip(from).take(PAGE).cloned().collect()
    }

    fn next_from(&self, from: usize) -> Option<usize> {
        (from + PAGE < self.items.len()).then_some(from + PAGE)
    }

    fn newer_than(&self, parameter: &str) -> impl Iterator<Item = &Value> {
        let number = self.number(parameter).map(|number| number as u64);
        self.items.iter().filter(move |item| item["at"].as_u64() > number)
    }

    /// There is an empty page between any two pages, as from an API that filters after it has cut the pages.
    fn by_cursor(&self) -> Value {
        let after = self.query.get("after").map(String::as_str).unwrap_or_default();
        if let Some(next) = after.strip_prefix("empty-") {
            return json!({"data": {"items": []}, "next": next});
        }
        let from = after.parse().unwrap_or(0);
        json!({"data": {"items": self.page_from(from)}, "next": self.next_from(from).map(|next| format!("empty-{next}"))})
    }

    fn by_link(&self) -> (HeaderMap, Json<Vec<Value>>) {
        let from = self.number("from").unwrap_or(0);
        let next = self.next_from(from).map(|next| format!("</link?from={next}>; rel=\"next\""));
        let link: HeaderMap = next
            .into_iter()
            .filter_map(|next| Some((header::LINK, next.parse().ok()?)))
            .collect();
        (link, Json(self.page_from(from)))
    }

    /// The items after a number, one page at a time.
    fn changes(&self) -> Value {
        json!({"data": {"items": self.newer_than("after").take(PAGE).collect::<Vec<_>>()}})
    }

    /// The items after a number in pages, each of which names the start of the next one.
    fn feed(&self) -> Value {
        let newer: Vec<_> = self.newer_than("since").collect();
        let from = self.number("from").unwrap_or(0);
        let next = (from + PAGE < newer.len()).then(|| (from + PAGE).to_string());
        let items: Vec<_> = newer.into_iter().skip(from).take(PAGE).collect();
        json!({"data": {"items": items}, "next": next})
    }

    /// All items after a token, and the token for the next request.
    fn sync(&self) -> Value {
        let newer: Vec<_> = self.items.iter().skip(self.number("token").unwrap_or(0)).collect();
        json!({"data": {"items": newer}, "token": self.items.len().to_string()})
    }

    /// A string item is a line that is not JSON.
    fn ndjson(&self) -> String {
        let line = |item: &Value| format!("{}\n", item.as_str().map_or_else(|| item.to_string(), str::to_owned));
        self.items.iter().map(line).collect()
    }
}
