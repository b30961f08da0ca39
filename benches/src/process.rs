//! What a process uses, as the kernel counts it.

use std::{fs, path::Path};

/// Of the kernel's clock, which counts the CPU time of processes.
const TICKS_PER_SECOND: f64 = 100.0;
const MIB: f64 = 1024.0 * 1024.0;

/// The CPU time of a process since its start, in seconds. None once it has ended.
pub fn cpu_seconds(id: u32) -> Option<f64> {
    cpu_seconds_in(Path::new(&format!("/proc/{id}")))
}

/// Of a process or a thread, by its folder in `/proc`.
pub fn cpu_seconds_in(folder: &Path) -> Option<f64> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name, in parentheses, may have spaces. User and system time are the 14th and 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// The peak of the resident set, in MiB. None once the process has ended.
pub fn peak_mebibytes(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kibibytes * 1024.0 / MIB)
}
