//! What every reconcile uses.

use kube::Client;
use userpipeline_api::names::PipelineId;

use super::{
    caches::Caches, decide::ResourceIndex, model::Installation, observe::WorkerClient, reconcile_back_off::ReconcileBackOff,
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
    pub(super) workers: WorkerClient,
    pub(super) status: StatusWriter,
    pub(super) waiting: Waiting<PipelineId>,
    pub(super) back_off: ReconcileBackOff,
    pub(super) resources: ResourceIndex,
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
            workers: WorkerClient::new()?,
            status: StatusWriter::new(client.clone(), metrics.clone(), caches.pipelines.clone(), instance),
            waiting: Waiting::new(metrics.clone()),
            back_off: ReconcileBackOff::default(),
            resources: ResourceIndex::default(),
            client,
            caches,
            metrics,
            installation,
            ignore_rollout_order: false,
        })
    }

    /// Forgets a pipeline that is gone.
    pub(super) fn forget(&self, id: &PipelineId) {
        self.waiting.take(id);
        self.metrics.forget(id);
        self.back_off.forget(id);
        self.workers.forget(id);
        self.status.cache().forget(id);
    }
}
