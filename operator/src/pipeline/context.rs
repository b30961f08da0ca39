//! What every reconcile uses.

use std::sync::Arc;

use kube::Client;
use userpipeline_api::names::PipelineId;

use super::{
    apply::{Applier, Overrides},
    caches::Caches,
    connections::{ConnectionLookup, ConnectionUses},
    decide::{ResourceIndex, upgrade::Rollouts},
    model::Installation,
    observe::{RefusedPods, ReplicaSets, Scalers, WorkerClient},
    reconcile_back_off::ReconcileBackOff,
    status::StatusWriter,
};
use crate::metrics::{Metrics, Waiting};

pub struct Context {
    pub(super) client: Client,
    pub(super) caches: Caches,
    pub(super) metrics: Metrics,
    pub(super) installation: Installation,
    /// Desired objects are those at the end of a rollout, not of its next step: for a plan.
    pub(super) ignore_rollout_order: bool,
    pub(super) replica_sets: ReplicaSets,
    pub(super) workers: WorkerClient,
    pub(super) refused_pods: RefusedPods,
    pub(super) scalers: Scalers,
    pub(super) status: StatusWriter,
    pub(super) waiting: Waiting<PipelineId>,
    pub(super) back_off: ReconcileBackOff,
    pub(super) connections: ConnectionLookup,
    pub(super) connection_uses: Arc<ConnectionUses>,
    pub(super) resources: ResourceIndex,
    pub(super) overrides: Overrides,
    pub(super) rollouts: Rollouts,
}

impl Context {
    /// `instance` is the name of the operator's pod, for Events.
    pub fn new(
        client: Client,
        caches: Caches,
        metrics: Metrics,
        installation: Installation,
        instance: String,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            replica_sets: ReplicaSets::new(client.clone()),
            workers: WorkerClient::new()?,
            refused_pods: RefusedPods::new(client.clone()),
            scalers: Scalers::default(),
            status: StatusWriter::new(client.clone(), metrics.clone(), caches.pipelines.clone(), instance),
            waiting: Waiting::new(metrics.clone()),
            back_off: ReconcileBackOff::default(),
            connections: ConnectionLookup::new(caches.connections.clone(), caches.children.config_maps.clone()),
            connection_uses: Arc::default(),
            resources: ResourceIndex::default(),
            overrides: Overrides::default(),
            rollouts: Rollouts::default(),
            client,
            caches,
            metrics,
            installation,
            ignore_rollout_order: false,
        })
    }

    pub fn refused_pods(&self) -> RefusedPods {
        self.refused_pods.clone()
    }

    pub fn connection_uses(&self) -> Arc<ConnectionUses> {
        self.connection_uses.clone()
    }

    /// Writes the children of the pipeline `id`, whose owner has this uid.
    pub(super) const fn applier<'a>(&'a self, id: &'a PipelineId, uid: &'a str) -> Applier<'a> {
        let Caches { children, strimzi, .. } = &self.caches;
        Applier::new(&self.client, &self.metrics, children, strimzi, &self.overrides, id, uid)
    }

    /// Forgets a pipeline that is gone.
    pub(super) fn forget(&self, id: &PipelineId) {
        self.waiting.take(id);
        self.metrics.forget(id);
        self.back_off.forget(id);
        self.overrides.forget(id);
        self.rollouts.forget(id);
        self.connection_uses.forget(id);
        self.replica_sets.forget(id);
        self.workers.forget(id);
        self.scalers.forget(id);
        self.status.cache().forget(id);
    }
}
