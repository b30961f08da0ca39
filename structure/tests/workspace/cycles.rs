//! No two files of a crate import each other, directly or through others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use userpipeline_structure::{Cycle, knots};

use crate::CRATES;

/// Cycles that are still there: the files of each. Remove an entry with its cycle; add none.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "ingest-job",
        &[
            "ingest-job/src/fetch/auth.rs",
            "ingest-job/src/fetch/body.rs",
            "ingest-job/src/fetch/request.rs",
            "ingest-job/src/fetch/waits.rs",
        ],
    ),
    (
        "stream-worker",
        &[
            "stream-worker/src/consume/assignment.rs",
            "stream-worker/src/consume/mod.rs",
            "stream-worker/src/consume/queues.rs",
            "stream-worker/src/consume/thread.rs",
        ],
    ),
    (
        "stream-worker",
        &["stream-worker/src/decode/foreign.rs", "stream-worker/src/decode/mod.rs"],
    ),
    (
        "stream-worker",
        &["stream-worker/src/write/account.rs", "stream-worker/src/write/mod.rs"],
    ),
    (
        "userpipeline-operator",
        &["operator/src/backfill/mod.rs", "operator/src/backfill/status.rs"],
    ),
    ("userpipeline-operator", &["operator/src/installed.rs", "operator/src/main.rs"]),
    (
        "userpipeline-operator",
        &[
            "operator/src/pipeline/apply/deletion.rs",
            "operator/src/pipeline/apply/mod.rs",
            "operator/src/pipeline/deletion/mod.rs",
            "operator/src/pipeline/deletion/status.rs",
            "operator/src/pipeline/mod.rs",
            "operator/src/pipeline/run.rs",
            "operator/src/pipeline/status/measure.rs",
            "operator/src/pipeline/status/mod.rs",
            "operator/src/pipeline/status/workers.rs",
            "operator/src/pipeline/unreadable.rs",
            "operator/src/pipeline/write.rs",
        ],
    ),
    (
        "userpipeline-operator",
        &[
            "operator/src/pipeline/build/config_map.rs",
            "operator/src/pipeline/build/cron_job.rs",
            "operator/src/pipeline/build/deletion_job.rs",
            "operator/src/pipeline/build/deployment.rs",
            "operator/src/pipeline/build/drain_job.rs",
            "operator/src/pipeline/build/ingest_job.rs",
            "operator/src/pipeline/build/mod.rs",
            "operator/src/pipeline/build/pod.rs",
            "operator/src/pipeline/build/schema_job.rs",
            "operator/src/pipeline/build/task.rs",
            "operator/src/pipeline/dereference.rs",
            "operator/src/pipeline/runs.rs",
            "operator/src/pipeline/schedule/history.rs",
            "operator/src/pipeline/schedule/mod.rs",
        ],
    ),
    (
        "userpipeline-operator",
        &[
            "operator/src/pipeline/build/labels.rs",
            "operator/src/pipeline/build/settings.rs",
            "operator/src/pipeline/validate/mod.rs",
        ],
    ),
    (
        "userpipeline-operator",
        &["operator/src/pipeline/plan/mod.rs", "operator/src/pipeline/plan/schema_job.rs"],
    ),
    (
        "userpipeline-record",
        &["record/src/avro/item.rs", "record/src/avro/writer_schema.rs", "record/src/avro.rs"],
    ),
    (
        "userpipeline-record",
        &["record/src/map.rs", "record/src/schema.rs", "record/src/value.rs"],
    ),
    (
        "userpipeline-record",
        &["record/src/postgres/column.rs", "record/src/postgres/mod.rs"],
    ),
];

#[test]
fn no_two_files_import_each_other_directly_or_through_others() {
    let known: BTreeSet<(&str, BTreeSet<PathBuf>)> = KNOWN
        .iter()
        .map(|(package, files)| (*package, files.iter().map(PathBuf::from).collect()))
        .collect();
    let mut found: BTreeMap<(&str, BTreeSet<PathBuf>), BTreeSet<Cycle>> = BTreeMap::new();
    for one in CRATES.iter() {
        for (files, cycles) in knots(&one.imports) {
            found.insert((one.package, files), cycles);
        }
    }

    let mut report = String::new();
    for ((package, files), cycles) in found.iter().filter(|(knot, _)| !known.contains(*knot)) {
        writeln!(report, "{package} has a new cycle among {:?}:", relative(files)).unwrap();
        for cycle in cycles {
            writeln!(report, "  {cycle}").unwrap();
        }
    }
    for (package, files) in known.iter().filter(|knot| !found.contains_key(*knot)) {
        writeln!(
            report,
            "{package} no longer has this cycle, remove it from KNOWN: {:?}",
            relative(files)
        )
        .unwrap();
    }
    assert!(report.is_empty(), "\n{report}");
}

fn relative(files: &BTreeSet<PathBuf>) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}
