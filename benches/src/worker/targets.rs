//! What was measured, and the targets. They are ratios within one run, except for times that users wait for, and memory.

use std::collections::BTreeMap;

use userpipeline_benches::report::{Report, Target, median};

use super::{kind::Kind, latency::Latency, round::Round, spark};

#[derive(Default)]
pub struct Measured {
    pub worker: BTreeMap<Kind, Vec<Round>>,
    pub peers: BTreeMap<Kind, Vec<spark::Measured>>,
    pub latency: Option<Latency>,
}

impl Measured {
    fn worker(&self, kind: Kind, value: fn(&Round) -> f64) -> Option<f64> {
        Some(median(self.worker.get(&kind)?.iter().map(value)))
    }

    fn peer(&self, kind: Kind, value: fn(&spark::Measured) -> f64) -> Option<f64> {
        Some(median(self.peers.get(&kind)?.iter().map(value)))
    }

    /// Reports what was measured.
    pub fn report(&self, report: &mut Report) {
        let mut add = |name: &str, measured: Option<f64>, target: Target| {
            if let Some(measured) = measured {
                report.add(name, measured, target);
            }
        };
        let rows = |kind| self.worker(kind, |round| round.rows_per_second);
        let cpu = |kind| self.worker(kind, |round| round.cpu_per_row);
        let rows_of = |kind| self.peer(kind, |peer| peer.rows_per_second);
        let cpu_of = |kind| self.peer(kind, |peer| peer.cpu_per_row);
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
        let ceiling = [rows_of(Kind::Driver), rows_of(Kind::DriverBatched)]
            .into_iter()
            .flatten()
            .reduce(f64::max);

        add(
            "Cassandra only, rows/s against the driver alone",
            ratio(rows(Kind::Cassandra), ceiling),
            Target::AtLeast(0.9),
        );
        add(
            "Cassandra only, CPU per row against Spark",
            ratio(cpu(Kind::Cassandra), cpu_of(Kind::SparkCassandra)),
            Target::AtMost(0.25),
        );
        add(
            "both stores, rows/s against Spark's append",
            ratio(rows(Kind::Both), rows_of(Kind::SparkBoth)),
            Target::AtLeast(1.6),
        );
        add(
            "Avro against JSON, CPU per row",
            ratio(cpu(Kind::Avro), cpu(Kind::Cassandra)),
            Target::AtMost(0.7),
        );
        add(
            "external Avro against JSON, CPU per row",
            ratio(cpu(Kind::ExternalAvro), cpu(Kind::Cassandra)),
            Target::AtMost(0.7),
        );
        add(
            "TLS against plain text, rows/s",
            ratio(rows(Kind::Encrypted), rows(Kind::Both)),
            Target::AtLeast(0.8),
        );
        add(
            "four workers against one, CPU per row",
            ratio(cpu(Kind::FourWorkers), cpu(Kind::Both)),
            Target::AtMost(1.15),
        );
        #[allow(clippy::cast_precision_loss)] // a count
        let waits = self
            .worker
            .get(&Kind::FourWorkers)
            .map(|rounds| rounds.iter().map(|round| round.lock_waits as f64).sum());
        add("four workers, observed waits for locks in PostgreSQL", waits, Target::AtMost(0.0));
        let first = self.worker(Kind::Both, |round| round.first_row.as_secs_f64());
        add("first row after the start, s", first, Target::AtMost(0.5));
        let latency = self.latency.as_ref();
        add(
            "latency, p50, in COMMIT + insert",
            latency.map(|l| l.p50 / l.bare),
            Target::AtMost(3.0),
        );
        add(
            "latency, p99, in COMMIT + insert",
            latency.map(|l| l.p99 / l.bare),
            Target::AtMost(8.0),
        );
        let peak = self.worker.values().flatten().map(|round| round.peak).reduce(f64::max);
        add("peak memory, MiB", peak, Target::AtMost(64.0));
    }
}
