//! The watches that fill the caches, and report which pipeline an event concerns.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Debug,
    hash::{Hash, Hasher},
    pin::pin,
};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt,
        utils::PredicateConfig,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use userpipeline_api::{UserPipeline, names::PipelineId};

use super::{
    compressed::{CachedPipeline, Compressed},
    deleted::{Departures, has_ended},
    presence::{Absence, Presence, RETRY_ABSENT},
    store::CacheWriter,
};
use crate::{
    identity::MANAGER,
    pipeline::model::{ConnectionId, labels, labels::Component, pipeline_id},
};

/// Objects in one page of a list: the allocator keeps the memory of the largest response.
pub(super) const PAGE: u32 = 20;

/// The namespace that is watched, or all of them.
#[derive(Clone)]
pub struct Scope {
    pub client: Client,
    pub namespace: Option<String>,
}

impl Scope {
    pub(super) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// Watches pipelines. `observed` receives each one; `changed` those whose change needs a reconcile, and errors.
pub async fn watch_pipelines(
    scope: Scope,
    writer: CacheWriter<UserPipeline>,
    observed: impl Fn(&CachedPipeline),
    changed: impl Fn(Result<PipelineId, watcher::Error>),
) {
    watcher(scope.api::<CachedPipeline>(), watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .reflect(writer.writer)
        .applied_objects()
        .inspect_ok(observed)
        .predicate_filter(
            |resource: &CachedPipeline| Some(relevant_hash(resource)),
            PredicateConfig::default(),
        )
        .for_each(|event| {
            changed(event.map(|pipeline| pipeline_id(&pipeline)));
            std::future::ready(())
        })
        .await;
}

/// What a watch of children reports.
pub enum ChildEvent {
    /// A child of this pipeline changed.
    Changed(PipelineId),
    /// The authorities of this connection changed.
    AuthoritiesChanged(ConnectionId),
    /// The optional kind became absent or present, which concerns every pipeline.
    PresenceChanged,
    Failed(watcher::Error),
}

/// Watches the children of one kind. While an optional kind is absent, its cache is empty and marked so. Deleted children that
/// `outlives_deletion` selects are remembered.
pub async fn watch_children<K>(
    scope: Scope,
    presence: Presence,
    outlives_deletion: fn(&K) -> bool,
    mut writer: CacheWriter<K>,
    report: impl Fn(ChildEvent),
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    while let Some(absence) = watch_until_absent(&scope, presence, outlives_deletion, &mut writer, &report).await {
        if writer.mark_absent() {
            absence.log(&K::kind(&()));
            report(ChildEvent::PresenceChanged);
        }
        tokio::time::sleep(RETRY_ABSENT).await;
    }
}

/// Ends only with an error that shows that the optional kind is absent.
async fn watch_until_absent<K>(
    scope: &Scope,
    presence: Presence,
    outlives_deletion: fn(&K) -> bool,
    writer: &mut CacheWriter<K>,
    report: &impl Fn(ChildEvent),
) -> Option<Absence>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let managed = watcher::Config::default()
        .labels(&format!("{}={MANAGER}", labels::MANAGED_BY))
        .page_size(PAGE);
    let changed = |child: &Compressed<K>| {
        if let Some(name) = child.pipeline() {
            report(ChildEvent::Changed(PipelineId {
                namespace: child.namespace().unwrap_or_default(),
                name: name.to_owned(),
            }));
        } else if let Some(connection) = child.read().ok().and_then(|child| connection_with_authorities(&child)) {
            report(ChildEvent::AuthoritiesChanged(connection));
        }
    };
    let mut departures = Departures::new(writer.writer.as_reader());
    let mut events = pin!(watcher(scope.api::<Compressed<K>>(), managed).default_backoff());
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if presence == Presence::Optional
                    && let Some(absence) = Absence::of_watch::<K>(&error, &scope.client).await
                {
                    return Some(absence);
                }
                report(ChildEvent::Failed(error));
                continue;
            }
        };
        for gone in departures.find(&event) {
            changed(&gone);
            let has_known_end = matches!(event, Event::Delete(_)) || has_ended(&gone);
            if has_known_end && gone.read().is_ok_and(|child| outlives_deletion(&child)) {
                writer.deleted.remember(gone, Timestamp::now());
            }
        }
        writer.apply(&event);
        match event {
            Event::Apply(child) | Event::Delete(child) | Event::InitApply(child) => changed(&child),
            Event::InitDone if writer.mark_present() => {
                tracing::info!(kind = %K::kind(&()), "the optional kind can be used again");
                report(ChildEvent::PresenceChanged);
            }
            Event::Init | Event::InitDone => {}
        }
    }
    None
}

/// The connection to which a ConfigMap with authorities belongs. Nothing else of a connection reports its changes.
fn connection_with_authorities(child: &impl ResourceExt) -> Option<ConnectionId> {
    let component = child.labels().get(labels::COMPONENT)?;
    (component == Component::Authorities.as_str()).then_some(())?;
    Some(ConnectionId {
        namespace: child.namespace().unwrap_or_default(),
        name: child.labels().get(labels::CONNECTION)?.clone(),
    })
}

/// A hash of what of a pipeline needs a reconcile: not the measurements that the operator itself writes.
fn relevant_hash(resource: &CachedPipeline) -> u64 {
    let mut hasher = DefaultHasher::new();
    match resource.read() {
        Ok(pipeline) => {
            let meta = &pipeline.metadata;
            meta.generation.hash(&mut hasher);
            meta.uid.hash(&mut hasher);
            meta.annotations.hash(&mut hasher);
            meta.deletion_timestamp.is_some().hash(&mut hasher);
            let recorded = pipeline.status.as_ref().map(|status| {
                (
                    &status.schema,
                    &status.topics,
                    &status.drain,
                    &status.deletion,
                    &status.connection_rollout,
                )
            });
            serde_json::to_string(&recorded).ok().hash(&mut hasher);
        }
        Err(error) => (resource.uid(), resource.meta().generation, error.to_string()).hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use axum::{Router, body::Body, http::Uri, response::IntoResponse};
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "demo", "uid": name, "resourceVersion": "1", "labels": {labels::PIPELINE: "users"}}})
    }

    /// Lists `a`, `b` and one without a pipeline, then sends that `a` was deleted.
    async fn apiserver() -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let app = Router::new().fallback(|uri: Uri| async move {
            if !uri.query().unwrap_or_default().contains("watch=") {
                let mut other = object("check");
                other["metadata"]["labels"] = json!({});
                let items = [object("a"), object("b"), other];
                let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
                return axum::Json(list).into_response();
            }
            let event = format!("{}\n", json!({"type": "DELETED", "object": object("a")}));
            let endless = futures::stream::pending::<Result<String, std::io::Error>>();
            Body::from_stream(futures::stream::iter([Ok(event)]).chain(endless)).into_response()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Client::try_from(kube::Config::new(uri)).unwrap()
    }

    #[tokio::test]
    async fn a_deleted_child_is_remembered_only_where_its_kind_wants_it_and_others_are_found() {
        for outlives_deletion in [true, false] {
            let scope = Scope {
                client: apiserver().await,
                namespace: None,
            };
            let writer = CacheWriter::<ConfigMap>::default();
            let cache = writer.cache();
            let changes = Arc::new(Mutex::new(0));
            let wants: fn(&ConfigMap) -> bool = if outlives_deletion { |_| true } else { |_| false };
            let counted = changes.clone();
            let task = tokio::spawn(watch_children(scope, Presence::Required, wants, writer, move |_| {
                *counted.lock().unwrap() += 1;
            }));
            let id = PipelineId {
                namespace: "demo".into(),
                name: "users".into(),
            };
            // Two listed, and one deleted.
            while *changes.lock().unwrap() < 3 || cache.of_pipeline(&id).len() != 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let deleted = cache.deleted().of_pipeline(&id, Timestamp::now());
            let names: Vec<String> = deleted.iter().map(|(_, object)| object.name_any()).collect();
            assert_eq!(names, if outlives_deletion { vec!["a"] } else { vec![] });
            let others: Vec<String> = cache.of_no_pipeline("demo").iter().map(|object| object.name_any()).collect();
            assert_eq!(others, ["check"]);
            task.abort();
        }
    }
}
