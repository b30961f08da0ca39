//! What `/metrics` shows.

use std::{
    collections::BTreeSet,
    sync::{Mutex, atomic::AtomicU64},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};
use userpipeline_stores::wire::Wire;

use crate::status::Status;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Sink {
    sink: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Store {
    store: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rows {
    what: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Connection {
    wire: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Partition {
    partition: i32,
}

const FILTERED: &str = "Messages stored, with source.topic, whose record does not pass spec.record.where";

pub struct Metrics {
    registry: Registry,
    pub records: Counter,
    /// Keys, values and headers.
    pub bytes: Counter,
    /// Offsets that every sink acknowledged, counted once.
    pub stored: Counter,
    /// Of these, those whose record does not pass `spec.record.where`. Runs decide that before the topic.
    pub filtered: Counter,
    pub batches: Counter,
    pub batch_records: Histogram,
    pub in_flight: Gauge,
    ready: Gauge,
    dead_letters: Family<Class, Counter>,
    sinks: SinkMetrics,
    commit_age: Gauge<f64, AtomicU64>,
    retries: Family<Store, Counter>,
    expired: Family<Rows, Counter>,
    mirrored: Counter,
    not_after: Family<Connection, Gauge>,
    lag: Family<Partition, Gauge>,
    started: Instant,
    shown: Mutex<BTreeSet<i32>>,
}

/// The metrics by sink.
struct SinkMetrics {
    seconds: Family<Sink, Histogram>,
    records: Family<Sink, Counter>,
    bytes: Family<Sink, Counter>,
    latency: Family<Sink, Histogram>,
}

impl SinkMetrics {
    fn register(registry: &mut Registry) -> Self {
        let seconds = Family::<Sink, Histogram>::new_with_constructor(|| {
            Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
        });
        registry.register("sink_seconds", "How long a sink took for a batch", seconds.clone());
        let records = register(
            registry,
            "sink_records",
            "Records sent to a sink and acknowledged, the newest version of each in a batch",
        );
        let bytes = register(registry, "sink_bytes", "About how many bytes these records have");
        let latency = Family::<Sink, Histogram>::new_with_constructor(|| {
            Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0])
        });
        registry.register(
            "latency_seconds",
            "From when a record was fetched to when a sink has acknowledged it",
            latency.clone(),
        );
        Self {
            seconds,
            records,
            bytes,
            latency,
        }
    }
}

/// Registers a metric at zero.
fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("userpipeline_worker");
        let r = &mut registry;
        // In the order of the text.
        let records = register(r, "records", "Messages delivered by the brokers");
        let bytes = register(
            r,
            "received_bytes",
            "Bytes of the messages delivered by the brokers: keys, values and headers",
        );
        let stored = register(r, "stored", "Topic offsets acknowledged by every sink, counted once");
        let filtered = register(r, "filtered", FILTERED);
        let dead_letters = register(
            r,
            "dead_letters",
            "Messages sent to the dead-letter topic, by what is wrong with them",
        );
        let batches = register(r, "batches", "Batches written");
        let batch_records = Histogram::new([1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0]);
        r.register("batch_records", "Messages in a batch", batch_records.clone());
        let sinks = SinkMetrics::register(r);
        let commit_age = register(
            r,
            "commit_age_seconds",
            "How long ago offsets were committed last, or since when the worker waits for its first commit",
        );
        let retries: Family<Store, Counter> = register(r, "retries", "Attempts that failed and were made again, by the store that failed");
        let expired = register(
            r,
            "expired_rows",
            "Rows deleted because they were kept long enough, by what they were",
        );
        let mirrored = register(r, "mirror_writes", "Changed totals of aggregates written to Cassandra");
        let not_after = register(
            r,
            "certificate_not_after_seconds",
            "When the first of a connection's client and authority certificates expires, in seconds since 1970",
        );
        let lag = register(r, "lag_records", "Messages of an owned partition that are not stored");
        let in_flight = register(r, "in_flight", "Messages that are being written");
        let ready = register(r, "ready", "Whether the worker consumes and stores");
        Self {
            registry,
            records,
            bytes,
            stored,
            filtered,
            batches,
            batch_records,
            in_flight,
            ready,
            dead_letters,
            sinks,
            commit_age,
            started: Instant::now(),
            retries,
            expired,
            mirrored,
            not_after,
            lag,
            shown: Mutex::default(),
        }
    }

    pub fn dead_letter(&self, class: &'static str) {
        self.dead_letters.get_or_create(&Class { class }).inc();
    }

    /// A sink has written a batch.
    pub fn sink_took(&self, sink: &'static str, took: Duration) {
        self.sinks.seconds.get_or_create(&Sink { sink }).observe(took.as_secs_f64());
    }

    /// A sink has acknowledged records of a batch.
    pub fn sink_has(&self, sink: &'static str, records: usize, bytes: usize) {
        self.sinks.records.get_or_create(&Sink { sink }).inc_by(records as u64);
        self.sinks.bytes.get_or_create(&Sink { sink }).inc_by(bytes as u64);
    }

    /// A record took so many milliseconds from its source to a sink; clocks may differ.
    pub fn latency(&self, sink: &'static str, millis: i64) {
        let millis = u64::try_from(millis).unwrap_or(0);
        let seconds = Duration::from_millis(millis).as_secs_f64();
        self.sinks.latency.get_or_create(&Sink { sink }).observe(seconds);
    }

    /// Shows the retries of a store at zero: a series that an alert uses exists from the start.
    pub fn expect_retries(&self, store: &'static str) {
        drop(self.retries.get_or_create(&Store { store }));
    }

    /// An attempt failed for a store, and is made again.
    pub fn retry(&self, store: &'static str) {
        self.retries.get_or_create(&Store { store }).inc();
    }

    /// Rows were deleted because they were kept long enough.
    pub fn expired(&self, what: &'static str, rows: u64) {
        self.expired.get_or_create(&Rows { what }).inc_by(rows);
    }

    /// Totals of aggregates were written to Cassandra.
    pub fn mirrored(&self, totals: usize) {
        self.mirrored.inc_by(totals as u64);
    }

    /// Takes up the certificates as they are mounted now. A connection without certificates has no series.
    pub fn certificates(&self, wires: &[Wire]) {
        for wire in wires {
            let series = Connection { wire: wire.name() };
            match wire.read().ok().and_then(|material| material.not_after()) {
                Some(seconds) => {
                    self.not_after.get_or_create(&series).set(seconds);
                }
                None => {
                    self.not_after.remove(&series);
                }
            }
        }
    }

    /// The text that Prometheus reads.
    pub fn render(&self, status: &Status) -> String {
        let report = status.report(Instant::now());
        self.ready.set(i64::from(report.ready));
        let age = report.last_commit_at.map(|at| Timestamp::now().duration_since(at).as_secs_f64());
        self.commit_age.set(age.unwrap_or_else(|| self.started.elapsed().as_secs_f64()));
        let lags = status.lags();
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for partition in std::mem::take(&mut *shown) {
            if !lags.iter().any(|(p, lag)| *p == partition && lag.is_some()) {
                self.lag.remove(&Partition { partition });
            }
        }
        for (partition, lag) in lags {
            if let Some(lag) = lag {
                self.lag.get_or_create(&Partition { partition }).set(lag);
                shown.insert(partition);
            }
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_lag_of_a_revoked_partition_is_not_shown() {
        let (metrics, status) = (Metrics::new(), Status::default());
        status.consuming(true);
        status.assigned(3, 10);
        status.ends(
            &BTreeMap::from([(3, 15)]),
            k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
            std::time::Instant::now(),
        );
        assert!(
            metrics
                .render(&status)
                .contains("userpipeline_worker_lag_records{partition=\"3\"} 5")
        );
        status.revoked(3);
        assert!(!metrics.render(&status).contains("partition=\"3\""));
    }

    #[test]
    fn series_have_the_names_that_alerts_use() {
        let (metrics, status) = (Metrics::new(), Status::default());
        metrics.expect_retries("kafka");
        metrics.dead_letter("DecodeFailed");
        metrics.retry("cassandra");
        metrics.sink_took("cassandra", Duration::from_millis(3));
        metrics.sink_has("postgres", 7, 100);
        metrics.latency("postgres", 700);
        metrics.latency("postgres", -5);
        metrics.expired("runs", 2);
        let text = metrics.render(&status);
        for name in [
            "records_total",
            "stored_total",
            "filtered_total",
            "dead_letters_total{class=\"DecodeFailed\"} 1",
            "batches_total",
            "batch_records_count",
            "retries_total{store=\"cassandra\"} 1",
            "retries_total{store=\"kafka\"} 0",
            "in_flight",
            "sink_seconds_count{sink=\"cassandra\"} 1",
            "received_bytes_total 0",
            "sink_records_total{sink=\"postgres\"} 7",
            "sink_bytes_total{sink=\"postgres\"} 100",
            "latency_seconds_count{sink=\"postgres\"} 2",
            "commit_age_seconds",
            "expired_rows_total{what=\"runs\"} 2",
        ] {
            assert!(text.contains(&format!("userpipeline_worker_{name}")), "{name} in {text}");
        }
    }

    #[test]
    fn only_a_connection_with_certificates_shows_when_they_expire() {
        let secrets = userpipeline_stores::Secrets::in_dir("/nowhere");
        let metrics = Metrics::new();
        metrics.certificates(&[Wire::new("spec.kafka", &secrets)]);
        assert!(!metrics.render(&Status::default()).contains("certificate_not_after_seconds{"));
        assert_eq!(Wire::new("spec.schemaRegistry", &secrets).name(), "registry");
    }
}
