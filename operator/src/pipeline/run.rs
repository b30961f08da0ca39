//! The watches, the queue, and the loop over both.

use std::{
    collections::hash_map::DefaultHasher,
    convert::Infallible,
    fmt::Debug,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, channel::mpsc};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt,
        controller::{Action, Config, Error, applier},
        reflector::{ObjectRef, Store, store::Writer},
        utils::PredicateConfig,
        watcher,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use userpipeline_api::{UserPipeline, names::PipelineId};

use super::{
    Context, ReconcileError,
    build::labels,
    caches::Writers,
    kept::{self, Kept},
    reconcile,
};
use crate::MANAGER;

/// Events of one pipeline within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Objects that are listed at a time: the allocator keeps the room of the largest answer.
const PAGE: u32 = 50;
/// Pipelines that are reconciled at the same time.
const CONCURRENCY: u16 = 16;

/// Where events mark pipelines.
#[derive(Clone)]
struct Queue {
    marks: mpsc::UnboundedSender<ObjectRef<Kept<UserPipeline>>>,
    context: Arc<Context>,
}

impl Queue {
    fn mark(&self, namespace: Option<String>, name: String) {
        let id = PipelineId {
            namespace: namespace.unwrap_or_default(),
            name,
        };
        let marked = ObjectRef::new(&id.name).within(&id.namespace);
        self.context.waiting.mark(id);
        // Nobody takes marks any more only when the operator stops.
        let _ = self.marks.unbounded_send(marked);
    }
}

/// Reconciles all pipelines, of one namespace or of all, until told to stop.
pub async fn run(context: Arc<Context>, writers: Writers, namespace: Option<String>, stop: CancellationToken) {
    let (marks, marked) = mpsc::unbounded();
    let queue = Queue {
        marks,
        context: context.clone(),
    };
    let scope = Scope {
        client: context.client.clone(),
        namespace,
    };
    let mut watches = JoinSet::new();
    watches.spawn(watch_pipelines(scope.api(), writers.pipelines, queue.clone()));
    watches.spawn(watch_children(scope.api(), writers.config_maps, queue.clone()));
    watches.spawn(watch_children(scope.api(), writers.accounts, queue.clone()));
    watches.spawn(watch_children(scope.api(), writers.jobs, queue.clone()));
    watches.spawn(watch_children(scope.api(), writers.cron_jobs, queue.clone()));
    watches.spawn(watch_children(scope.api(), writers.deployments, queue.clone()));
    watches.spawn(watch_children(scope.api(), writers.budgets, queue.clone()));
    watches.spawn(watch_children(scope.api(), writers.pods, queue));

    // A decision on a cache that has not been filled would be a wrong one.
    tokio::select! {
        () = stop.cancelled() => return,
        filled = context.caches.filled() => if !filled { return },
    }
    tracing::info!("reconciling");
    reconciliations(
        context.clone(),
        context.caches.pipelines.clone(),
        marked.take_until(stop.cancelled_owned()),
    )
    .for_each(|result| {
        log(result, &context);
        std::future::ready(())
    })
    .await;
    watches.shutdown().await;
}

type Reconciliation = Result<(ObjectRef<Kept<UserPipeline>>, Action), Error<ReconcileError, Infallible>>;

fn reconciliations(
    context: Arc<Context>,
    store: Store<Kept<UserPipeline>>,
    marked: impl Stream<Item = ObjectRef<Kept<UserPipeline>>> + Send + 'static,
) -> impl Stream<Item = Reconciliation> {
    applier(
        |resource, context| reconcile(resource, context).boxed(),
        |resource: Arc<Kept<UserPipeline>>, _: &ReconcileError, context: Arc<Context>| {
            Action::requeue(context.back_off.after_failure(kept::id(resource.as_ref())))
        },
        context,
        store,
        marked.map(Ok),
        Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY),
    )
}

fn log(result: Reconciliation, context: &Context) {
    match result {
        Ok((pipeline, _)) => tracing::debug!(%pipeline, "reconciled"),
        Err(Error::ReconcilerFailed(error, pipeline)) => tracing::warn!(%pipeline, %error, "not reconciled; it is tried again"),
        Err(Error::ObjectNotFound(pipeline)) => {
            let id = PipelineId {
                namespace: pipeline.namespace.clone().unwrap_or_default(),
                name: pipeline.name.clone(),
            };
            context.waiting.take(&id);
            context.forget(&id);
        }
        Err(error) => tracing::warn!(%error, "the queue has failed"),
    }
}

struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

async fn watch_pipelines(api: Api<Kept<UserPipeline>>, writer: Writer<Kept<UserPipeline>>, queue: Queue) {
    watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .inspect_ok(|seen| queue.context.written.caught_up(seen))
        .predicate_filter(
            |resource: &Kept<UserPipeline>| Some(what_matters(resource)),
            PredicateConfig::default(),
        )
        .for_each(|seen| {
            mark(seen, "UserPipeline", &queue, |pipeline| Some(pipeline.name_any()));
            std::future::ready(())
        })
        .await;
}

async fn watch_children<K>(api: Api<Kept<K>>, writer: Writer<Kept<K>>, queue: Queue)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let ours = watcher::Config::default()
        .labels(&format!("{}={MANAGER}", labels::MANAGED_BY))
        .page_size(PAGE);
    watcher(api, ours)
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .for_each(|seen| {
            mark(seen, &K::kind(&()), &queue, |child| child.pipeline().map(str::to_owned));
            std::future::ready(())
        })
        .await;
}

fn mark<K: Resource>(seen: Result<K, watcher::Error>, kind: &str, queue: &Queue, pipeline: impl Fn(&K) -> Option<String>) {
    match seen {
        Ok(object) => {
            if let Some(name) = pipeline(&object) {
                queue.mark(object.namespace(), name);
            }
        }
        Err(error) => {
            queue.context.metrics.watch_broke();
            tracing::warn!(%error, kind, "a watch broke; it is taken up again");
        }
    }
}

/// What of a pipeline makes it worth a look: not the measurements that the operator itself writes.
fn what_matters(resource: &Kept<UserPipeline>) -> u64 {
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
