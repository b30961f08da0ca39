//! Checks connections, and writes the status of those that changed, whose number of pipelines did, or that were checked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::{
    Client, Resource,
    runtime::{
        controller::{Action, Config, Error, applier},
        reflector::ObjectRef,
    },
};
use tokio_util::sync::CancellationToken;
use userpipeline_api::{UserPipelineConnectionSpec, UserPipelineConnectionStatus};

use super::{
    check::{self, Decision},
    checker::{Checker, owner},
    event::events,
    found::Finder,
    slots::CheckSlots,
    status::{ConnectionState, connection_status},
    subject::Subject,
};
use crate::{
    metrics::Metrics,
    pipeline::{
        CachedConnection, Caches, CheckChildren, ConnectionId, ConnectionUses, EventPublisher, Installation, RefusedPods, connection_id,
    },
    replace_status::replace_status,
};

/// Until the next look for a free slot.
const WAIT_FOR_SLOT: Duration = Duration::from_secs(10);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Pipelines that are created together change the number once.
const DEBOUNCE: Duration = Duration::from_secs(1);

pub struct Context {
    client: Client,
    caches: Caches,
    metrics: Metrics,
    events: EventPublisher,
    refused_pods: RefusedPods,
    slots: CheckSlots,
    installation: Installation,
    uses: Arc<ConnectionUses>,
}

impl Context {
    /// `instance` is the name of the operator's pod, for Events.
    pub fn new(
        client: Client,
        caches: Caches,
        metrics: Metrics,
        uses: Arc<ConnectionUses>,
        installation: Installation,
        instance: String,
    ) -> Self {
        Self {
            events: EventPublisher::new(client.clone(), metrics.clone(), instance),
            refused_pods: RefusedPods::new(client.clone()),
            slots: CheckSlots::default(),
            installation,
            client,
            caches,
            metrics,
            uses,
        }
    }
}

/// Writes statuses until `stop` is cancelled.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let queued = context.uses.subscribe();
    tokio::select! {
        () = stop.cancelled() => return,
        usable = context.caches.are_usable() => if !usable { return },
    }
    // Otherwise each start of the operator would write the number 0 first.
    for pipeline in context
        .caches
        .pipelines
        .store()
        .state()
        .iter()
        .filter_map(|cached| cached.read().ok())
    {
        context.uses.seed(&pipeline);
    }
    for connection in context.caches.connections.store().state() {
        context.uses.announce(connection_id(connection.as_ref()));
    }
    let queued = queued.map(|ConnectionId { namespace, name }| Ok::<_, std::convert::Infallible>(ObjectRef::new(&name).within(&namespace)));
    applier(
        |connection, context| reconcile(connection, context).boxed(),
        |_, error: &kube::Error, _| {
            tracing::warn!(%error, "reconcile of a connection failed; it is retried");
            Action::requeue(AFTER_FAILURE)
        },
        context.clone(),
        context.caches.connections.store().clone(),
        queued.take_until(stop.cancelled_owned()),
        Config::default().debounce(DEBOUNCE),
    )
    .for_each(|result| {
        if let Err(Error::ObjectNotFound(gone)) = &result {
            context.slots.release(&ConnectionId {
                namespace: gone.namespace.clone().unwrap_or_default(),
                name: gone.name.clone(),
            });
        }
        // One that is gone has no status.
        if let Err(error) = result
            && !matches!(error, Error::ObjectNotFound(_) | Error::ReconcilerFailed(..))
        {
            tracing::warn!(%error, "the queue of connections failed");
        }
        std::future::ready(())
    })
    .await;
}

pub(super) async fn reconcile(connection: Arc<CachedConnection>, context: Arc<Context>) -> Result<Action, kube::Error> {
    if connection.meta().deletion_timestamp.is_some() {
        context.slots.release(&connection_id(connection.as_ref()));
        return Ok(Action::await_change());
    }
    let before: UserPipelineConnectionStatus = serde_json::from_value(connection.status().unwrap_or_default()).unwrap_or_default();
    let now = Timestamp::now();
    let finder = Finder {
        client: &context.client,
        caches: &context.caches,
        metrics: &context.metrics,
        installation: &context.installation,
    };
    let Some(found) = finder.find(&connection, before.kafka.as_ref(), now).await? else {
        return Ok(Action::await_change());
    };
    let is_checked = context.installation.checks_connections;
    let decision = if let Some(spec) = found.usable.as_ref().filter(|_| is_checked) {
        Some(check(&connection, spec, &before, &context).await?)
    } else {
        context.slots.release(&connection_id(connection.as_ref()));
        None
    };
    let (recorded, check_problem, requeue) = match decision {
        Some(Decision {
            check, problem, requeue, ..
        }) => (check, problem, Some(requeue)),
        None => (before.check.clone().unwrap_or_default(), None, None),
    };
    let expiry = found
        .next_expiry
        .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    let requeue = requeue.into_iter().chain(expiry).min();
    let users = context.uses.pipelines(&connection_id(connection.as_ref()));
    let state = ConnectionState {
        generation: connection.meta().generation,
        is_usable: found.usable.is_some(),
        problem: found.problem,
        note: found.note,
        kafka: found.kafka,
        pipelines: users.len(),
        check: recorded,
        check_problem,
        is_checked,
    };
    let after = connection_status(&state, &before, now);
    if before != after {
        write(&connection, &after, &context).await?;
        for event in events(&before, &after, &users) {
            context.events.publish(&event, &connection.object_ref(&())).await;
        }
    }
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

/// Decides whether a check is due, and writes what follows.
async fn check(
    connection: &CachedConnection,
    spec: &UserPipelineConnectionSpec,
    before: &UserPipelineConnectionStatus,
    context: &Context,
) -> Result<Decision, kube::Error> {
    let recorded = before.check.clone().unwrap_or_default();
    let Some(owner) = owner(connection, &context.installation) else {
        return Ok(Decision {
            check: recorded,
            ..Decision::default()
        });
    };
    let now = Timestamp::now();
    let id = connection_id(connection);
    let live = CheckChildren::observe(&id, &owner.uid, &context.caches.children, &context.refused_pods, now).await;
    let subject = Subject::of(connection);
    let spread = check::spread(&owner.uid);
    let mut decision = check::decide(&subject, &owner.task_hash(), &recorded, &live.tasks, spread, now);
    if decision.create.is_some() && !context.slots.take(&id, Instant::now()) {
        decision.create = None;
        decision.requeue = WAIT_FOR_SLOT;
    } else if !live.jobs.is_empty() {
        context.slots.occupy(&id, Instant::now());
    } else if decision.create.is_none() {
        context.slots.release(&id);
    }
    let checker = Checker {
        client: &context.client,
        metrics: &context.metrics,
        owner: &owner,
        spec,
    };
    let applied = checker.apply(&subject, &decision, &live).await;
    if applied.is_err() {
        context.slots.release(&id);
    }
    applied.map(|()| decision)
}

async fn write(connection: &CachedConnection, status: &UserPipelineConnectionStatus, context: &Context) -> Result<(), kube::Error> {
    let id = connection_id(connection);
    let status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    let uid = connection.meta().uid.as_deref();
    let written = replace_status::<CachedConnection>(&context.client, &id.namespace, &id.name, uid, &status).await?;
    if written.is_some() {
        context.metrics.wrote("UserPipelineConnection", "patch");
    }
    Ok(())
}
