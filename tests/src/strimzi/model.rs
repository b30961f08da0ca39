//! Strimzi's own Java model of its resources, which tells whether a manifest has only properties and values that Strimzi knows.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The folder of the program that reads with the model.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contract")
}

/// Reads files of one or more YAML documents: `Kafka`, `KafkaTopic`, `KafkaUser`. Fails with all problems. The first call on a machine fetches
/// the model; each costs the start of a JVM, so many files are better read at once.
pub fn read_strictly(files: &[PathBuf]) -> Result<()> {
    let read = Command::new(folder().join("read-strictly.sh")).args(files).output();
    let output = read.context("tests/contract/read-strictly.sh")?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}
