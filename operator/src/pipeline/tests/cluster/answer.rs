//! Answers a request to the fake apiserver.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Json, Response},
};
use serde_json::Value;

use super::Cluster;

pub(super) async fn answer(State(cluster): State<Arc<Cluster>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_dry_run = uri.query().is_some_and(|query| query.contains("dryRun=All"));
    if method != Method::GET && !is_dry_run {
        cluster.writes.lock().unwrap().push(format!("{method} {path}"));
    }
    if is_dry_run {
        let objects = cluster.objects.lock().unwrap().clone();
        let response = respond(&cluster, &method, &path, body);
        *cluster.objects.lock().unwrap() = objects;
        return response;
    }
    match cluster.fault(&method) {
        None => respond(&cluster, &method, &path, body),
        Some(takes_effect) => {
            if takes_effect {
                respond(&cluster, &method, &path, body);
            }
            Cluster::refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "crash")
        }
    }
}

/// After group and version, and perhaps a namespace, a list has one part and an object has two.
fn is_list(path: &str) -> bool {
    let parts = path.split('/').skip(1).count();
    let prefix = if path.starts_with("/api/") { 2 } else { 3 };
    (parts - prefix) % 2 == 1
}

fn respond(cluster: &Cluster, method: &Method, path: &str, body: Value) -> Response {
    if *method != Method::GET && cluster.conflict_once.lock().unwrap().take_if(|end| path.ends_with(*end)).is_some() {
        return Cluster::refuse(StatusCode::CONFLICT, "Conflict", "try again");
    }
    if *method != Method::GET && cluster.refused.lock().unwrap().is_some_and(|refused| path.contains(refused)) {
        return Cluster::refuse(StatusCode::FORBIDDEN, "Forbidden", "quota exceeded");
    }
    if *method == Method::GET {
        let object = cluster.objects.lock().unwrap().get(path).cloned();
        return match object {
            Some(object) => Json(object).into_response(),
            None if is_list(path) => cluster.list(path),
            None => Cluster::refuse(StatusCode::NOT_FOUND, "NotFound", "not found"),
        };
    }
    if *method == Method::PATCH {
        return cluster.apply(path, body);
    }
    if *method == Method::DELETE {
        let Some(object) = cluster.objects.lock().unwrap().get(path).cloned() else {
            return Cluster::refuse(StatusCode::NOT_FOUND, "NotFound", "not found");
        };
        for key in ["uid", "resourceVersion"] {
            if body["preconditions"][key] != object["metadata"][key] {
                return Cluster::refuse(StatusCode::CONFLICT, "Conflict", "precondition");
            }
        }
        cluster.objects.lock().unwrap().remove(path);
        return Json(object).into_response();
    }
    if let Some(name) = body["metadata"]["name"].as_str().filter(|_| !path.ends_with("/events")) {
        let path = format!("{path}/{name}");
        if cluster.objects.lock().unwrap().contains_key(&path) {
            return Cluster::refuse(StatusCode::CONFLICT, "AlreadyExists", "already exists");
        }
        cluster.apply(&path, body);
        return (StatusCode::CREATED, Json(cluster.get(&path))).into_response();
    }
    (StatusCode::CREATED, Json(body)).into_response()
}
