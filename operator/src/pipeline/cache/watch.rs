//! The watches that fill the caches, and report which pipeline an event concerns.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Debug,
    hash::{Hash, Hasher},
};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt, utils::PredicateConfig, watcher},
};
use serde::de::DeserializeOwned;
use userpipeline_api::{UserPipeline, names::PipelineId};

use super::{
    compressed::{CachedPipeline, Compressed},
    deleted::Departures,
    presence::{Presence, until_served},
    store::CacheWriter,
};
use crate::{
    identity::MANAGER,
    pipeline::model::{labels, pipeline_id},
};

/// Objects in one page of a list: the allocator keeps the memory of the largest response.
const PAGE: u32 = 20;

/// The namespace that is watched, or all of them.
#[derive(Clone)]
pub struct Scope {
    pub client: Client,
    pub namespace: Option<String>,
}

impl Scope {
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
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

/// Watches the children of one kind. `changed` receives the pipeline of each changed child, and errors. Deleted children that
/// `outlives_deletion` selects are remembered.
pub async fn watch_children<K>(
    scope: Scope,
    presence: Presence,
    outlives_deletion: fn(&K) -> bool,
    writer: CacheWriter<K>,
    changed: impl Fn(Result<PipelineId, watcher::Error>),
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    if presence == Presence::Optional {
        until_served::<K>(&scope.client, &writer.absent).await;
    }
    let managed = watcher::Config::default()
        .labels(&format!("{}={MANAGER}", labels::MANAGED_BY))
        .page_size(PAGE);
    let changed_child = |child: &Compressed<K>| {
        if let Some(name) = child.pipeline() {
            changed(Ok(PipelineId {
                namespace: child.namespace().unwrap_or_default(),
                name: name.to_owned(),
            }));
        }
    };
    let deleted = writer.deleted.clone();
    let mut departures = Departures::new(writer.writer.as_reader());
    watcher(scope.api::<Compressed<K>>(), managed)
        .default_backoff()
        .inspect_ok(|event| {
            for gone in departures.find(event) {
                changed_child(&gone);
                if gone.read().is_ok_and(|child| outlives_deletion(&child)) {
                    deleted.remember(gone, Timestamp::now());
                }
            }
        })
        .reflect(writer.writer)
        .touched_objects()
        .for_each(|event| {
            match event {
                Ok(child) => changed_child(&child),
                Err(error) => changed(Err(error)),
            }
            std::future::ready(())
        })
        .await;
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
            let recorded = pipeline
                .status
                .as_ref()
                .map(|status| (&status.schema, &status.drain, &status.deletion));
            serde_json::to_string(&recorded).ok().hash(&mut hasher);
        }
        Err(error) => (resource.uid(), resource.meta().generation, error.to_string()).hash(&mut hasher),
    }
    hasher.finish()
}
