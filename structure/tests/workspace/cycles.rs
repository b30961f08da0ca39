//! No two files of a crate import each other, directly or through others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use userpipeline_structure::{Cycle, knots};

use crate::CRATES;

/// Cycles that are still there: the files of each. Remove an entry with its cycle; add none.
const KNOWN: &[(&str, &[&str])] = &[];

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
