//! A client that turns every write into a server-side dry run, and records what it would change.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response, Uri};
use kube::client::{Body, Client};
use serde_json::Value;
use tower::{BoxError, service_fn};

use super::diff::Change;

/// The recorded changes, in order.
#[derive(Clone, Default)]
pub struct RecordedChanges(Arc<Mutex<Vec<Change>>>);

impl RecordedChanges {
    pub fn changes(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self, change: Option<Change>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(change);
    }
}

/// A dry-run client that sends its requests through `client`.
pub fn client(client: Client) -> (Client, RecordedChanges) {
    let recorded = RecordedChanges::default();
    let (namespace, changes) = (client.default_namespace().to_owned(), recorded.clone());
    let service = service_fn(move |request: Request<Body>| {
        let (client, changes) = (client.clone(), changes.clone());
        async move { send(client, request, &changes).await }
    });
    (Client::new(service, namespace), recorded)
}

async fn send(client: Client, request: Request<Body>, changes: &RecordedChanges) -> Result<Response<Body>, BoxError> {
    if request.method() == Method::GET {
        return Ok(client.send(request).await?);
    }
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let before = if parts.method == Method::POST {
        None
    } else {
        get(&client, &path).await?
    };
    let is_delete = parts.method == Method::DELETE;
    parts.uri = dry_run(&parts.uri)?;
    let body = body.collect_bytes().await?;
    let answer = client.send(Request::from_parts(parts, Body::from(body))).await?;
    let (parts, body) = answer.into_parts();
    let body = body.collect_bytes().await?;
    if parts.status.is_success()
        && let Ok(after) = serde_json::from_slice::<Value>(&body)
    {
        let named = if is_delete { before.as_ref().unwrap_or(&after) } else { &after };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&named["kind"]), text(&named["metadata"]["name"]));
        changes.record(Change::between(&kind, &name, before, (!is_delete).then_some(after)));
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

async fn get(client: &Client, path: &str) -> Result<Option<Value>, BoxError> {
    let request = Request::get(path).body(Body::empty())?;
    let answer = client.send(request).await?;
    let found = answer.status().is_success();
    let body = answer.into_body().collect_bytes().await?;
    Ok(if found { serde_json::from_slice(&body).ok() } else { None })
}

/// The URI of the same request as a dry run.
fn dry_run(uri: &Uri) -> Result<Uri, BoxError> {
    let query = uri.query().filter(|query| !query.is_empty());
    let query = query.map_or_else(|| "dryRun=All".to_owned(), |query| format!("{query}&dryRun=All"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{query}", uri.path()).parse()?);
    Ok(Uri::from_parts(parts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_becomes_a_dry_run() {
        for (uri, expected) in [
            ("/api/v1/namespaces/a/configmaps", "/api/v1/namespaces/a/configmaps?dryRun=All"),
            ("/x?", "/x?dryRun=All"),
            (
                "http://host/x?fieldManager=m&force=true",
                "http://host/x?fieldManager=m&force=true&dryRun=All",
            ),
        ] {
            assert_eq!(dry_run(&uri.parse().unwrap()).unwrap().to_string(), expected);
        }
    }
}
