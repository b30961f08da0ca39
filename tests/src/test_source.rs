//! A source that serves what a story hands it: page by page, or as a collection in the ways in which APIs have pages.

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

/// So many items of a collection are on a page.
pub const PAGE: usize = 100;
/// Who may ask for a collection: `ann` with the password `pw`.
const ANN: &str = "Basic YW5uOnB3";

#[derive(Clone, Default)]
struct Served(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    pages: VecDeque<String>,
    collection: Vec<Value>,
    asked: Vec<String>,
}

impl Served {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    url: String,
    served: Served,
    server: JoinHandle<()>,
}

impl OwnSource {
    /// Serves nothing yet.
    pub async fn start(client: &Client) -> Result<Self> {
        Self::on("http", TcpListener::bind((address_for_nodes(client).await?, 0)).await?)
    }

    /// The same behind TLS, for those only whom `authority` knows.
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
            // Ends with the story.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            url: format!("{scheme}://{address}/"),
            served: content,
            server,
        })
    }

    /// Where pods find it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Serves a page of items.
    pub fn serve(&self, items: &[Value]) {
        let page = serde_json::json!({"results": items}).to_string();
        self.served.content().pages.push_back(page);
    }

    /// Serves items as a collection, at `page`, `offset`, `cursor`, `link`, `ndjson` and `post` below [`OwnSource::url`]; what is new of
    /// it at `changes`, `feed` and `sync`.
    pub fn collect(&self, items: &[Value]) {
        self.served.content().collection = items.to_vec();
    }

    /// The requests for parts of a collection since the last time, as path and query.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.served.content().asked)
    }
}

impl Drop for OwnSource {
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

/// A part of the collection, in the way that the path names.
async fn part(
    State(served): State<Served>,
    Path(way): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut content = served.content();
    let mut asked: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    asked.sort();
    content.asked.push(format!("{way}?{}", asked.join("&")));
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != ANN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let all = &content.collection;
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let cut = |from: usize| all.iter().skip(from).take(PAGE).cloned().collect::<Vec<_>>();
    let more = |from: usize| (from + PAGE < all.len()).then_some(from + PAGE);
    match way.as_str() {
        "page" => Json(json!({"data": {"items": cut((number("page").unwrap_or(1) - 1) * PAGE)}})).into_response(),
        "offset" => Json(json!({"data": {"items": cut(number("from").unwrap_or(0))}})).into_response(),
        "cursor" => {
            // Between any two pages there is one without items, as where an API filters what it has found.
            let after = query.get("after").map(String::as_str).unwrap_or_default();
            let answer = if let Some(next) = after.strip_prefix("empty-") {
                json!({"data": {"items": []}, "next": next})
            } else {
                let from = after.parse().unwrap_or(0);
                json!({"data": {"items": cut(from)}, "next": more(from).map(|next| format!("empty-{next}"))})
            };
            Json(answer).into_response()
        }
        "link" => {
            let from = number("from").unwrap_or(0);
            let next = more(from).map(|next| format!("</link?from={next}>; rel=\"next\""));
            let link: HeaderMap = next
                .into_iter()
                .filter_map(|next| Some((header::LINK, next.parse().ok()?)))
                .collect();
            (link, Json(cut(from))).into_response()
        }
        // What came behind a number that the asker has; once a page at a time, once all with a token for the next time.
        "changes" => {
            let newer = all.iter().filter(|item| item["at"].as_u64() > number("after").map(|n| n as u64));
            Json(json!({"data": {"items": newer.take(PAGE).collect::<Vec<_>>()}})).into_response()
        }
        // The same in pages, each of which says where the next one begins.
        "feed" => {
            let newer: Vec<_> = all
                .iter()
                .filter(|item| item["at"].as_u64() > number("since").map(|n| n as u64))
                .collect();
            let from = number("from").unwrap_or(0);
            let next = (from + PAGE < newer.len()).then(|| (from + PAGE).to_string());
            let items: Vec<_> = newer.into_iter().skip(from).take(PAGE).collect();
            Json(json!({"data": {"items": items}, "next": next})).into_response()
        }
        "sync" => {
            let newer: Vec<_> = all.iter().skip(number("token").unwrap_or(0)).collect();
            Json(json!({"data": {"items": newer}, "token": all.len().to_string()})).into_response()
        }
        // A text stands for a line that is no JSON.
        "ndjson" => all
            .iter()
            .map(|item| format!("{}\n", item.as_str().map_or_else(|| item.to_string(), str::to_owned)))
            .collect::<Vec<_>>()
            .concat()
            .into_response(),
        "post" if body == r#"{"want":"\"all\""}"# => Json(json!({"data": {"items": all}})).into_response(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}
