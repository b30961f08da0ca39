//! Writes the status of connections that changed, or whose number of pipelines did.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::{
        controller::{Action, Config, Error, applier},
        reflector::ObjectRef,
    },
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use userpipeline_api::{GROUP, UserPipelineConnectionStatus};

use super::status::{ConnectionState, connection_status};
use crate::{
    identity::MANAGER,
    metrics::Metrics,
    pipeline::{CachedConnection, Caches, ConnectionId, ConnectionUses, connection_id, usable},
};

const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Pipelines that are created together change the number once.
const DEBOUNCE: Duration = Duration::from_secs(1);

pub struct Context {
    client: Client,
    caches: Caches,
    metrics: Metrics,
    uses: Arc<ConnectionUses>,
}

impl Context {
    pub const fn new(client: Client, caches: Caches, metrics: Metrics, uses: Arc<ConnectionUses>) -> Self {
        Self {
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
            tracing::warn!(%error, "cannot write the status of a connection; it is retried");
            Action::requeue(AFTER_FAILURE)
        },
        context.clone(),
        context.caches.connections.store().clone(),
        queued.take_until(stop.cancelled_owned()),
        Config::default().debounce(DEBOUNCE),
    )
    .for_each(|result| {
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

async fn reconcile(connection: Arc<CachedConnection>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let id = connection_id(connection.as_ref());
    let before = connection.status().unwrap_or_default();
    let known: UserPipelineConnectionStatus = serde_json::from_value(before.clone()).unwrap_or_default();
    let state = ConnectionState {
        generation: connection.meta().generation,
        problem: usable(&connection).err(),
        pipelines: context.uses.count(&id),
    };
    let after = json!(connection_status(&state, &known, Timestamp::now()));
    if before == after || connection.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let api: Api<CachedConnection> = Api::namespaced(context.client.clone(), &id.namespace);
    let body = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "UserPipelineConnection",
        // The uid keeps the status from another connection of the same name.
        "metadata": {"name": id.name, "uid": connection.meta().uid},
        "status": after,
    });
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&id.name, &params, &Patch::Apply(&body)).await {
        Ok(_) => context.metrics.wrote("UserPipelineConnection", "patch"),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error),
    }
    Ok(Action::await_change())
}
