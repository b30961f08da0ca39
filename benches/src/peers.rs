//! Programs of others that do the same work.

use std::{env, path::PathBuf};

use anyhow::{Result, ensure};

/// The Python environment that `benches/peers/install.sh` makes.
pub fn python() -> Result<PathBuf> {
    let home = || env::var("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|_| home())?;
    let python = cache.join("userpipeline/peers/venv/bin/python");
    ensure!(python.exists(), "{} is missing: run benches/peers/install.sh", python.display());
    Ok(python)
}
