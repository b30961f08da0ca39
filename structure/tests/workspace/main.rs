//! The rules for the structure of the workspace, as tests that read its source.

// Clippy does not take the functions around the tests for tests.
#![allow(clippy::unwrap_used)]

mod crates;
mod cycles;
mod file_length;
mod operator_layers;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use userpipeline_structure::{Imports, ModuleTree, Workspace};

static WORKSPACE: LazyLock<Workspace> = LazyLock::new(|| Workspace::read().unwrap());

/// A library or a program.
struct Crate {
    package: &'static str,
    root: PathBuf,
    imports: Imports,
}

/// Every crate of the workspace, with paths from its root.
static CRATES: LazyLock<Vec<Crate>> = LazyLock::new(|| {
    let read = |path: &Path| fs::read_to_string(WORKSPACE.root.join(path)).ok();
    let mut crates = Vec::new();
    for package in &WORKSPACE.packages {
        for root in package.roots() {
            let root = root.strip_prefix(&WORKSPACE.root).unwrap().to_owned();
            crates.push(Crate {
                package: &package.name,
                imports: ModuleTree::read(&root, &read).unwrap().imports(),
                root,
            });
        }
    }
    crates
});
