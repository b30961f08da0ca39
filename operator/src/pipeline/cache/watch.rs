//! The watches that fill the caches, and report which pipeline an event concerns.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Debug,
    hash::{Hash, Hasher},
    pin::pin,
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt,
        utils::PredicateConfig,
        watcher::{self, Event, watcher},
    },
};
use userpipeline_api::{UserPipeline, names::PipelineId};

use super::{
    compressed::{CachedPipeline, Compressed},
    presence::{Absence, Presence, RETRY_ABSENT},
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

/// What a watch of children reports.
pub enum ChildEvent {
    /// A child of this pipeline changed.
    Changed(PipelineId),
    /// The optional kind became absent or present, which concerns every pipeline.
    PresenceChanged,
    Failed(watcher::Error),
}

/// Watches the children of one kind. While an optional kind is absent, its cache is empty and marked so.
pub async fn watch_children<K>(scope: Scope, presence: Presence, mut writer: CacheWriter<K>, report: impl Fn(ChildEvent))
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    while let Some(absence) = watch_until_absent(&scope, presence, &mut writer, &report).await {
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
    writer: &mut CacheWriter<K>,
    report: &impl Fn(ChildEvent),
) -> Option<Absence>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    let managed = watcher::Config::default()
        .labels(&format!("{}={MANAGER}", labels::MANAGED_BY))
        .page_size(PAGE);
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
        writer.writer.apply_watcher_event(&event);
        match event {
            Event::Apply(child) | Event::Delete(child) | Event::InitApply(child) => {
                if let Some(name) = child.pipeline() {
                    report(ChildEvent::Changed(PipelineId {
                        namespace: child.namespace().unwrap_or_default(),
                        name: name.to_owned(),
                    }));
                }
            }
            Event::InitDone if writer.mark_present() => {
                tracing::info!(kind = %K::kind(&()), "the optional kind can be used again");
                report(ChildEvent::PresenceChanged);
            }
            Event::Init | Event::InitDone => {}
        }
    }
    None
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
