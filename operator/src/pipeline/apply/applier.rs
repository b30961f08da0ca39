//! Applies, creates and deletes single objects.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde::Serialize;
use serde_json::Value;
use userpipeline_api::{names, names::PipelineId};

use super::{
    drift::differences,
    error::{ApplyError, is_kind_gone},
    overrides::{Override, Overrides},
};
use crate::{
    identity::MANAGER,
    metrics::Metrics,
    pipeline::{
        cache::Presence,
        children::{ChildCaches, ChildKind, VisitChildren},
        model::{has_name, labels},
    },
    strimzi::Strimzi,
};

/// Writes the children of one pipeline.
pub struct Applier<'a> {
    pub(super) client: &'a Client,
    pub(super) metrics: &'a Metrics,
    caches: &'a ChildCaches,
    pub(super) strimzi: &'a Strimzi,
    overrides: &'a Overrides,
    pub(super) id: &'a PipelineId,
    /// Of the owner of the children.
    pub(super) uid: &'a str,
}

impl<'a> Applier<'a> {
    pub const fn new(
        client: &'a Client,
        metrics: &'a Metrics,
        caches: &'a ChildCaches,
        strimzi: &'a Strimzi,
        overrides: &'a Overrides,
        id: &'a PipelineId,
        uid: &'a str,
    ) -> Self {
        Self {
            client,
            metrics,
            caches,
            strimzi,
            overrides,
            id,
            uid,
        }
    }

    /// The children that stay different from what was applied.
    pub(super) fn overridden(&self) -> Vec<Override> {
        self.overrides.of(self.id)
    }
}

impl Applier<'_> {
    pub(super) fn api<K: ChildKind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.id.namespace)
    }

    fn is_owner_of<K: ChildKind>(&self, live: &K) -> bool {
        let is_owned = live
            .owner_references()
            .iter()
            .any(|owner| owner.controller == Some(true) && owner.uid == self.uid);
        is_owned || live.labels().get(labels::PIPELINE_UID).is_some_and(|uid| uid == self.uid)
    }

    pub(super) async fn apply_one<K: ChildKind>(&self, observed: &[Arc<K>], desired: K) -> Result<Arc<K>, ApplyError> {
        let (kind, name) = (K::KIND.to_owned(), desired.name_any());
        let failed = |source: kube::Error| apply_failed::<K>(&name, source);
        let desired = with_hash(&desired).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let api = self.api::<K>();
        let live = match observed.iter().find(|object| has_name(object.as_ref(), &name)) {
            Some(live) => Some(live.clone()),
            // It may be a foreign object, or a new one that is not cached yet.
            None => api.get_opt(&name).await.map_err(failed)?.map(Arc::new),
        };
        if let Some(live) = live {
            if !self.is_owner_of(live.as_ref()) {
                return Err(ApplyError::NotOurs { kind, name });
            }
            if live.meta().deletion_timestamp.is_some() {
                return Err(ApplyError::BeingDeleted { kind, name });
            }
            // A Job is immutable.
            if kind == Job::KIND || self.is_current(live.as_ref(), &desired) {
                return Ok(live);
            }
        }
        let params = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(&desired)).await.map_err(failed)?;
        self.wrote::<K>(&name, "patch", "applied");
        // A Job is applied once, so nothing about it is written again.
        if kind != Job::KIND {
            self.answered(&applied, &desired);
        }
        Ok(Arc::new(applied))
    }

    /// Whether another write would change nothing: the same object was applied last, and its live state has not drifted, or not
    /// since then.
    fn is_current<K: ChildKind>(&self, live: &K, desired: &Value) -> bool {
        let name = live.name_any();
        let Ok(live) = serde_json::to_value(live) else { return false };
        if differences(&live, desired).is_empty() {
            self.overrides.settled(self.id, K::KIND, &name);
            return true;
        }
        self.overrides.is_known(self.id, K::KIND, &name, &live, desired)
    }

    /// Compares the apiserver's answer to a write with what was desired.
    fn answered<K: ChildKind>(&self, applied: &K, desired: &Value) {
        let name = applied.name_any();
        let Ok(live) = serde_json::to_value(applied) else { return };
        let paths = differences(&live, desired);
        if !paths.is_empty() {
            let paths = paths.join(", ");
            tracing::info!(
                kind = K::KIND,
                name,
                namespace = self.id.namespace,
                paths,
                "overridden by a webhook"
            );
        }
        self.overrides.answered(self.id, K::KIND, &name, &live, desired, paths);
    }

    /// Creates the Job of a run. A Job of the same name is the same run: the CronJob created it, or the cache is behind.
    pub async fn start_run(&self, job: &Job) -> Result<(), ApplyError> {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let name = job.name_any();
        let failed = |source: kube::Error| apply_failed::<Job>(&name, source);
        match self.api::<Job>().create(&params, job).await {
            Ok(_) => {
                self.wrote::<Job>(&name, "create", "started");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let existing = self.api::<Job>().get_opt(&name).await.map_err(failed)?;
                let is_foreign = |job: &Job| job.labels().get(labels::PIPELINE) != Some(&self.id.name);
                if existing.as_ref().is_some_and(is_foreign) {
                    let kind = Job::KIND.to_owned();
                    return Err(ApplyError::NotOurs { kind, name });
                }
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Deletes exactly the observed version: another object of the same name, or a changed one, stays.
    pub async fn delete_one<K: ChildKind>(&self, observed: &K, policy: PropagationPolicy) -> Result<(), ApplyError> {
        let (kind, name) = (K::KIND.to_owned(), observed.name_any());
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: observed.uid(),
                resource_version: observed.resource_version(),
            }),
            ..DeleteParams::default()
        };
        let uid = observed.uid().unwrap_or_default();
        let deleted = self.caches.jobs.deleted();
        if K::KIND == Job::KIND {
            deleted.expect(&uid);
        }
        let result = self.api::<K>().delete(&name, &params).await;
        if result.is_err() {
            deleted.unexpect(&uid);
        }
        match result {
            Ok(_) => {
                self.overrides.settled(self.id, K::KIND, &name);
                self.wrote::<K>(&name, "delete", "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                self.overrides.settled(self.id, K::KIND, &name);
                Ok(())
            }
            // Not a success: callers rely on the object being gone.
            Err(kube::Error::Api(status)) if status.code == 409 => Err(ApplyError::Changed { kind, name }),
            Err(source) => Err(ApplyError::DeleteFailed {
                kind,
                name,
                source: Box::new(source),
            }),
        }
    }

    pub(super) fn wrote<K: ChildKind>(&self, name: &str, verb: &'static str, what: &str) {
        self.metrics.wrote(K::KIND, verb);
        tracing::info!(kind = K::KIND, name, namespace = self.id.namespace, "{what}");
    }
}

impl VisitChildren for Applier<'_> {
    type Error = ApplyError;

    async fn apply<K: ChildKind>(&self, observed: &[Arc<K>], desired: K) -> Result<Option<Arc<K>>, ApplyError> {
        let name = desired.name_any();
        match self.apply_one(observed, desired).await {
            // Its CustomResourceDefinition was removed a moment ago, and the watch has not noticed yet.
            Err(error) if K::PRESENCE == Presence::Optional && is_kind_gone(&error) => {
                tracing::info!(
                    kind = K::KIND,
                    name,
                    "not applied: the apiserver does not serve this optional kind any more"
                );
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    async fn delete<K: ChildKind>(&self, observed: &K) -> Result<(), ApplyError> {
        self.delete_one(observed, PropagationPolicy::Background).await
    }
}

pub(super) fn apply_failed<K: ChildKind>(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::ApplyFailed {
        kind: K::KIND.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn with_hash<K: Serialize>(desired: &K) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(desired)?;
    let hash = names::hash(&value.to_string());
    value["metadata"]["annotations"][labels::DESIRED_HASH] = Value::String(hash);
    Ok(value)
}

/// Whether `live` is what was applied last, whatever others changed since then.
pub fn was_applied<K: ChildKind>(live: &K, desired: &K) -> bool {
    let applied = live.annotations().get(labels::DESIRED_HASH).map(String::as_str);
    with_hash(desired).is_ok_and(|desired| desired["metadata"]["annotations"][labels::DESIRED_HASH].as_str() == applied)
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        http::{Method, StatusCode},
        response::{IntoResponse, Json},
    };
    use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;
    use crate::pipeline::children::ChildWriters;

    /// An apiserver that has no objects, and refuses writes so.
    async fn apiserver(code: u16, message: &'static str) -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(move |method: Method| async move {
            let (code, reason) = if method == Method::GET { (404, "NotFound") } else { (code, "x") };
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code});
            (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap()
    }

    async fn apply<K: ChildKind + DeserializeOwned>(client: &Client) -> Result<Option<Arc<K>>, String> {
        let (metrics, id) = (Metrics::new(), crate::pipeline::model::pipeline_id(&crate::pipeline::example()));
        let desired: K = serde_json::from_value(json!({"metadata": {"name": "a", "annotations": {}}})).unwrap();
        let (caches, strimzi, overrides) = (ChildWriters::default().caches(), Strimzi::default(), Overrides::default());
        let applier = Applier::new(client, &metrics, &caches, &strimzi, &overrides, &id, "uid");
        let result = applier.apply(&[], desired).await;
        result.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_kind_that_vanished_is_an_error_only_if_it_is_required() {
        for (code, message) in [
            (404, "404 page not found"),
            (403, "create not allowed while custom resource definition is terminating"),
        ] {
            let client = apiserver(code, message).await;
            assert_eq!(apply::<Endpoints>(&client).await, Ok(None));
            assert_eq!(
                apply::<ConfigMap>(&client).await,
                Err(format!("cannot apply ConfigMap a: {message}"))
            );
        }
        let client = apiserver(403, "no right").await;
        let refused = apply::<Endpoints>(&client).await;
        assert_eq!(refused, Err("cannot apply Endpoints a: no right".to_owned()));
    }
}
