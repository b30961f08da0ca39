//! The metrics of each pipeline.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};
use userpipeline_api::{names::PipelineId, report::StoredTotals};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PipelineLabels {
    namespace: String,
    pipeline: String,
}

impl From<&PipelineId> for PipelineLabels {
    fn from(id: &PipelineId) -> Self {
        Self {
            namespace: id.namespace.clone(),
            pipeline: id.name.clone(),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InfoLabels {
    namespace: String,
    pipeline: String,
    owner: String,
}

/// The measured values of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct PipelineSample {
    /// `spec.owner`.
    pub owner: String,
    pub ready: bool,
    /// `DataFresh` is False.
    pub stale: bool,
    /// Whether the last run succeeded, and when it ended, in seconds since 1970.
    pub last_run: Option<(bool, f64)>,
    /// Due intervals that have not been run.
    pub backlog: i32,
    /// Records on the topic that are not stored; `None` while unknown.
    pub lag: Option<i64>,
    /// Record versions ever landed.
    pub fetched: i64,
    /// Other totals; `None` while no worker reports them.
    pub totals: Option<StoredTotals>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RejectLabels {
    namespace: String,
    pipeline: String,
    field: String,
    class: String,
}

type Totals = Family<PipelineLabels, Counter>;

type PerPipeline = Family<PipelineLabels, Gauge>;

#[derive(Clone, Default)]
pub(super) struct Pipelines {
    owners: Arc<Mutex<HashMap<PipelineId, InfoLabels>>>,
    unreadable: PerPipeline,
    info: Family<InfoLabels, Gauge>,
    ready: PerPipeline,
    stale: PerPipeline,
    backlog: PerPipeline,
    lag: PerPipeline,
    last_run_succeeded: PerPipeline,
    last_run_finished: Family<PipelineLabels, Gauge<f64, AtomicU64>>,
    items: Totals,
    bytes: Totals,
    fetched: Totals,
    published: Totals,
    stored: Totals,
    dead_lettered: Totals,
    filtered: Totals,
    rejected: Family<RejectLabels, Counter>,
    /// The labels of each pipeline's series of rejects.
    reject_labels: Arc<Mutex<HashMap<PipelineId, Vec<RejectLabels>>>>,
}

/// Sets a total that is counted elsewhere; a counter never decreases.
fn advance(counter: &Counter, total: i64) {
    counter.inner().fetch_max(u64::try_from(total).unwrap_or(0), Ordering::Relaxed);
}

impl Pipelines {
    pub fn new(registry: &mut Registry) -> Self {
        fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: &M) {
            registry.register(name, help, metric.clone());
        }
        let new = Self::default();
        add(
            registry,
            "pipeline_unreadable",
            "Pipelines that this operator cannot read",
            &new.unreadable,
        );
        add(registry, "pipeline_ready", "Whether the pipeline is Ready", &new.ready);
        let info = "The owner of the pipeline, to join with its other series";
        add(registry, "pipeline_info", info, &new.info);
        let stale = "Whether the data is older than the schedule promises, or not stored in every sink";
        add(registry, "pipeline_data_stale", stale, &new.stale);
        let backlog = "Complete data intervals that have not been run yet, 1000 at most";
        add(registry, "pipeline_backlog_intervals", backlog, &new.backlog);
        let lag = "Records on the topic that are not stored in every sink; absent while unknown";
        add(registry, "pipeline_lag_records", lag, &new.lag);
        let succeeded = "Whether the last run succeeded";
        add(registry, "last_run_succeeded", succeeded, &new.last_run_succeeded);
        add(
            registry,
            "last_run_finished_timestamp_seconds",
            "When the last run ended",
            &new.last_run_finished,
        );
        add(registry, "pipeline_items", "Items that the source returned", &new.items);
        add(
            registry,
            "pipeline_items_bytes",
            "Bytes of the items that the source returned",
            &new.bytes,
        );
        add(registry, "pipeline_fetched_records", "Record versions landed", &new.fetched);
        add(registry, "pipeline_published_records", "Record versions published", &new.published);
        let stored = "Topic offsets acknowledged by every sink, counted once";
        add(registry, "pipeline_stored_records", stored, &new.stored);
        add(
            registry,
            "pipeline_dead_letters",
            "Messages sent to the dead-letter topic",
            &new.dead_lettered,
        );
        let filtered = "Record versions landed, or messages stored with source.topic, that do not pass spec.record.where";
        add(registry, "pipeline_filtered_records", filtered, &new.filtered);
        let rejected = "Rejected items by field (empty where the whole item is rejected) and class";
        add(registry, "pipeline_rejected_items", rejected, &new.rejected);
        new
    }

    pub fn set(&self, id: &PipelineId, sample: &PipelineSample) {
        let labels = PipelineLabels::from(id);
        self.unreadable.remove(&labels);
        self.ready.get_or_create(&labels).set(i64::from(sample.ready));
        self.stale.get_or_create(&labels).set(i64::from(sample.stale));
        self.backlog.get_or_create(&labels).set(i64::from(sample.backlog));
        match sample.lag {
            Some(lag) => {
                self.lag.get_or_create(&labels).set(lag);
            }
            // An autoscaler must not use an outdated value.
            None => {
                self.lag.remove(&labels);
            }
        }
        if let Some((succeeded, finished)) = sample.last_run {
            self.last_run_succeeded.get_or_create(&labels).set(i64::from(succeeded));
            self.last_run_finished.get_or_create(&labels).set(finished);
        }
        self.count(id, &labels, sample);
        let owner = InfoLabels {
            namespace: labels.namespace,
            pipeline: labels.pipeline,
            owner: sample.owner.clone(),
        };
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = owners.insert(id.clone(), owner.clone())
            && before != owner
        {
            self.info.remove(&before);
        }
        self.info.get_or_create(&owner).set(1);
    }

    fn count(&self, id: &PipelineId, labels: &PipelineLabels, sample: &PipelineSample) {
        advance(&self.fetched.get_or_create(labels), sample.fetched);
        let Some(totals) = &sample.totals else { return };
        for (counters, total) in [
            (&self.items, totals.items),
            (&self.bytes, totals.bytes),
            (&self.published, totals.published),
            (&self.stored, totals.stored),
            (&self.dead_lettered, totals.dead_lettered),
            (&self.filtered, totals.filtered),
        ] {
            advance(&counters.get_or_create(labels), total);
        }
        let mut shown = Vec::new();
        for total in &totals.rejects {
            let labels = RejectLabels {
                namespace: labels.namespace.clone(),
                pipeline: labels.pipeline.clone(),
                field: total.field.clone(),
                class: total.class.clone(),
            };
            advance(&self.rejected.get_or_create(&labels), total.items);
            shown.push(labels);
        }
        self.reject_labels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), shown);
    }

    pub fn unreadable(&self, id: &PipelineId) {
        let labels = PipelineLabels::from(id);
        self.ready.get_or_create(&labels).set(0);
        self.unreadable.get_or_create(&labels).set(1);
    }

    pub fn forget(&self, id: &PipelineId) {
        let labels = PipelineLabels::from(id);
        for gauge in [
            &self.unreadable,
            &self.ready,
            &self.stale,
            &self.backlog,
            &self.lag,
            &self.last_run_succeeded,
        ] {
            gauge.remove(&labels);
        }
        self.last_run_finished.remove(&labels);
        for counters in [
            &self.items,
            &self.bytes,
            &self.fetched,
            &self.published,
            &self.stored,
            &self.dead_lettered,
            &self.filtered,
        ] {
            counters.remove(&labels);
        }
        let shown = self.reject_labels.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        for labels in shown.unwrap_or_default() {
            self.rejected.remove(&labels);
        }
        if let Some(owner) = self.owners.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            self.info.remove(&owner);
        }
    }
}
