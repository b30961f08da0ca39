//! What was measured, and the targets. They are ratios within one run, except for times that users wait for, and memory.

use std::collections::BTreeMap;

use userpipeline_benches::report::{Report, Target, median};

use super::{kind::Kind, latency::Latency, mirror::Delay, round::Round, spark};

/// Its name, what was measured, and the target.
type Line = (&'static str, Option<f64>, Target);

#[derive(Default)]
pub struct Measured {
    pub worker: BTreeMap<Kind, Vec<Round>>,
    pub peers: BTreeMap<Kind, Vec<spark::Measured>>,
    pub latency: Option<Latency>,
    pub mirror: Option<Delay>,
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b?)
}

impl Measured {
    fn worker(&self, kind: Kind, value: fn(&Round) -> f64) -> Option<f64> {
        Some(median(self.worker.get(&kind)?.iter().map(value)))
    }

    fn peer(&self, kind: Kind, value: fn(&spark::Measured) -> f64) -> Option<f64> {
        Some(median(self.peers.get(&kind)?.iter().map(value)))
    }

    fn rows(&self, kind: Kind) -> Option<f64> {
        self.worker(kind, |round| round.rows_per_second)
    }

    fn cpu(&self, kind: Kind) -> Option<f64> {
        self.worker(kind, |round| round.cpu_per_row)
    }

    /// Reports what was measured.
    pub fn report(&self, report: &mut Report) {
        let ratios = self.ratios().into_iter().chain(self.ratios_of_filters_and_aggregates());
        for (name, measured, target) in ratios.chain(self.limits()) {
            if let Some(measured) = measured {
                report.add(name, measured, target);
            }
        }
    }

    fn ratios(&self) -> Vec<Line> {
        let (rows, cpu) = (|kind| self.rows(kind), |kind| self.cpu(kind));
        let rows_of = |kind| self.peer(kind, |peer| peer.rows_per_second);
        let cpu_of = |kind| self.peer(kind, |peer| peer.cpu_per_row);
        let drivers = [rows_of(Kind::Driver), rows_of(Kind::DriverBatched)];
        let ceiling = drivers.into_iter().flatten().reduce(f64::max);
        vec![
            (
                "Cassandra only, rows/s against the driver alone",
                ratio(rows(Kind::Cassandra), ceiling),
                Target::AtLeast(0.9),
            ),
            (
                "Cassandra only, CPU per row against Spark",
                ratio(cpu(Kind::Cassandra), cpu_of(Kind::SparkCassandra)),
                Target::AtMost(0.25),
            ),
            (
                "both stores, rows/s against Spark's append",
                ratio(rows(Kind::Both), rows_of(Kind::SparkBoth)),
                Target::AtLeast(1.6),
            ),
            (
                "Avro against JSON, CPU per row",
                ratio(cpu(Kind::Avro), cpu(Kind::Cassandra)),
                Target::AtMost(0.7),
            ),
            (
                "external Avro against JSON, CPU per row",
                ratio(cpu(Kind::ExternalAvro), cpu(Kind::Cassandra)),
                Target::AtMost(0.7),
            ),
            (
                "TLS against plain text, rows/s",
                ratio(rows(Kind::Encrypted), rows(Kind::Both)),
                Target::AtLeast(0.8),
            ),
            (
                "four workers against one, CPU per row",
                ratio(cpu(Kind::FourWorkers), cpu(Kind::Both)),
                Target::AtMost(1.15),
            ),
        ]
    }

    fn ratios_of_filters_and_aggregates(&self) -> Vec<Line> {
        let (rows, cpu) = (|kind| self.rows(kind), |kind| self.cpu(kind));
        let cpu_of = |kind| self.peer(kind, |peer| peer.cpu_per_row);
        vec![
            (
                "a filter that all records pass against none, rows/s",
                ratio(rows(Kind::Filter), rows(Kind::Both)),
                Target::AtLeast(0.9),
            ),
            (
                "an aggregate of 4,096 groups against none, rows/s",
                ratio(rows(Kind::Aggregate), rows(Kind::Both)),
                Target::AtLeast(0.4),
            ),
            (
                "four workers against one with an aggregate, CPU per row",
                ratio(cpu(Kind::AggregateFourWorkers), cpu(Kind::Aggregate)),
                Target::AtMost(1.15),
            ),
            (
                "an aggregate against Spark's append, CPU per row",
                ratio(cpu(Kind::Aggregate), cpu_of(Kind::SparkBoth)),
                Target::AtMost(0.25),
            ),
        ]
    }

    fn limits(&self) -> Vec<Line> {
        #[allow(clippy::cast_precision_loss)] // a count
        let waits = |rounds: &Vec<Round>| rounds.iter().map(|round| round.lock_waits as f64).sum();
        let latency = self.latency.as_ref();
        let peaks = self.worker.values().flatten().map(|round| round.peak);
        vec![
            (
                "four workers, observed waits for locks in PostgreSQL",
                self.worker.get(&Kind::FourWorkers).map(waits),
                Target::AtMost(0.0),
            ),
            (
                "first row after the start, s",
                self.worker(Kind::Both, |round| round.first_row.as_secs_f64()),
                Target::AtMost(0.5),
            ),
            (
                "latency, p50, in COMMIT + insert",
                latency.map(|l| l.p50 / l.bare),
                Target::AtMost(3.0),
            ),
            (
                "latency, p99, in COMMIT + insert",
                latency.map(|l| l.p99 / l.bare),
                Target::AtMost(8.0),
            ),
            (
                "totals from PostgreSQL to Cassandra, p99, s",
                self.mirror.as_ref().map(|delay| delay.p99),
                Target::AtMost(2.0),
            ),
            ("peak memory, MiB", peaks.reduce(f64::max), Target::AtMost(64.0)),
        ]
    }
}
