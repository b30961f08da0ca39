//! What was measured, against the targets.

use std::{collections::BTreeMap, time::Duration};

/// Bytes per pipeline, in addition to an operator without pipelines.
const TARGET_MEMORY: u64 = 40 * 1024;
const TARGET_P99: Duration = Duration::from_secs(1);
/// Hundredths.
const TARGET_REQUESTS: u64 = 200;

/// A line of the report.
pub struct Line {
    name: &'static str,
    measured: String,
    target: String,
    pub ok: bool,
}

impl Line {
    pub fn print(&self) {
        let word = if self.ok { "ok" } else { "short" };
        println!("{}: {} (target {}) {word}", self.name, self.measured, self.target);
    }

    fn without_target(name: &'static str, measured: String) -> Self {
        Self {
            name,
            measured,
            target: "none".to_owned(),
            ok: true,
        }
    }
}

/// Memory is in bytes.
pub struct Measurements {
    pub pipelines: u64,
    pub is_seeded: bool,
    pub base: u64,
    pub converged: Converged,
    pub restarted: Restarted,
    /// Sorted.
    pub edits: Vec<Duration>,
}

pub struct Converged {
    pub after: Duration,
    pub memory: u64,
    /// CPU time.
    pub cpu: Duration,
    pub requests: u64,
    pub reconciles: u64,
}

pub struct Restarted {
    pub memory: u64,
    /// CPU time until the operator was idle.
    pub cpu: Duration,
    pub writes: BTreeMap<String, usize>,
    /// An upper bound of the 99th percentile, in seconds.
    pub p99: f64,
}

impl Measurements {
    pub fn lines(&self) -> Vec<Line> {
        let Self { converged, restarted, .. } = self;
        let how = if self.is_seeded { "seeded" } else { "two Jobs each" };
        let mut lines = vec![
            self.memory("memory per pipeline after converging", converged.memory),
            self.memory("memory per pipeline after a restart", restarted.memory),
            Line::without_target(
                "time to converge",
                format!(
                    "{:.0?} for {} ({how}), {:.1?} of CPU time",
                    converged.after, self.pipelines, converged.cpu
                ),
            ),
            self.writes(),
            Line::without_target("CPU time of a cold restart", format!("{:.2?}", restarted.cpu)),
            Line {
                name: "a reconcile on a cold restart",
                measured: format!("p99 at most {} s", restarted.p99),
                target: format!("p99 {TARGET_P99:?}"),
                ok: restarted.p99 < TARGET_P99.as_secs_f64(),
            },
            self.edits(),
        ];
        if !self.is_seeded {
            lines.push(self.requests());
        }
        lines
    }

    fn memory(&self, name: &'static str, bytes: u64) -> Line {
        Line {
            name,
            measured: format!(
                "{} bytes ({} MiB beside {} MiB)",
                bytes / self.pipelines,
                bytes >> 20,
                self.base >> 20
            ),
            target: format!("{TARGET_MEMORY} bytes"),
            ok: bytes / self.pipelines <= TARGET_MEMORY,
        }
    }

    fn writes(&self) -> Line {
        let writes = &self.restarted.writes;
        let count: usize = writes.values().sum();
        Line {
            name: "writes on a cold restart",
            measured: format!("{count} {writes:?}"),
            target: "0, apart from the Lease".to_owned(),
            ok: count == 0,
        }
    }

    fn edits(&self) -> Line {
        let edits = &self.edits;
        let at = |hundredth: usize| edits[(edits.len() * hundredth / 100).min(edits.len() - 1)];
        Line {
            name: "from an edit to the children applied",
            measured: format!("p50 {:.0?}, p99 {:.0?} over {} edits", at(50), at(99), edits.len()),
            target: format!("p99 {TARGET_P99:?}"),
            ok: at(99) < TARGET_P99,
        }
    }

    fn requests(&self) -> Line {
        let (requests, reconciles) = (self.converged.requests, self.converged.reconciles);
        let hundredths = requests * 100 / reconciles;
        Line {
            name: "requests per reconcile while converging",
            measured: format!("{}.{:02} ({requests} for {reconciles})", hundredths / 100, hundredths % 100),
            target: format!("{}.{:02}", TARGET_REQUESTS / 100, TARGET_REQUESTS % 100),
            ok: hundredths < TARGET_REQUESTS,
        }
    }
}
