//! The termination report: JSON that Kubernetes takes from a file as the container's termination message.

use std::{fs::OpenOptions, io, io::Write, path::Path};

use serde::Serialize;
use userpipeline_api::report::TERMINATION_LOG;

/// The longest termination message that Kubernetes stores, in bytes.
const LIMIT: usize = 4096;

/// The report as JSON.
pub fn termination_report(report: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(report)?;
    debug_assert!(text.len() < LIMIT, "{} bytes", text.len());
    Ok(text)
}

/// Writes the report. The kubelet creates the default file; outside of a pod it does not exist, and is not created in /dev. Any
/// other file is created.
pub fn write_report(report: &impl Serialize, path: &Path) -> io::Result<()> {
    let by_kubelet = path == Path::new(TERMINATION_LOG);
    let mut file = match OpenOptions::new().write(true).truncate(true).create(!by_kubelet).open(path) {
        Err(e) if by_kubelet && e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    file.write_all(termination_report(report)?.as_bytes())
}

/// Writes the report. A failure is only logged: the exit code still has the outcome.
pub fn leave_report(report: &impl Serialize, path: &Path) {
    if let Err(error) = write_report(report, path) {
        tracing::warn!(path = %path.display(), %error, "cannot write the termination report");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_report_replaces_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("message");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        write_report(&[1, 2], &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[1,2]");
    }
}
