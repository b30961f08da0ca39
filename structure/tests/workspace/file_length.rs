//! A file that does not fit into one reading is two files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::WORKSPACE;

const MAX_LINES: usize = 400;

#[test]
fn no_rust_file_is_longer_than_400_lines() {
    let mut long = Vec::new();
    for package in &WORKSPACE.packages {
        for file in rust_files(package.folder()) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > MAX_LINES {
                long.push(format!("{}: {lines} lines", file.strip_prefix(&WORKSPACE.root).unwrap().display()));
            }
        }
    }
    assert!(long.is_empty(), "more than {MAX_LINES} lines:\n{}", long.join("\n"));
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
