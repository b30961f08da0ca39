//! The watches, the queue that they fill, and the loop that reconciles what is queued.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt, channel::mpsc};
use kube::{
    Resource,
    runtime::{
        controller::{Action, Config, Error, applier},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use userpipeline_api::names::PipelineId;

use super::{
    cache::{CacheWriter, CachedPipeline, ChildEvent, Scope, watch_children, watch_connections, watch_pipelines},
    caches::Writers,
    children::{ChildKind, VisitWriters},
    context::Context,
    model::{ConnectionId, connection_id, labels, pipeline_id},
    reconcile::reconcile,
    reconcile_error::ReconcileError,
};
use crate::strimzi::{Change, Kafka, KafkaTopic, KafkaUser, Observer};

/// Events of one pipeline within this time cause one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Pipelines that are reconciled at the same time.
const CONCURRENCY: u16 = 16;

/// Pipelines that an event marked for a reconcile.
#[derive(Clone)]
struct Queue {
    sender: mpsc::UnboundedSender<ObjectRef<CachedPipeline>>,
    context: Arc<Context>,
}

impl Queue {
    fn push(&self, id: PipelineId) {
        let pipeline = ObjectRef::new(&id.name).within(&id.namespace);
        self.context.waiting.mark(id);
        // The receiver is closed only when the operator stops.
        let _ = self.sender.unbounded_send(pipeline);
    }

    fn push_all(&self) {
        for pipeline in self.context.caches.pipelines.store().state() {
            self.push(pipeline_id(pipeline.as_ref()));
        }
    }

    /// Queues the pipelines that use a changed connection.
    fn push_users(&self, connection: ConnectionId) {
        self.context.connections.changed();
        for pipeline in self.context.connection_uses.pipelines(&connection) {
            self.push(pipeline);
        }
        self.context.connection_uses.announce(connection);
    }

    fn watch_failed(&self, kind: &str, error: &watcher::Error) {
        self.context.metrics.watch_broke();
        tracing::warn!(%error, kind, "watch failed; it is restarted");
    }
}

/// Queues what Strimzi's resources concern.
#[derive(Clone)]
struct StrimziObserver(Queue);

impl StrimziObserver {
    /// Queues the pipeline that the labels of an object name. All, where it is unknown which objects exist.
    fn owned<K: Resource>(&self, change: Change<K>) {
        let Change::Object(object) = change else {
            return self.0.push_all();
        };
        let label = |name: &str| object.meta().labels.as_ref()?.get(name).cloned();
        if let (Some(namespace), Some(name)) = (label(labels::PIPELINE_NAMESPACE), label(labels::PIPELINE)) {
            self.0.push(PipelineId { namespace, name });
        }
    }
}

impl Observer for StrimziObserver {
    fn kafka(&self, namespace: &str, _: Change<Kafka>) {
        let context = &self.0.context;
        for connection in context.caches.connections.store().state() {
            let spec = connection.read().ok().and_then(|connection| connection.spec.kafka?.strimzi);
            if spec.is_some_and(|listener| listener.namespace == namespace) {
                context.connection_uses.announce(connection_id(connection.as_ref()));
            }
        }
    }

    fn topic(&self, change: Change<KafkaTopic>) {
        self.owned(change);
    }

    fn user(&self, change: Change<KafkaUser>) {
        self.owned(change);
    }
}

/// Starts the watch of each kind of child.
struct Watches {
    tasks: JoinSet<()>,
    scope: Scope,
    queue: Queue,
}

impl VisitWriters for Watches {
    fn visit<K: ChildKind>(&mut self, writer: CacheWriter<K>) {
        let queue = self.queue.clone();
        let report = move |event| match event {
            ChildEvent::Changed(pipeline) => queue.push(pipeline),
            ChildEvent::AuthoritiesChanged(connection) => queue.context.connection_uses.announce(connection),
            ChildEvent::PresenceChanged => queue.push_all(),
            ChildEvent::Failed(error) => queue.watch_failed(K::KIND, &error),
        };
        self.tasks.spawn(watch_children(
            self.scope.clone(),
            K::PRESENCE,
            K::outlives_deletion,
            writer,
            report,
        ));
    }
}

/// Reconciles the pipelines of one namespace, or all, until `stop` is cancelled.
pub async fn run(context: Arc<Context>, writers: Writers, namespace: Option<String>, stop: CancellationToken) {
    let (sender, queued) = mpsc::unbounded();
    let queue = Queue {
        sender,
        context: context.clone(),
    };
    let scope = Scope {
        client: context.client.clone(),
        namespace,
    };
    let mut watches = Watches {
        tasks: JoinSet::new(),
        scope: scope.clone(),
        queue: queue.clone(),
    };
    let observing = context.clone();
    watches.tasks.spawn(watch_pipelines(
        scope,
        writers.pipelines,
        move |pipeline| observing.status.cache().observed(pipeline),
        move |event| match event {
            Ok(pipeline) => queue.push(pipeline),
            Err(error) => queue.watch_failed("UserPipeline", &error),
        },
    ));
    let queue = watches.queue.clone();
    watches.tasks.spawn(watch_connections(
        watches.scope.clone(),
        writers.connections,
        move |event| match event {
            Ok(connection) => queue.push_users(connection),
            Err(error) => queue.watch_failed("UserPipelineConnection", &error),
        },
    ));
    let observer = StrimziObserver(watches.queue.clone());
    writers.strimzi_views.watch(&context.client, &observer, &mut watches.tasks);
    writers.children.each(&mut watches);
    let Watches { mut tasks, queue, .. } = watches;
    drop((queue, observer));

    // A decision from a cache that is not filled would be wrong.
    tokio::select! {
        () = stop.cancelled() => return,
        usable = context.caches.are_usable() => if !usable { return },
    }
    tracing::info!("reconciling");
    reconciles(
        context.clone(),
        context.caches.pipelines.store().clone(),
        queued.take_until(stop.cancelled_owned()),
    )
    .for_each(|result| {
        finish(result, &context);
        std::future::ready(())
    })
    .await;
    tasks.shutdown().await;
}

type Reconciled = Result<(ObjectRef<CachedPipeline>, Action), Error<ReconcileError, Infallible>>;

fn reconciles(
    context: Arc<Context>,
    store: Store<CachedPipeline>,
    queued: impl Stream<Item = ObjectRef<CachedPipeline>> + Send + 'static,
) -> impl Stream<Item = Reconciled> {
    applier(
        |resource, context| reconcile(resource, context).boxed(),
        |resource: Arc<CachedPipeline>, _: &ReconcileError, context: Arc<Context>| {
            Action::requeue(context.back_off.after_failure(pipeline_id(resource.as_ref())))
        },
        context,
        store,
        queued.map(Ok),
        Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY),
    )
}

fn finish(result: Reconciled, context: &Context) {
    match result {
        Ok((pipeline, _)) => tracing::debug!(%pipeline, "reconciled"),
        Err(Error::ReconcilerFailed(error, pipeline)) => tracing::warn!(%pipeline, %error, "reconcile failed; it is retried"),
        Err(Error::ObjectNotFound(pipeline)) => context.forget(&PipelineId {
            namespace: pipeline.namespace.clone().unwrap_or_default(),
            name: pipeline.name.clone(),
        }),
        Err(error) => tracing::warn!(%error, "the queue failed"),
    }
}
