//! The metrics: names of controller-runtime, and own ones with the prefix `userpipeline_operator_`.

mod pipelines;

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use userpipeline_api::names::PipelineId;

pub use self::pipelines::PipelineSample;
use self::pipelines::Pipelines;

/// The controller's name in the metrics.
const CONTROLLER: &str = "userpipeline";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NameLabels {
    name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    verb: &'static str,
}

/// The result of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as desired, or in progress.
    Success,
    /// The reconcile is repeated.
    Error,
}

#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<ResultLabels, Counter>,
    errors: Family<ControllerLabels, Counter>,
    seconds: Family<ControllerLabels, Histogram>,
    depth: Family<NameLabels, Gauge>,
    leader: Family<NameLabels, Gauge>,
    writes: Family<WriteLabels, Counter>,
    watch_errors: Counter,
    pipelines: Pipelines,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let reconciles = Family::<ResultLabels, Counter>::default();
        registry.register("controller_runtime_reconcile", "Reconciles by result", reconciles.clone());
        let errors = Family::<ControllerLabels, Counter>::default();
        registry.register("controller_runtime_reconcile_errors", "Reconciles that failed", errors.clone());
        let seconds = Family::<ControllerLabels, Histogram>::new_with_constructor(|| {
            Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
        });
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconcile took",
            seconds.clone(),
        );
        let depth = Family::<NameLabels, Gauge>::default();
        registry.register("workqueue_depth", "Pipelines that wait for a reconcile", depth.clone());
        let leader = Family::<NameLabels, Gauge>::default();
        registry.register("leader_election_master_status", "Whether this instance leads", leader.clone());

        let own = registry.sub_registry_with_prefix("userpipeline_operator");
        let writes = Family::<WriteLabels, Counter>::default();
        own.register("writes", "Requests that change something, by kind and verb", writes.clone());
        let watch_errors = Counter::default();
        own.register("watch_errors", "Watches that failed and were restarted", watch_errors.clone());
        let pipelines = Pipelines::new(own);

        // Series that alerts query exist from the start.
        for result in ["success", "error"] {
            let _ = reconciles.get_or_create(&ResultLabels {
                controller: CONTROLLER,
                result,
            });
        }
        let _ = errors.get_or_create(&ControllerLabels { controller: CONTROLLER });
        let _ = depth.get_or_create(&NameLabels { name: CONTROLLER });
        let _ = leader.get_or_create(&NameLabels { name: crate::MANAGER });
        Self {
            registry: Arc::new(registry),
            reconciles,
            errors,
            seconds,
            depth,
            leader,
            writes,
            watch_errors,
            pipelines,
        }
    }

    /// The text in the OpenMetrics format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    pub fn reconciled(&self, outcome: Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Success => "success",
            Outcome::Error => "error",
        };
        self.reconciles
            .get_or_create(&ResultLabels {
                controller: CONTROLLER,
                result,
            })
            .inc();
        if outcome == Outcome::Error {
            self.errors.get_or_create(&ControllerLabels { controller: CONTROLLER }).inc();
        }
        self.seconds
            .get_or_create(&ControllerLabels { controller: CONTROLLER })
            .observe(took.as_secs_f64());
    }

    pub fn leads(&self, leads: bool) {
        self.leader
            .get_or_create(&NameLabels { name: crate::MANAGER })
            .set(i64::from(leads));
    }

    /// Counts a write request.
    pub fn wrote(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, verb }).inc();
    }

    pub fn watch_broke(&self) {
        self.watch_errors.inc();
    }

    pub fn pipeline(&self, id: &PipelineId, sample: &PipelineSample) {
        self.pipelines.set(id, sample);
    }

    pub fn unreadable(&self, id: &PipelineId) {
        self.pipelines.unreadable(id);
    }

    /// Removes the series of a pipeline that is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.pipelines.forget(id);
    }
}

/// What waits for a reconcile: marked by an event, not started yet.
#[derive(Clone)]
pub struct Waiting<K> {
    keys: Arc<Mutex<HashSet<K>>>,
    metrics: Metrics,
}

impl<K: Hash + Eq> Waiting<K> {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            keys: Arc::default(),
            metrics,
        }
    }

    pub fn mark(&self, key: K) {
        self.change(|keys| {
            keys.insert(key);
        });
    }

    pub fn take(&self, key: &K) {
        self.change(|keys| {
            keys.remove(key);
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<K>)) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut keys);
        let depth = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        self.metrics.depth.get_or_create(&NameLabels { name: CONTROLLER }).set(depth);
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_api::report::{RejectTotal, StoredTotals};

    use super::*;

    #[test]
    fn metrics_have_the_names_of_controller_runtime() {
        let metrics = Metrics::new();
        metrics.reconciled(Outcome::Error, Duration::from_millis(7));
        metrics.wrote("Deployment", "patch");
        let text = metrics.render();
        for line in [
            r#"controller_runtime_reconcile_total{controller="userpipeline",result="error"} 1"#,
            r#"controller_runtime_reconcile_total{controller="userpipeline",result="success"} 0"#,
            r#"controller_runtime_reconcile_errors_total{controller="userpipeline"} 1"#,
            r#"controller_runtime_reconcile_time_seconds_count{controller="userpipeline"} 1"#,
            r#"workqueue_depth{name="userpipeline"} 0"#,
            r#"leader_election_master_status{name="userpipeline-operator"} 0"#,
            r#"userpipeline_operator_writes_total{kind="Deployment",verb="patch"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_pipeline_that_is_marked_twice_waits_once() {
        let metrics = Metrics::new();
        let waiting = Waiting::new(metrics.clone());
        waiting.mark("a");
        waiting.mark("a");
        assert!(metrics.render().contains(r#"workqueue_depth{name="userpipeline"} 1"#));
        waiting.take(&"a");
        assert!(metrics.render().contains(r#"workqueue_depth{name="userpipeline"} 0"#));
    }

    #[test]
    fn a_pipeline_that_is_gone_leaves_no_series_behind() {
        let metrics = Metrics::new();
        let id = PipelineId {
            namespace: "demo".into(),
            name: "users".into(),
        };
        let sample = |owner: &str| PipelineSample {
            owner: owner.into(),
            last_run: Some((true, 1.0)),
            ..PipelineSample::default()
        };
        let lag = r#"pipeline_lag_records{namespace="demo",pipeline="users"} 7"#;
        let known = PipelineSample {
            lag: Some(7),
            totals: Some(StoredTotals {
                bytes: 512,
                rejects: vec![RejectTotal {
                    field: "name".to_owned(),
                    class: "Missing".to_owned(),
                    items: 3,
                }],
                ..StoredTotals::default()
            }),
            ..sample("team-a")
        };
        metrics.pipeline(&id, &known);
        let text = metrics.render();
        for series in [
            lag,
            r#"pipeline_items_bytes_total{namespace="demo",pipeline="users"} 512"#,
            r#"pipeline_rejected_items_total{namespace="demo",pipeline="users",field="name",class="Missing"} 3"#,
        ] {
            assert!(text.contains(series), "{series} in {text}");
        }
        metrics.pipeline(&id, &sample("team-b"));
        let text = metrics.render();
        assert!(!text.contains(lag), "an unknown value has no series");
        assert!(text.contains("team-b") && !text.contains("team-a"), "{text}");
        metrics.forget(&id);
        assert!(!metrics.render().contains("demo"));
    }
}
